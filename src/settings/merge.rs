//! Settings from all places, the later one winning: defaults < file < environment < flags.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::error::{Error, Kind, Result};

use super::file::ConfigFile;
use super::keys::{KEYS, Key};

/// Where a value was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The settings file.
    File(PathBuf),
    /// The environment, as SAMPAN_MEMORY.
    Environment,
    /// The command line.
    Flag,
}

/// One value and who said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The setting.
    pub key: &'static str,
    /// The value as it was written.
    pub text: String,
    /// Where.
    pub source: Source,
}

impl fmt::Display for Setting {
    /// As the user wrote it: `--memory 4x`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::File(path) => write!(f, "{} = {:?} in {}", self.key, self.text, path.display()),
            Source::Environment => {
                write!(
                    f,
                    "SAMPAN_{}={}",
                    self.key.replace('-', "_").to_uppercase(),
                    self.text
                )
            }
            Source::Flag => write!(f, "--{} {}", self.key, self.text),
        }
    }
}

impl Setting {
    /// An error about this value; `what` follows the value.
    pub fn wrong(&self, kind: Kind, what: &str) -> Error {
        // A value has been shown, then what is wrong with it, then perhaps what to do: the last part is the hint.
        match what.split_once("; ") {
            Some((what, hint)) => Error::new(kind, format!("`{self}` {what}")).hint(hint),
            None => Error::new(kind, format!("`{self}` {what}")),
        }
    }

    /// Whether it was said for this one call, not once for all.
    pub fn is_deliberate(&self) -> bool {
        self.source == Source::Flag
    }
}

/// All settings that somebody said something about.
#[derive(Debug, Clone, Default)]
pub struct Settings(BTreeMap<&'static str, Setting>);

impl Settings {
    /// Takes over what the file sets.
    ///
    /// # Errors
    /// As [`ConfigFile::entries`].
    pub fn add_file(&mut self, file: &ConfigFile) -> Result<()> {
        for (key, text) in file.entries()? {
            self.put(key, text, Source::File(file.path().to_owned()))?;
        }
        Ok(())
    }

    /// Takes over what the environment sets; `variable` looks a variable up. An empty variable says nothing.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a value that cannot be.
    pub fn add_environment(&mut self, variable: &dyn Fn(&str) -> Option<String>) -> Result<()> {
        for key in KEYS {
            let old = (key.name == "driver")
                .then(|| variable("SAMPAN_VM_DRIVER"))
                .flatten();
            if let Some(text) = variable(&key.variable()).or(old).filter(|text| !text.is_empty()) {
                self.put(key, text, Source::Environment)?;
            }
        }
        Ok(())
    }

    /// Takes over one flag; none says nothing.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a value that cannot be.
    pub fn add_flag(&mut self, name: &str, text: Option<String>) -> Result<()> {
        match text {
            Some(text) => self.put(Key::find(name)?, text, Source::Flag),
            None => Ok(()),
        }
    }

    fn put(&mut self, key: &'static Key, text: String, source: Source) -> Result<()> {
        let setting = Setting {
            key: key.name,
            text,
            source,
        };
        key.check(&setting.text)
            .map_err(|what| setting.wrong(Kind::Usage, &what))?;
        self.0.insert(key.name, setting);
        Ok(())
    }

    /// What was said about a setting.
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.0.get(name)
    }

    /// The text of a setting, or a default.
    pub fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.get(name).map_or(default, |setting| &setting.text)
    }

    /// A yes-or-no setting; nothing said is no.
    pub fn flag(&self, name: &str) -> bool {
        super::quantity::flag(self.text(name, "false")).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_place_wins_and_is_named_in_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "cpus = 3\nmemory = \"5g\"\ndisk-size = \"30g\"\n").unwrap();
        let mut settings = Settings::default();
        settings.add_file(&ConfigFile::read(&path).unwrap()).unwrap();
        settings
            .add_environment(&|name| match name {
                "SAMPAN_CPUS" => Some("4".to_owned()),
                "SAMPAN_MEMORY" => Some("6g".to_owned()),
                "SAMPAN_VM_DRIVER" => Some("qemu".to_owned()),
                _ => None,
            })
            .unwrap();
        settings.add_flag("cpus", Some("5".to_owned())).unwrap();
        settings.add_flag("memory", None).unwrap();
        assert_eq!(settings.get("cpus").unwrap().to_string(), "--cpus 5");
        assert_eq!(settings.get("memory").unwrap().to_string(), "SAMPAN_MEMORY=6g");
        assert_eq!(settings.text("driver", ""), "qemu");
        assert!(
            settings
                .get("disk-size")
                .unwrap()
                .to_string()
                .starts_with("disk-size = \"30g\" in /")
        );

        let wrong = settings.add_flag("memory", Some("4x".to_owned())).unwrap_err();
        assert_eq!(wrong.to_string(), "`--memory 4x` is not a size");
        assert_eq!(wrong.hints(), ["write 4096, 4096mb or 4g"]);
    }
}
