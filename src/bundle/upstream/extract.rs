//! Takes programs out of archives that strangers made: only those that are wanted, as plain files, and never more than an archive of
//! that size may hold. Nothing else of an archive reaches the disk.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::error::{Error, Kind, Result};
use crate::progress::Cancel;

/// What is unpacked may be this many times what the file may be.
const GROWTH: u64 = 8;

/// A file that is wanted: its path in the archive, and where it goes.
pub(super) type Wanted<'a> = (&'a str, PathBuf);

/// Takes files out of a gzipped tar archive. `name` is what people know it by, `most` the size in bytes that the archive itself may
/// have.
///
/// # Errors
/// [`Kind::Bundle`] for what is no such archive, lacks a file, has it as something else than a plain file, has paths that lead out of
/// it, or unpacks to too much; [`Kind::Interrupted`], or the I/O error with the path.
pub(super) fn extract(
    archive: &Path,
    name: &str,
    most: u64,
    wanted: &[Wanted<'_>],
    cancel: &Cancel,
) -> Result<()> {
    let wrong = |what: String| Error::new(Kind::Bundle, format!("{name}: {what}"));
    let unreadable = |error: io::Error| match error.downcast::<TooMuch>() {
        Ok(much) => wrong(much.to_string()),
        Err(error) => wrong("this is no gzipped tar archive, or a damaged one".to_owned()).because(error),
    };
    let file = File::open(archive).map_err(Error::io(archive))?;
    let limited = Limited {
        inner: MultiGzDecoder::new(io::BufReader::new(file)),
        left: most.saturating_mul(GROWTH),
        most: most.saturating_mul(GROWTH),
    };
    let mut tar = tar::Archive::new(limited);
    let mut left: Vec<&Wanted<'_>> = wanted.iter().collect();
    for entry in tar.entries().map_err(unreadable)? {
        cancel.check()?;
        let mut entry = entry.map_err(unreadable)?;
        let path = entry.path().map_err(unreadable)?.into_owned();
        let Some(path) = inside(&path) else {
            return Err(wrong(format!("{} leads out of the archive", path.display())));
        };
        let Some(at) = left.iter().position(|(wanted, _)| Path::new(wanted) == path) else {
            continue;
        };
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(wrong(format!("{} is no plain file in it", path.display())));
        }
        let (_, to) = left.swap_remove(at);
        copy(&mut entry, to, cancel).map_err(|error| match error {
            Trouble::Read(error) => unreadable(error),
            Trouble::Other(error) => error,
        })?;
        if left.is_empty() {
            return Ok(());
        }
    }
    let missing: Vec<&str> = left.iter().map(|(path, _)| *path).collect();
    Err(wrong(format!("there is no {} in it", missing.join(", "))))
}

/// A path without "." in it; none for one that leads elsewhere.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut inside = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => inside.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(inside)
}

enum Trouble {
    Read(io::Error),
    Other(Error),
}

fn copy(from: &mut impl Read, to: &Path, cancel: &Cancel) -> Result<(), Trouble> {
    let failed = |error| Trouble::Other(Error::io(to)(error));
    let mut options = File::options();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o755)
        .open(to)
        .map_err(failed)?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        cancel.check().map_err(Trouble::Other)?;
        let count = from.read(&mut buffer).map_err(Trouble::Read)?;
        if count == 0 {
            return Ok(());
        }
        io::Write::write_all(&mut file, &buffer[..count]).map_err(failed)?;
    }
}

/// Ends with an error where more comes than may.
struct Limited<R> {
    inner: R,
    left: u64,
    most: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("it unpacks to more than {} MiB", .0 >> 20)]
