//! `supervisor.log`: a line for everything that was done, with the time. Its size is bounded; the oldest lines go first.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The largest the file gets.
const LIMIT: u64 = 256 << 10;

/// Opens the log to append to it.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

/// The log of this process.
#[derive(Debug)]
pub(super) struct Log {
    file: Option<File>,
    path: PathBuf,
    limit: u64,
}

impl Log {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            file: open(path).ok(),
            path: path.to_owned(),
            limit: LIMIT,
        }
    }

    /// Writes a line. Nobody is told when it cannot be written: there is nobody to tell, and publishing matters more.
    pub(super) fn line(&mut self, text: &str) {
        let now = OffsetDateTime::now_utc().replace_nanosecond(0);
        let time = now
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
            .format(&Rfc3339)
            .unwrap_or_default();
        tracing::info!(log = %self.path.display(), "{text}");
        if let Some(file) = &mut self.file {
            let _ = writeln!(file, "{time} {text}").and_then(|()| shorten(file, self.limit));
        }
    }
}

/// Keeps the newer half of a file that has become too large. In place: the process's own standard error goes there as well.
fn shorten(file: &mut File, limit: u64) -> io::Result<()> {
    let length = file.metadata()?.len();
    if length <= limit {
        return Ok(());
    }
    let mut kept = Vec::new();
    file.seek(SeekFrom::Start(length - limit / 2))?;
    file.read_to_end(&mut kept)?;
    let begin = kept.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    file.set_len(0)?;
    file.write_all(&kept[begin..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_bounded_and_keeps_what_is_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log {
            limit: 1000,
            ..Log::new(&path)
        };
        for number in 0..200 {
            log.line(&format!("line {number}"));
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.len() <= 1000 && text.ends_with(" line 199\n"), "{text}");
        assert!(
            text.lines()
                .all(|line| line.starts_with("20") && line.contains("Z line ")),
            "{text}"
        );
    }
}
