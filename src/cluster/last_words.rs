//! The guest's own last words, for errors: the end of the serial log.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The last lines of a file, without control characters; empty when it cannot be read.
pub(super) fn tail(path: &Path, lines: usize) -> Vec<String> {
    let text = end_of(path, 16 * 1024).unwrap_or_default();
    let clean: Vec<String> = String::from_utf8_lossy(&text)
        .lines()
        .map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>())
        .filter(|line| !line.trim().is_empty())
        .collect();
    clean[clean.len().saturating_sub(lines)..].to_vec()
}

fn end_of(path: &Path, bytes: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_lines_without_escapes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "one\n\n\u{1b}[0mtwo\r\nthree\n").unwrap();
        assert_eq!(tail(file.path(), 2), ["[0mtwo", "three"]);
        assert!(tail(Path::new("/nowhere"), 2).is_empty());
    }
}