struct TooMuch(u64);

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| io::Error::other(TooMuch(self.most)))?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    type Builder = tar::Builder<GzEncoder<Vec<u8>>>;

    fn builder() -> Builder {
        tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()))
    }

    /// Puts a file under a name as it is, which the builder itself would refuse.
    fn add(tar: &mut Builder, name: &str, kind: tar::EntryType, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        if kind != tar::EntryType::Regular {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        tar.append(&header, content).unwrap();
    }

    fn unpack(bytes: &[u8], most: u64, wanted: &[&str]) -> Result<tempfile::TempDir> {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("a.tgz");
        fs::write(&archive, bytes).unwrap();
        let wanted: Vec<_> = wanted
            .iter()
            .map(|path| (*path, dir.path().join(path.rsplit('/').next().unwrap())))
            .collect();
        extract(&archive, "tool 1.0", most, &wanted, &Cancel::default())?;
        Ok(dir)
    }

    fn finish(tar: Builder) -> Vec<u8> {
        tar.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn only_what_is_wanted_is_taken_whatever_leads_to_it() {
        let mut tar = builder();
        add(&mut tar, "./", tar::EntryType::Directory, b"");
        add(&mut tar, "./bin/other", tar::EntryType::Regular, b"other");
        add(&mut tar, "./bin/link", tar::EntryType::Symlink, b"");
        add(&mut tar, "./bin/tool", tar::EntryType::Regular, b"tool");
        let dir = unpack(&finish(tar), 1 << 20, &["bin/tool"]).unwrap();
        let tool = dir.path().join("tool");
        assert_eq!(fs::read(&tool).unwrap(), b"tool");
        assert!(tool.metadata().unwrap().permissions().mode() & 0o100 != 0);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn archives_that_cheat_are_refused() {
        let refused = |name: &str, kind, wanted: &str| {
            let mut tar = builder();
            add(&mut tar, name, kind, b"");
            unpack(&finish(tar), 1 << 20, &[wanted]).unwrap_err().to_string()
        };
        let regular = tar::EntryType::Regular;
        for name in ["../tool", "/tool", "bin/../../tool"] {
            assert_eq!(
                refused(name, regular, "tool"),
                format!("tool 1.0: {name} leads out of the archive")
            );
        }
        for kind in [
            tar::EntryType::Symlink,
            tar::EntryType::Link,
            tar::EntryType::Char,
        ] {
            assert_eq!(
                refused("tool", kind, "tool"),
                "tool 1.0: tool is no plain file in it"
            );
        }
        assert_eq!(
            refused("bin/tool", regular, "bin/toll"),
            "tool 1.0: there is no bin/toll in it"
        );
    }

    #[test]
    fn an_archive_that_unpacks_to_far_more_is_not_unpacked() {
        let mut tar = builder();
        add(&mut tar, "zeros", tar::EntryType::Regular, &vec![0; 3 << 20]);
        add(&mut tar, "tool", tar::EntryType::Regular, b"tool");
        let bytes = finish(tar);
        assert!(bytes.len() < 1 << 18);
        let error = unpack(&bytes, 1 << 18, &["tool"]).unwrap_err();
        assert_eq!(error.to_string(), "tool 1.0: it unpacks to more than 2 MiB");
        let error = unpack(&bytes, 1 << 18, &["zeros"]).unwrap_err();
        assert_eq!(error.to_string(), "tool 1.0: it unpacks to more than 2 MiB");
        unpack(&bytes, 1 << 19, &["tool"]).unwrap();
    }

    #[test]
    fn what_is_no_archive_or_cut_short_is_told() {
        let mut tar = builder();
        add(
            &mut tar,
            "tool",
            tar::EntryType::Regular,
            &(0..u32::MAX)
                .step_by(99_991)
                .flat_map(u32::to_le_bytes)
                .collect::<Vec<_>>(),
        );
        let bytes = finish(tar);
        for bytes in [&b"<html>please log in</html>"[..], &bytes[..bytes.len() / 2]] {
            let error = unpack(bytes, 1 << 20, &["tool"]).unwrap_err();
            assert_eq!(error.kind(), Kind::Bundle);
            assert!(
                error
                    .to_string()
                    .starts_with("tool 1.0: this is no gzipped tar archive"),
                "{error}"
            );
        }
    }
}
