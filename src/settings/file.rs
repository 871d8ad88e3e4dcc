//! The settings file, `config.toml`: read with the place of every mistake, changed without touching the user's comments.

use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, Item, Value};

use crate::error::{Error, Kind, Result};

use super::keys::{Key, ValueKind};

/// The settings file, as it is on disk.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    document: DocumentMut,
}

impl ConfigFile {
    /// Reads the file; a file that does not exist is an empty one. Keys and values are checked.
    ///
    /// # Errors
    /// [`Kind::HostConfig`] when it is no TOML, has an unknown key or a value that cannot be.
    pub fn read(path: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(damaged(path, "is not text"));
            }
            Err(error) => return Err(Error::io(path)(error)),
        };
        let document: DocumentMut = text
            .parse()
            .map_err(|error: toml_edit::TomlError| damaged(path, "is not TOML").because(error))?;
        let file = Self {
            path: path.to_owned(),
            document,
        };
        file.entries()?;
        Ok(file)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it sets, as text, in the order of the file.
    ///
    /// # Errors
    /// As [`ConfigFile::read`].
    pub fn entries(&self) -> Result<Vec<(&'static Key, String)>> {
        self.document
            .iter()
            .map(|(name, item)| self.entry(name, item))
            .collect()
    }

    fn entry(&self, name: &str, item: &Item) -> Result<(&'static Key, String)> {
        let key = Key::find(name).map_err(|error| {
            let hints = error.hints().to_vec();
            let error = Error::new(Kind::HostConfig, format!("{}: {error}", self.path.display()));
            hints.into_iter().fold(error, Error::hint)
        })?;
        let wrong = |what: &str| {
            // What is wrong, then perhaps what would be right.
            let (what, better) = what.split_once("; ").unwrap_or((what, key.help));
            Error::new(
                Kind::HostConfig,
                format!("{}: `{name}` {what}", self.path.display()),
            )
            .hint(better)
            .hint(format!("or take the line out with `sampan config unset {name}`"))
        };
        let text = text(key, item).ok_or_else(|| wrong("is a value of the wrong type"))?;
        key.check(&text)
            .map_err(|what| wrong(&format!("= {text:?} {what}")))?;
        Ok((key, text))
    }

    /// Sets a key, in memory; the value was checked.
    pub fn set(&mut self, key: &Key, text: &str) {
        let value: Value = match (key.kind, text.parse::<i64>(), super::quantity::flag(text)) {
            (ValueKind::Flag, _, Ok(flag)) => flag.into(),
            (ValueKind::Count | ValueKind::Size, Ok(number), _) => number.into(),
            _ => text.into(),
        };
        match self.document.get_mut(key.name) {
            Some(Item::Value(old)) => {
                let decor = old.decor().clone();
                *old = value;
                *old.decor_mut() = decor;
            }
            _ => {
                self.document.insert(key.name, toml_edit::value(value));
            }
        }
    }

    /// Takes a key out, in memory; says whether it was there.
    pub fn unset(&mut self, key: &Key) -> bool {
        let old = if key.name == "driver" {
            self.document.remove("vm-driver")
        } else {
            None
        };
        self.document.remove(key.name).or(old).is_some()
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// When the directory cannot be made or the file not be written.
    pub fn write(&self) -> Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
        let file = tempfile::NamedTempFile::new_in(dir).map_err(Error::io(dir))?;
        std::fs::write(file.path(), self.document.to_string()).map_err(Error::io(&self.path))?;
        file.as_file().sync_all().map_err(Error::io(&self.path))?;
        file.persist(&self.path)
            .map_err(|error| Error::io(&self.path)(error.error))?;
        Ok(())
    }
}

/// Takes a key out of a file that may be damaged elsewhere: the way out that the error messages name.
///
/// # Errors
/// When the file is no TOML or cannot be written.
pub fn unset_anyway(path: &Path, name: &str) -> Result<bool> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::io(path)(error)),
    };
    let document = text
        .parse()
        .map_err(|error: toml_edit::TomlError| damaged(path, "is not TOML").because(error))?;
    let mut file = ConfigFile {
        path: path.to_owned(),
        document,
    };
    let found = file.document.remove(name).is_some();
    if found {
        file.write()?;
    }
    Ok(found)
}

fn damaged(path: &Path, what: &str) -> Error {
    Error::new(Kind::HostConfig, format!("{}: {what}", path.display()))
        .hint("correct the file, or move it away to go on with the defaults")
}

/// A value as it would stand on the command line; none when its type cannot be meant.
fn text(key: &Key, item: &Item) -> Option<String> {
    let separator = if key.kind == ValueKind::ExtraConfig {
        " "
    } else {
        ","
    };
    match item.as_value()? {
        Value::String(text) => Some(text.value().clone()),
        Value::Integer(number) => Some(number.value().to_string()),
        Value::Boolean(flag) => Some(flag.value().to_string()),
        Value::Array(array) => {
            let words: Option<Vec<&str>> = array.iter().map(Value::as_str).collect();
            words.map(|words| words.join(separator))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/config.toml");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn comments_survive_a_change() {
        let (_dir, path) = file("# mine\ncpus = 2 # enough\nmemory = \"4g\"\n");
        let mut config = ConfigFile::read(&path).unwrap();
        config.set(Key::find("cpus").unwrap(), "4");
        config.set(Key::find("keep-context").unwrap(), "true");
        assert!(config.unset(Key::find("memory").unwrap()));
        config.write().unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "# mine\ncpus = 4 # enough\nkeep-context = true\n"
        );
    }

    #[test]
    fn lists_and_numbers_are_values() {
        let (_dir, path) = file("wait = [\"apiserver\", \"node_ready\"]\ncpus = 3\nforce = true\n");
        let entries: Vec<_> = ConfigFile::read(&path)
            .unwrap()
            .entries()
            .unwrap()
            .into_iter()
            .map(|(key, text)| (key.name, text))
            .collect();
        assert_eq!(
            entries,
            [
                ("wait", "apiserver,node_ready".to_owned()),
                ("cpus", "3".into()),
                ("force", "true".into())
            ]
        );
    }

    #[test]
    fn mistakes_name_the_file_the_key_and_the_way_out() {
        for (text, part) in [
            ("cpus = ", "is not TOML"),
            ("memry = 3", "unknown setting `memry`"),
            ("memory = \"4x\"", "`memory` = \"4x\" is not a size"),
            ("[cpus]\nx = 1", "`cpus` is a value of the wrong type"),
            ("iso-url = \"x\"", "not there yet"),
        ] {
            let (_dir, path) = file(text);
            let error = ConfigFile::read(&path).unwrap_err();
            assert_eq!(error.kind(), Kind::HostConfig, "{text}");
            assert!(
                error.to_string().contains(part) && error.to_string().contains("config.toml"),
                "{error}"
            );
            assert!(!error.hints().is_empty(), "{text}");
        }
        let (_dir, path) = file("memry = 3\n");
        assert!(unset_anyway(&path, "memry").unwrap());
        ConfigFile::read(&path).unwrap();
    }
}
