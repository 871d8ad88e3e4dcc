//! Reads bundle files and directories with a bundle in them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::receive::{Receiver, is_executable};
use super::stream::Stream;
use super::{MANIFEST, MANIFEST_MOST, WAY_OUT, check};
use crate::bundle::manifest::Manifest;
use crate::bundle::{Bundle, Found, find, lock, look, made, set_aside};
use crate::error::{Error, Kind, Result};
use crate::layout::{BundleLayout, Layout};
use crate::progress::{Cancel, Reporter};

/// Where a bundle file is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'a> {
    /// A file.
    File(&'a Path),
    /// Standard input.
    Input,
}

impl Input<'_> {
    fn name(self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Input => "standard input".to_owned(),
        }
    }

    fn open(self, cancel: &Cancel) -> Result<Stream> {
        let from: Box<dyn Read + Send> = match self {
            Self::File(path) => {
                if path.is_dir() {
                    return Err(Error::new(
                        Kind::HostPath,
                        format!("{} is a directory, and no bundle file", path.display()),
                    )
                    .hint("name the file; `sampan start --source DIR` takes a bundle from a directory"));
                }
                Box::new(File::open(path).map_err(Error::io(path))?)
            }
            Self::Input => Box::new(io::stdin()),
        };
        Stream::open(from, &self.name(), cancel)
    }
}

/// What came of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The bundle, which is here now.
    pub bundle: Bundle,
    /// It was here before.
    pub was_here: bool,
    /// What was here before has the same key and was made another time: its base disk is another one.
    pub differs: bool,
}

/// Takes a bundle from a file, unless it is here. Everything is checked before anything is used, and an import that fails leaves
/// nothing behind.
///
/// # Errors
/// [`Kind::Bundle`] for what is no bundle file, is damaged or cannot be used here, [`Kind::Storage`] when the disk is full,
/// [`Kind::Interrupted`], or the I/O error with the path.
pub fn import(
    layout: &Layout,
    from: Input<'_>,
    reporter: &dyn Reporter,
    cancel: &Cancel,
) -> Result<Imported> {
    let place = from.name();
    let mut stream = from.open(cancel)?;
    let (text, manifest) = manifest_of(&mut stream, &place)?;
    take(layout, &manifest, reporter, cancel, || {
        let mut receiver = Receiver::begin(layout, &manifest, &text, &place, reporter, cancel)?;
        receive(&mut stream, &mut receiver, &place)?;
        stream.finish(&place)?;
        receiver.finish()
    })
}

/// Takes a bundle from a directory that it is unpacked in, as [`import`].
///
/// # Errors
/// As [`import`].
pub(in crate::bundle) fn import_dir(
    layout: &Layout,
    dir: &Path,
    reporter: &dyn Reporter,
    cancel: &Cancel,
) -> Result<Imported> {
    let place = dir.display().to_string();
    let (text, manifest) = manifest_in(dir)?;
    take(layout, &manifest, reporter, cancel, || {
        let mut receiver = Receiver::begin(layout, &manifest, &text, &place, reporter, cancel)?;
        for name in manifest.files.keys() {
            let path = dir.join(name);
            let mut file = File::open(&path).map_err(Error::io(&path))?;
            let size = file.metadata().map_err(Error::io(&path))?.len();
            receiver.expects(name, size)?;
            receiver.take(name, is_executable(&path), &mut file, |error| match error {
                Some(error) => Error::io(&path)(error),
                None => Error::new(Kind::Bundle, format!("{place}: {name} became shorter")).hint(WAY_OUT),
            })?;
        }
        receiver.finish()
    })
}

/// What a bundle file, or a directory with an unpacked bundle, says of itself. Reads its beginning only.
///
/// # Errors
/// As [`import`].
pub(in crate::bundle) fn peek(path: &Path) -> Result<Manifest> {
    if path.is_dir() {
        return Ok(manifest_in(path)?.1);
    }
    let from = Input::File(path);
    let mut stream = from.open(&Cancel::default())?;
    Ok(manifest_of(&mut stream, &from.name())?.1)
}

fn manifest_in(dir: &Path) -> Result<(Vec<u8>, Manifest)> {
    let path = BundleLayout(dir.to_owned()).manifest();
    let text = fs::read(&path).map_err(Error::io(&path))?;
    let manifest = check(&text, &dir.display().to_string())?;
    Ok((text, manifest))
}

