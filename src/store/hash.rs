//! sha256 of bytes, files and trees, and keys: the hash of all named inputs of a layer.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// sha256 of bytes, in hex.
pub fn bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// sha256 of a file, in hex. `on_progress` gets the number of bytes of each piece read.
///
/// # Errors
/// The I/O error with the path.
pub fn file(path: &Path, on_progress: &mut dyn FnMut(u64)) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = file.read(&mut buffer).map_err(Error::io(path))?;
        if count == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..count]);
        on_progress(count as u64);
    }
}

/// sha256 of a directory: relative names, kinds, execute bits, contents and link targets, in the order of the names. Times and
/// owners do not count.
///
/// # Errors
/// The I/O error with the path.
pub fn tree(dir: &Path) -> Result<String> {
    let mut key = Key::new("tree");
    for relative in super::tree::names(dir)? {
        let path = dir.join(&relative);
        let meta = fs::symlink_metadata(&path).map_err(Error::io(&path))?;
        let value = if meta.is_symlink() {
            format!(
                "link {}",
                fs::read_link(&path).map_err(Error::io(&path))?.display()
            )
        } else {
            let executable = meta.permissions().mode() & 0o100 != 0;
            format!("file {executable} {}", file(&path, &mut |_| ())?)
        };
        key = key.with(&relative.to_string_lossy(), value.as_bytes());
    }
    Ok(key.finish())
}

/// The key of a layer: a hash over named inputs. The order in which they are given does not matter; names must be different.
#[derive(Debug, Clone)]
pub struct Key {
    inputs: Vec<(String, String)>,
}

impl Key {
    /// A key of a kind; the same inputs under another kind give another key. Name a format version in it where that may change.
    pub fn new(kind: &str) -> Self {
        Self {
            inputs: vec![(String::new(), bytes(kind.as_bytes()))],
        }
    }

    /// Adds an input.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.inputs.push((name.to_owned(), bytes(value.as_ref())));
        self
    }

    /// The key: 64 hex digits.
    pub fn finish(mut self) -> String {
        self.inputs.sort();
        let mut hash = Sha256::new();
        for (name, value) in &self.inputs {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
            hash.update(value);
        }
        hex(&hash.finalize())
    }

    /// The key's first 16 digits: enough to tell layers apart, short enough for paths and people.
    pub fn short(self) -> String {
        let mut key = self.finish();
        key.truncate(16);
        key
    }
}

/// Bytes as hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sums_come_out() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(bytes(b"abc"), abc);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "abc").unwrap();
        let mut seen = 0;
        assert_eq!(file(&path, &mut |count| seen += count).unwrap(), abc);
        assert_eq!(seen, 3);
    }

    #[test]
    fn a_key_depends_on_inputs_and_names_and_not_on_their_order() {
        let key = Key::new("k").with("a", "1").with("b", "2");
        assert_eq!(
            key.clone().finish(),
            Key::new("k").with("b", "2").with("a", "1").finish()
        );
        assert_ne!(
            key.clone().finish(),
            Key::new("k").with("a", "2").with("b", "1").finish()
        );
        assert_ne!(
            key.clone().finish(),
            Key::new("l").with("a", "1").with("b", "2").finish()
        );
        assert_ne!(
            Key::new("k").with("ab", "").finish(),
            Key::new("k").with("a", "b").finish()
        );
        assert_eq!(key.short().len(), 16);
    }

    #[test]
    fn a_trees_hash_sees_names_contents_and_execute_bits() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        let path = dir.path().join("sub/x");
        fs::write(&path, "one").unwrap();
        let mut seen = vec![tree(dir.path()).unwrap()];
        fs::write(&path, "two").unwrap();
        seen.push(tree(dir.path()).unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        seen.push(tree(dir.path()).unwrap());
        fs::rename(&path, dir.path().join("x")).unwrap();
        seen.push(tree(dir.path()).unwrap());
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }
}
