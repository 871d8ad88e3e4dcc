//! What the steps do inside the guest: put files there, remember what is done, handle units.
//!
//! Every command here starts a process in a guest that may be emulated, so there are few: all files of a step travel in one
//! archive, and one small file says whether the step is done.

use std::time::{Duration, Instant};

use sampan_driver::{Command, CommandError};
use sha2::{Digest, Sha256};

use super::Node;
use crate::error::{Error, Kind, Result};

/// A directory entry to be made in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// A regular file: path, permission bits, contents.
    File(&'static str, u32, String),
    /// A symbolic link: path, target.
    Link(String, String),
    /// A directory with its permission bits.
    Dir(&'static str, u32),
}

/// A step's own record in the guest: a file with the digest of what was done.
pub(super) struct Stamp<'a> {
    path: String,
    node: &'a Node<'a>,
}

impl<'a> Stamp<'a> {
    /// The record of the step `id`, in the usual place.
    pub(super) fn new(node: &'a Node<'a>, id: &str) -> Self {
        Self::at(node, format!("/var/lib/sampan/done/{id}"))
    }

    /// A record kept elsewhere: beside what it speaks of, so that both vanish together.
    pub(super) fn at(node: &'a Node<'a>, path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            node,
        }
    }

    /// What the record says; nothing when there is none.
    pub(super) fn read(&self) -> Result<Option<String>> {
        read(self.node, &self.path)
    }

    /// Whether the record says `digest`.
    pub(super) fn is(&self, digest: &str) -> Result<bool> {
        Ok(self.read()?.as_deref() == Some(digest))
    }

    /// Records `digest`. Only after everything it stands for.
    pub(super) fn write(&self, digest: &str) -> Result<()> {
        Ok(self
            .node
            .runner
            .write_file(&self.path, 0o644, format!("{digest}\n").as_bytes())?)
    }
}

