//! Copies of disk images that keep their holes.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::{Error, Result};

const BLOCK: usize = 64 * 1024;

/// Copies a file to a new one; blocks of zeros become holes. `on_progress` gets the number of bytes of each piece.
///
/// # Errors
/// The I/O error with the path it is about.
pub fn copy(from: &Path, to: &Path, on_progress: &mut dyn FnMut(u64)) -> Result<()> {
    let mut source = File::open(from).map_err(Error::io(from))?;
    let mut target = File::create_new(to).map_err(Error::io(to))?;
    let zeros = vec![0; BLOCK];
    let mut block = vec![0; BLOCK];
    let mut length = 0;
    loop {
        let count = fill(&mut source, &mut block).map_err(Error::io(from))?;
        if count == 0 {
            break;
        }
        length += count as u64;
        if block[..count] == zeros[..count] {
            target
                .seek(SeekFrom::Current(count as i64))
                .map_err(Error::io(to))?;
        } else {
            target.write_all(&block[..count]).map_err(Error::io(to))?;
        }
        on_progress(count as u64);
    }
    target.set_len(length).map_err(Error::io(to))
}

/// Reads until the block is full or the file ends.
fn fill(source: &mut File, block: &mut [u8]) -> std::io::Result<usize> {
    let mut count = 0;
    while count < block.len() {
        match source.read(&mut block[count..])? {
            0 => break,
            more => count += more,
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
