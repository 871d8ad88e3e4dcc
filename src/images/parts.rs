//! What is sent to the node: pieces of memory and of files, read one after the other.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};

enum Part {
    Bytes(io::Cursor<Vec<u8>>),
    Range {
        file: Arc<File>,
        at: u64,
        left: u64,
    },
    /// Opened when its turn comes: there may be more files than a process may have open.
    Path {
        path: PathBuf,
        length: u64,
    },
}

/// A tar archive in pieces.
#[derive(Default)]
pub struct Parts {
    parts: VecDeque<Part>,
    length: u64,
}

impl Parts {
    /// How many bytes are left to read.
    pub fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn bytes(&mut self, bytes: Vec<u8>) {
        self.length += bytes.len() as u64;
        self.parts.push_back(Part::Bytes(io::Cursor::new(bytes)));
    }

    pub(super) fn range(&mut self, file: &Arc<File>, at: u64, length: u64) {
        self.length += length;
        let file = Arc::clone(file);
        self.parts.push_back(Part::Range {
            file,
            at,
            left: length,
        });
    }

    pub(super) fn path(&mut self, path: PathBuf, length: u64) {
        self.length += length;
        self.parts.push_back(Part::Path { path, length });
    }

    /// Header of an archive's entry; contents of `header.size()` bytes have to follow.
    ///
    /// # Errors
    /// When the name cannot be in an archive.
    pub(super) fn header(
        &mut self,
        header: &mut tar::Header,
        name: &Path,
        link: Option<&Path>,
    ) -> Result<()> {
        let mut builder = tar::Builder::new(Vec::new());
        let made = match link {
            Some(link) => builder.append_link(header, name, link),
            None => builder.append_data(header, name, io::empty()),
        };
        made.map_err(Error::io(name))?;
        // What closes an archive is not wanted yet, and is what `into_inner` adds.
        let mut bytes = builder.into_inner().map_err(Error::io(name))?;
        bytes.truncate(bytes.len().saturating_sub(1024));
        self.bytes(bytes);
        Ok(())
    }

    /// An entry with contents that are in memory.
    pub(super) fn entry(&mut self, name: &str, contents: Vec<u8>) -> Result<()> {
        let length = contents.len() as u64;
        self.header(&mut file_header(length), Path::new(name), None)?;
        self.bytes(contents);
        self.pad(length);
        Ok(())
    }

    /// An entry with contents that are in a file.
    pub(super) fn entry_of(&mut self, name: &str, file: &Arc<File>, at: u64, length: u64) -> Result<()> {
        self.header(&mut file_header(length), Path::new(name), None)?;
        self.range(file, at, length);
        self.pad(length);
        Ok(())
    }

    /// Fills the last block of an entry.
    pub(super) fn pad(&mut self, length: u64) {
        let missing = (512 - length % 512) % 512;
        if missing > 0 {
            self.bytes(vec![0; usize::try_from(missing).unwrap_or_default()]);
        }
    }

    /// Closes the archive.
    pub(super) fn close(&mut self) {
        self.bytes(vec![0; 1024]);
    }
}

pub(super) fn file_header(length: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(length);
    header
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(part) = self.parts.front_mut() {
            let count = match part {
                Part::Bytes(bytes) => bytes.read(buffer)?,
                Part::Range { file, at, left } => {
                    let most = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                    let count = file.read_at(&mut buffer[..most], *at)?;
                    if count == 0 && *left > 0 && most > 0 {
                        return Err(io::Error::other("a file became shorter while it was sent"));
                    }
                    *at += count as u64;
                    *left -= count as u64;
                    count
                }
                Part::Path { path, length } => {
                    let file = File::open(&*path).map_err(|error| {
                        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
                    })?;
                    let (file, left) = (Arc::new(file), *length);
                    *part = Part::Range { file, at: 0, left };
                    continue;
                }
            };
            if count > 0 || buffer.is_empty() {
                self.length = self.length.saturating_sub(count as u64);
                return Ok(count);
            }
            self.parts.pop_front();
        }
        Ok(0)
    }
}
