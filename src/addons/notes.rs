//! `addons.toml` of a profile: what is to be done when its cluster starts, and what was seen of it last.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Options;
use crate::error::{Error, Kind, Result};
use crate::store::atomic;

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    /// To be enabled (true) or disabled (false) by the next start.
    pub wishes: BTreeMap<String, bool>,
    /// Options that were set while the cluster was stopped.
    pub options: BTreeMap<String, Options>,
    /// What was enabled when the cluster was last looked at; none when nobody looked yet.
    pub seen: Option<BTreeSet<String>>,
}

impl Notes {
    /// Reads a profile's notes; no file means no notes.
    ///
    /// # Errors
    /// [`Kind::HostConfig`] when the file is damaged; the I/O error with the path.
    pub fn read(path: &Path) -> Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|error| {
                Error::new(
                    Kind::HostConfig,
                    format!("{}: {}", path.display(), error.message()),
                )
                .hint("remove the file: what is enabled stands in the cluster itself")
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::io(path)(error)),
        }
    }

    /// Whether the next start has anything to do.
    pub fn is_pending(&self) -> bool {
        !self.wishes.is_empty() || !self.options.is_empty()
    }

    /// Has the next start enable or disable an addon.
    pub fn wish(&mut self, name: &str, enabled: bool) {
        self.wishes.insert(name.to_owned(), enabled);
    }

    /// Remembers what is enabled.
    pub fn see(&mut self, enabled: &[String]) {
        self.seen = Some(enabled.iter().cloned().collect());
    }

    /// An addon is as it was wished to be.
    pub fn settle(&mut self, name: &str, enabled: bool) {
        self.wishes.remove(name);
        self.options.remove(name);
        if let Some(seen) = &mut self.seen {
            seen.remove(name);
            if enabled {
                seen.insert(name.to_owned());
            }
        }
    }

    /// Writes them.
    ///
    /// # Errors
    /// The I/O error with the path.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = toml::to_string(self)
            .map_err(|error| Error::new(Kind::Internal, "cannot describe addons").because(error))?;
        atomic::write(path, 0o600, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_back_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("addons.toml");
        assert_eq!(Notes::read(&path).unwrap(), Notes::default());
        let notes = Notes {
            wishes: [("a".to_owned(), true), ("b".to_owned(), false)].into(),
            options: [("a".to_owned(), [("k".to_owned(), "v".to_owned())].into())].into(),
            seen: Some(["c".to_owned()].into()),
        };
        notes.write(&path).unwrap();
        assert_eq!(Notes::read(&path).unwrap(), notes);
        assert!(notes.is_pending() && !Notes::default().is_pending());
        fs::write(&path, "wishes = 1").unwrap();
        assert_eq!(Notes::read(&path).unwrap_err().kind(), Kind::HostConfig);
    }
}
