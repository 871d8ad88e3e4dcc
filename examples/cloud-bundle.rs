//! Makes a bundle whose base is a cloud image, out of this sampan's bundle: `cloud-bundle CACHE IMAGE NEWCACHE [DEB]…`.
//!
//! CACHE holds the bundle, IMAGE is a cloud image (qcow2 or raw), each DEB a package that it lacks. With `SAMPAN_CACHE=NEWCACHE`,
//! `sampan start` uses the new bundle: it has the same key. One that is there already stays.

#![expect(clippy::print_stderr, reason = "a program")]

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use sampan::bundle::{self, cloud};
use sampan::error::{Error, Kind, Result};
use sampan::layout::Layout;
use sampan::progress::{Cancel, Silent};

fn main() -> ExitCode {
    match run(std::env::args_os().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cloud-bundle: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Vec<OsString>) -> Result<()> {
    let paths: Vec<PathBuf> = args.into_iter().map(PathBuf::from).collect();
    let [from, image, to, debs @ ..] = paths.as_slice() else {
        return Err(Error::new(
            Kind::Usage,
            "usage: cloud-bundle CACHE IMAGE NEWCACHE [DEB]…",
        ));
    };
    let in_cache = |cache: &PathBuf| Layout {
        cache: cache.clone(),
        ..Layout::under(cache)
    };
    let (from, to) = (in_cache(from), in_cache(to));
    let key = bundle::current_key()?;
    if bundle::find(&to, &key)?.is_some() {
        return Ok(());
    }
    let other = bundle::find(&from, &key)?.ok_or_else(|| {
        Error::new(
            Kind::NotFound,
            format!("no bundle {key} in {}", from.bundles().display()),
        )
        .hint("make it: `sampan bundle build`")
    })?;
    let target = to.bundles().join(&key);
    cloud::like(&other, image, debs, &target, &Silent, &Cancel::default())
}