/// Does the work unless the bundle is here.
fn take(
    layout: &Layout,
    manifest: &Manifest,
    reporter: &dyn Reporter,
    cancel: &Cancel,
    work: impl FnOnce() -> Result<()>,
) -> Result<Imported> {
    let key = &manifest.key;
    let here = |bundle: Bundle| Imported {
        differs: bundle.manifest.files != manifest.files,
        bundle,
        was_here: true,
    };
    if let Some(bundle) = find(layout, key)? {
        return Ok(here(bundle));
    }
    let _lock = lock(layout, reporter, cancel)?;
    match look(layout, key)? {
        Found::Whole(bundle) => return Ok(here(*bundle)),
        Found::Damaged(damage) => set_aside(layout, key, &damage, reporter)?,
        Found::Nothing => {}
    }
    work()?;
    Ok(Imported {
        bundle: made(layout, key)?,
        was_here: false,
        differs: false,
    })
}

/// The first entry.
fn manifest_of(stream: &mut Stream, place: &str) -> Result<(Vec<u8>, Manifest)> {
    let mut archive = tar::Archive::new(&mut *stream);
    let mut text = Vec::new();
    let read = archive.entries().and_then(|entries| {
        let Some(entry) = entries.raw(true).next() else {
            return Ok(false);
        };
        let mut entry = entry?;
        if entry.path_bytes() != MANIFEST.as_bytes() || !entry.header().entry_type().is_file() {
            return Ok(false);
        }
        // Read to the end of its last block, where the next archive begins.
        let size = entry.size();
        if size > MANIFEST_MOST {
            return Ok(false);
        }
        entry.read_to_end(&mut text)?;
        Ok(text.len() as u64 == size)
    });
    match read {
        Ok(true) => {}
        Ok(false) => {
            return Err(Error::new(
                Kind::Bundle,
                format!("{place}: it is no bundle file: {MANIFEST} is not what it begins with"),
            )
            .hint("`sampan bundle export FILE` writes one"));
        }
        Err(_) => return Err(stream.explain(place, MANIFEST)),
    }
    skip_fill(stream, text.len() as u64).map_err(|_| stream.explain(place, MANIFEST))?;
    let manifest = check(&text, place)?;
    Ok((text, manifest))
}

/// Reads up to the next block of a tar archive.
fn skip_fill(stream: &mut Stream, size: u64) -> io::Result<()> {
    let fill = (512 - size % 512) % 512;
    let mut rest = [0; 512];
    stream.read_exact(&mut rest[..usize::try_from(fill).unwrap_or(0)])
}

/// All entries behind the first.
fn receive(stream: &mut Stream, receiver: &mut Receiver<'_>, place: &str) -> Result<()> {
    let mut at = String::new();
    let failed = std::cell::Cell::new(false);
    let result = receive_entries(stream, receiver, place, &mut at, &failed);
    if failed.get() {
        return Err(stream.explain(place, &at));
    }
    result
}

/// As [`receive`]; `failed` is set when the archive could not be read, and `at` is where.
fn receive_entries(
    stream: &mut Stream,
    receiver: &mut Receiver<'_>,
    place: &str,
    at: &mut String,
    failed: &std::cell::Cell<bool>,
) -> Result<()> {
    let unreadable = || {
        failed.set(true);
        Error::new(Kind::Bundle, format!("{place}: it cannot be read")).hint(WAY_OUT)
    };
    let mut archive = tar::Archive::new(stream);
    let entries = archive.entries().map_err(|_| unreadable())?;
    for entry in entries.raw(true) {
        let mut entry = entry.map_err(|_| unreadable())?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let kind = entry.header().entry_type();
        if !kind.is_file() {
            return Err(Error::new(
                Kind::Bundle,
                format!(
                    "{place}: {name:?} is {}, and a bundle has files only",
                    title(kind)
                ),
            )
            .hint(WAY_OUT));
        }
        receiver.expects(&name, entry.size())?;
        let executable = entry.header().mode().is_ok_and(|mode| mode & 0o111 != 0);
        at.clone_from(&name);
        receiver.take(&name, executable, &mut entry, |_| unreadable())?;
    }
    Ok(())
}

fn title(kind: tar::EntryType) -> &'static str {
    match kind {
        tar::EntryType::Symlink => "a symbolic link",
        tar::EntryType::Link => "a hard link",
        tar::EntryType::Directory => "a directory",
        tar::EntryType::Char | tar::EntryType::Block => "a device",
        tar::EntryType::Fifo => "a pipe",
        tar::EntryType::GNUSparse => "a file with holes",
        tar::EntryType::GNULongName | tar::EntryType::GNULongLink => "a long name",
        tar::EntryType::XHeader | tar::EntryType::XGlobalHeader => "an extended header",
        _ => "something else",
    }
}
