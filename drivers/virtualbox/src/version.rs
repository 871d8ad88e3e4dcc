//! Finds VBoxManage and reads its version.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use sampan_driver::{DriverError, Result};

/// The oldest VirtualBox that is used: the first whose virtio disk controller a PC's firmware boots from.
pub const MINIMUM: Version = Version { major: 6, minor: 1 };

/// The newest one that the words and options of this driver were compared with.
pub const NEWEST: Version = Version { major: 7, minor: 2 };

/// Where VBoxManage is looked for when nobody says.
const USUAL_PLACES: &str = "/usr/bin:/usr/local/bin:/opt/VirtualBox";

/// The part of a version that tells what VBoxManage understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 7 in 7.2.22.
    pub major: u32,
    /// 2 in 7.2.22.
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What `VBoxManage --version` says: "6.1.50r161033", "7.2.22_Debianr175245", perhaps with warnings before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Banner {
    pub(crate) version: Version,
    /// The whole number, as 7.2.22.
    pub(crate) number: String,
}

impl Banner {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        text.lines().rev().find_map(|line| {
            let number: String = line
                .trim()
                .chars()
                .take_while(|c| c.is_ascii_digit() || *c == '.')
                .collect();
            let mut parts = number.split('.').map(str::parse::<u32>);
            let (major, minor, _) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
            Some(Self {
                version: Version { major, minor },
                number,
            })
        })
    }

    /// Refuses versions that lack what is needed.
    pub(crate) fn check(&self) -> Result<()> {
        if self.version >= MINIMUM {
            return Ok(());
        }
        Err(DriverError::Unsupported {
            what: format!(
                "VirtualBox is version {}, and at least {MINIMUM} is needed",
                self.number
            ),
            hint: "upgrade it from https://www.virtualbox.org/wiki/Downloads or your distribution".to_owned(),
        })
    }

    /// What is to be said about a version that works.
    pub(crate) fn note(&self) -> String {
        if self.version > NEWEST {
            format!("this VirtualBox is newer than {NEWEST}, the newest that this driver was tried with")
        } else {
            String::new()
        }
    }
}

/// Finds VBoxManage: at the given path if one is given, else in the directories of `search` (as in PATH).
pub(crate) fn find(given: Option<&Path>, search: Option<&OsStr>) -> Result<PathBuf> {
    let absent = || DriverError::NotInstalled {
        what: "VirtualBox".to_owned(),
        hint: install_hint(std::env::consts::OS).to_owned(),
    };
    if let Some(path) = given {
        return path.is_file().then(|| path.to_owned()).ok_or_else(absent);
    }
    std::env::split_paths(search.unwrap_or(OsStr::new(USUAL_PLACES)))
        .map(|dir| dir.join("VBoxManage"))
        .find(|path| path.is_file())
        .ok_or_else(absent)
}

fn install_hint(os: &str) -> &'static str {
    match os {
        "macos" => "install it: `brew install --cask virtualbox`",
        _ => {
            "install it: `apt install virtualbox` (Ubuntu, Debian sid), `pacman -S virtualbox` (Arch), or from \
              https://www.virtualbox.org/wiki/Linux_Downloads"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_behind_warnings_too() {
        for (text, number, version) in [
            ("7.2.22_Debianr175245\n", "7.2.22", (7, 2)),
            ("6.1.50r161033", "6.1.50", (6, 1)),
            (
                "WARNING: The character device /dev/vboxdrv does not exist.\n\t Please install 7.0\n7.0.14r161095\n",
                "7.0.14",
                (7, 0),
            ),
        ] {
            let banner = Banner::parse(text).unwrap();
            assert_eq!(
                (banner.number.as_str(), banner.version),
                (
                    number,
                    Version {
                        major: version.0,
                        minor: version.1
                    }
                )
            );
        }
        assert_eq!(Banner::parse("hello\n7.2\n"), None);
        assert_eq!(Banner::parse(""), None);
    }

    #[test]
    fn old_ones_are_refused_and_newer_ones_noted() {
        let banner = |text: &str| Banner::parse(text).unwrap();
        let what = banner("5.2.44r139111").check().unwrap_err().to_string();
        assert_eq!(what, "VirtualBox is version 5.2.44, and at least 6.1 is needed");
        assert!(banner("6.1.0r1").check().is_ok() && banner("7.2.0r1").note().is_empty());
        assert!(banner("7.3.0r1").check().is_ok() && banner("8.0.0r1").note().contains("newer than 7.2"));
    }
}
