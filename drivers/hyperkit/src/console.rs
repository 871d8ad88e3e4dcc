//! The guest's console as a text file. hyperkit keeps the last 64 KiB in a ring that it maps; where the ring's end is it
//! does not write down.

use std::fs;
use std::path::Path;

use crate::files;

/// Writes what is in the ring to the serial log; without a ring, the log stays as it is. Nobody's work depends on it.
pub(crate) fn unroll(dir: &Path) {
    let Ok(ring) = fs::read(dir.join(files::RING)) else {
        return;
    };
    let text = text(&ring);
    let log = dir.join(files::SERIAL_LOG);
    if fs::read(&log).is_ok_and(|old| old == text) {
        return;
    }
    if let Err(error) = files::write(&log, text) {
        tracing::debug!(%error, "the console's text was not kept");
    }
}

/// The part of a ring that was written to. A ring that is full is given as it lies: where it begins cannot be known.
fn text(ring: &[u8]) -> &[u8] {
    let end = ring
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    &ring[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_part_of_the_ring_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join(files::SERIAL_LOG);
        unroll(dir.path());
        assert!(!log.exists());
        let mut ring = b"Linux\nlogin: ".to_vec();
        ring.resize(65536, 0);
        fs::write(dir.path().join(files::RING), &ring).unwrap();
        unroll(dir.path());
        assert_eq!(fs::read(&log).unwrap(), b"Linux\nlogin: ");
        fs::write(dir.path().join(files::RING), [b'x'; 65536]).unwrap();
        unroll(dir.path());
        assert_eq!(fs::read(&log).unwrap().len(), 65536);
        assert!(text(&[0; 8]).is_empty());
    }
}
