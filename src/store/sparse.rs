//! Copies of disk images that keep their holes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A block of zeros of this size becomes a hole.
pub const BLOCK: usize = 64 * 1024;

static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// A new file that is written from its beginning to its end; blocks of zeros become holes.
#[derive(Debug)]
pub struct Writer {
    file: File,
    path: PathBuf,
    length: u64,
}

impl Writer {
    /// Makes the file, which must not be there.
    ///
    /// # Errors
    /// The I/O error with the path.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self {
            file: File::create_new(path).map_err(Error::io(path))?,
            path: path.to_owned(),
            length: 0,
        })
    }

    /// Writes what comes next: a multiple of [`BLOCK`], but for the end. Returns how much of it went to the disk.
    ///
    /// # Errors
    /// The I/O error with the path.
    pub fn write(&mut self, bytes: &[u8]) -> Result<u64> {
        let mut written = 0;
        for block in bytes.chunks(BLOCK) {
            let result = if *block == ZEROS[..block.len()] {
                self.file.seek(SeekFrom::Current(block.len() as i64)).map(drop)
            } else {
                written += block.len() as u64;
                self.file.write_all(block)
            };
            result.map_err(Error::io(&self.path))?;
            self.length += block.len() as u64;
        }
        Ok(written)
    }

    /// The file as far as it is written.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its length, with a hole at its end if it has one.
    ///
    /// # Errors
    /// The I/O error with the path.
    pub fn finish(self) -> Result<File> {
        self.file.set_len(self.length).map_err(Error::io(&self.path))?;
        Ok(self.file)
    }
}

/// Copies a file to a new one; blocks of zeros become holes. `on_progress` gets the number of bytes of each piece.
///
/// # Errors
/// The I/O error with the path it is about.
pub fn copy(from: &Path, to: &Path, on_progress: &mut dyn FnMut(u64)) -> Result<()> {
    let mut source = File::open(from).map_err(Error::io(from))?;
    let mut target = Writer::create(to)?;
    let mut block = vec![0; BLOCK];
    loop {
        let count = fill(&mut source, &mut block).map_err(Error::io(from))?;
        if count == 0 {
            break;
        }
        target.write(&block[..count])?;
        on_progress(count as u64);
    }
    target.finish().map(drop)
}

/// Reads until the block is full or the source ends.
///
/// # Errors
/// The source's.
pub fn fill(source: &mut impl Read, block: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < block.len() {
        match source.read(&mut block[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}
#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn holes_stay_holes_and_bytes_stay_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let mut file = File::create(&from).unwrap();
        file.write_all(b"begin").unwrap();
        file.seek(SeekFrom::Start(8 << 20)).unwrap();
        file.write_all(b"middle").unwrap();
        file.set_len((16 << 20) + 7).unwrap();
        let mut seen = 0;
        copy(&from, &to, &mut |count| seen += count).unwrap();
        assert_eq!(seen, (16 << 20) + 7);
        assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap());
        assert!(fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20);
    }
}
