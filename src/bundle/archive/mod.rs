//! Bundle files: a bundle in one file, to be carried to a machine without a network.
//!
//! A bundle file is a tar archive packed by zstd, with a checksum. `bundle.toml` is its first entry, the files that it names follow;
//! all are regular files with relative names. Nothing in it depends on when and by whom it was written, so the same bundle always
//! gives the same file. What is read is believed in nothing: names, kinds, sizes and sums must be those of `bundle.toml`, which is
//! checked itself before the first byte is written.

mod export;
mod import;
mod receive;
mod stream;
#[cfg(test)]
mod tests;

pub use export::{Exported, Target, export};
pub use import::{Imported, Input, import};
pub(super) use import::{import_dir, peek};

use super::arch;
use super::manifest::{CONTRACT, FORMAT, Manifest};
use crate::error::{Error, Kind, Result};

/// How names of bundle files end.
pub const EXTENSION: &str = "sampan";

/// The first entry.
const MANIFEST: &str = "bundle.toml";

/// No manifest is larger.
const MANIFEST_MOST: u64 = 4 << 20;

/// What every bundle has; one of a cloud image may boot by its own boot loader.
const NEEDED: [&str; 3] = ["disk.raw", "parts.img", "bin/kubectl"];

/// What to do about a bundle file that is not as it should be.
const WAY_OUT: &str = "copy the file again, or write it anew with `sampan bundle export`";

/// Reads the manifest of a bundle that comes from elsewhere and checks that this sampan can use such a bundle here.
fn check(text: &[u8], place: &str) -> Result<Manifest> {
    let bad = |why: String| Error::new(Kind::Bundle, format!("{place}: {why}")).hint(WAY_OUT);
    let text = str::from_utf8(text).map_err(|_| bad(format!("{MANIFEST} is no text")))?;
    let manifest = Manifest::parse(text, &format!("{place}: {MANIFEST}"), WAY_OUT)?;
    if manifest.contract != CONTRACT {
        return Err(Error::new(
            Kind::Bundle,
            format!(
                "{place}: it was made for another sampan: it keeps contract {}, and this one knows {CONTRACT}",
                manifest.contract
            ),
        )
        .hint("export a bundle with the same version of sampan as here"));
    }
    if manifest.arch != arch() {
        return Err(Error::new(
            Kind::Bundle,
            format!(
                "{place}: it is a bundle for {}, and this host is {}",
                manifest.arch,
                arch()
            ),
        )
        .hint(format!("export one on a host that is {}", arch())));
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if manifest.key.is_empty()
        || manifest.key.len() > 64
        || manifest.key.starts_with('-')
        || !manifest.key.chars().all(plain)
    {
        return Err(bad(format!("{:?} is no key of a bundle", manifest.key)));
    }
    if let Some(name) = manifest.files.keys().find(|name| !stays_inside(name)) {
        return Err(bad(format!("{name:?} would be a file outside of the bundle")));
    }
    if let Some(name) = NEEDED.iter().find(|name| !manifest.files.contains_key(**name)) {
        return Err(bad(format!("it is a bundle without {name}")));
    }
    debug_assert_eq!(manifest.format, FORMAT);
    Ok(manifest)
}

/// Whether a name is that of a file below the bundle's directory, other than the manifest.
fn stays_inside(name: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    name != MANIFEST && name.len() <= 200 && !name.chars().any(char::is_control) && name.split('/').all(part)
}