/// What a file says; nothing when there is none.
pub(super) fn read(node: &Node<'_>, path: &str) -> Result<Option<String>> {
    match node.runner.run(&Command::new("cat").arg(path)) {
        Ok(output) => Ok(Some(output.text())),
        Err(error) if error.status().is_some() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The digest of entries: changes when any of them does.
pub(super) fn digest(entries: &[Entry]) -> String {
    let texts: Vec<String> = entries.iter().map(|entry| format!("{entry:?}")).collect();
    super::digest(texts.iter().map(String::as_bytes))
}

/// Puts all entries into the guest, in one go. What was there under the same names is replaced; nothing else is touched.
pub(super) fn install(node: &Node<'_>, entries: &[Entry]) -> Result<()> {
    let archive = archive(entries)
        .map_err(|source| Error::new(Kind::Internal, "cannot pack the files of the node").because(source))?;
    let unpack = Command::new("tar")
        .args([
            "--extract",
            "--file=-",
            "--directory=/",
            "--no-same-owner",
            "--keep-directory-symlink",
        ])
        .stdin(archive);
    run(node, &unpack)
}

/// As [`install`], but leaves files alone that are right already. Returns the paths of those that were not.
pub(super) fn update(node: &Node<'_>, entries: &[Entry]) -> Result<Vec<&'static str>> {
    let paths = entries.iter().filter_map(|entry| match entry {
        Entry::File(path, ..) => Some(*path),
        _ => None,
    });
    let sums = Command::new("sha256sum").args(paths);
    // A file that is missing makes its status 1; the others' sums are printed all the same.
    let there = match node.runner.run(&sums) {
        Ok(output) => output.text(),
        Err(error) if error.status().is_some() => error.output.text(),
        Err(error) => return Err(error.into()),
    };
    let right = |path: &str, contents: &str| {
        let line = format!("{}  {path}", sha256(contents.as_bytes()));
        there.lines().any(|there| there == line)
    };
    let mut changed = Vec::new();
    let mut wrong = Vec::new();
    for entry in entries {
        match entry {
            Entry::File(path, _, contents) if right(path, contents) => {}
            Entry::File(path, ..) => {
                changed.push(*path);
                wrong.push(entry.clone());
            }
            _ => wrong.push(entry.clone()),
        }
    }
    install(node, &wrong)?;
    Ok(changed)
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Entries as a tar archive that belongs to root and has no times: the same entries give the same bytes.
fn archive(entries: &[Entry]) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        match entry {
            Entry::File(path, mode, contents) => {
                header.set_mode(*mode);
                header.set_size(contents.len() as u64);
                archive.append_data(&mut header, path.trim_start_matches('/'), contents.as_bytes())?;
            }
            Entry::Link(path, target) => {
                header.set_mode(0o777);
                header.set_size(0);
                header.set_entry_type(tar::EntryType::Symlink);
                archive.append_link(&mut header, path.trim_start_matches('/'), target)?;
            }
            Entry::Dir(path, mode) => {
                header.set_mode(*mode);
                header.set_size(0);
                header.set_entry_type(tar::EntryType::Directory);
                archive.append_data(&mut header, path.trim_start_matches('/'), std::io::empty())?;
            }
        }
    }
    archive.into_inner()
}

/// Runs a command whose output is of no interest when it succeeds.
pub(super) fn run(node: &Node<'_>, command: &Command) -> Result<()> {
    node.cancel.check()?;
    Ok(node.runner.run(command).map(drop)?)
}

/// Whether all these units are active.
pub(super) fn active(node: &Node<'_>, units: &[&str]) -> Result<bool> {
    let ask = Command::new("systemctl")
        .args(["is-active", "--quiet"])
        .args(units.iter().copied());
    Ok(node.runner.succeeds(&ask)?)
}

/// `systemctl VERB…`, with the unit's own words when it fails.
pub(super) fn systemctl(node: &Node<'_>, args: &[&str], kind: Kind) -> Result<()> {
    let command = Command::new("systemctl")
        .args(args.iter().copied())
        .deadline(Duration::from_secs(180));
    node.cancel.check()?;
    node.runner.run(&command).map(drop).map_err(|error| {
        let unit = args.last().copied().unwrap_or_default();
        let words = super::last_words::journal(node, &[unit], 15);
        Error::new(kind, format!("{error}{words}")).hint("see `sampan logs` for more")
    })
}

/// Asks again and again, gently, until `probe` says yes.
///
/// # Errors
/// What `probe` fails with; [`Kind::Interrupted`]; after `deadline` the error that `late` makes.
pub(super) fn poll(
    node: &Node<'_>,
    deadline: Duration,
    mut probe: impl FnMut() -> Result<bool>,
    late: impl FnOnce() -> Error,
) -> Result<()> {
    let end = Instant::now() + deadline;
    loop {
        node.cancel.check()?;
        if probe()? {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(late());
        }
        std::thread::sleep(PAUSE);
    }
}

/// How long polls rest: the guest has better things to do than to answer them.
pub(super) const PAUSE: Duration = Duration::from_millis(700);

/// The error of a command under another kind.
pub(super) fn of_kind(kind: Kind) -> impl Fn(CommandError) -> Error {
    move |error| {
        let error = Error::from(error);
        if matches!(error.kind(), Kind::Storage | Kind::Interrupted) {
            error
        } else {
            error.with_kind(kind)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn an_archive_holds_files_links_and_directories_and_is_always_the_same() {
        let entries = [
            Entry::Dir("/etc/a", 0o700),
            Entry::File("/etc/a/b", 0o640, "text\n".into()),
            Entry::Link("/usr/local/bin/c".into(), "/opt/sampan/parts/bin/c".into()),
        ];
        let bytes = archive(&entries).unwrap();
        assert_eq!(bytes, archive(&entries).unwrap());
        let mut seen = Vec::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mode = entry.header().mode().unwrap();
            let link = entry.link_name().unwrap().map(|link| link.display().to_string());
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            seen.push((path, mode, link, text));
        }
        assert_eq!(seen[0].0, "etc/a");
        assert_eq!(seen[1], ("etc/a/b".into(), 0o640, None, "text\n".into()));
        assert_eq!(seen[2].2.as_deref(), Some("/opt/sampan/parts/bin/c"));
    }

    #[test]
    fn a_digest_changes_with_path_mode_and_contents() {
        let file = |path, mode, text: &str| digest(&[Entry::File(path, mode, text.into())]);
        let first = file("/a", 0o644, "x");
        assert_eq!(first, file("/a", 0o644, "x"));
        for other in [
            file("/b", 0o644, "x"),
            file("/a", 0o600, "x"),
            file("/a", 0o644, "y"),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn an_interruption_stays_one_whatever_was_being_done() {
        let failed = |cause| CommandError {
            command: "ctr images import".into(),
            place: "test".into(),
            failure: sampan_driver::Failure::Io(std::io::Error::from(cause)),
            output: sampan_driver::Output::default(),
        };
        let kind = |cause| of_kind(Kind::Runtime)(failed(cause)).kind();
        assert_eq!(kind(std::io::ErrorKind::Interrupted), Kind::Interrupted);
        assert_eq!(kind(std::io::ErrorKind::BrokenPipe), Kind::Runtime);
    }
}
