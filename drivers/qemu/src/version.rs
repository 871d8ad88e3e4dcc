//! Finds QEMU's programs and reads their versions.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sampan_driver::{Command, DriverError, Host, Result, Runner};

/// The oldest QEMU that is used: from 8.2 on `migrate` writes to `file:` addresses, which saving a machine needs, and a
/// machine that is made today is to be saved tomorrow. (Debian 13, Ubuntu 24.04, Fedora 40 and Homebrew have it.)
pub const MINIMUM: Version = Version {
    major: 8,
    minor: 2,
    micro: 0,
};

/// Where programs are looked for when nobody says.
const USUAL_PLACES: &str = "/usr/bin:/usr/local/bin:/opt/homebrew/bin:/opt/local/bin:/usr/libexec";

/// A version of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Changes once a year.
    pub major: u32,
    /// Changes with each release.
    pub minor: u32,
    /// Changes with each fix.
    pub micro: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

impl Version {
    /// Reads what `--version` prints: "QEMU emulator version 10.0.2 (Debian …)", "qemu-img version 8.2.0".
    pub fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.lines().next()?.split_once("version ")?;
        let mut numbers = rest
            .split(|c: char| !c.is_ascii_digit() && c != '.')
            .next()?
            .split('.')
            .map(str::parse);
        let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        let micro = numbers.next().and_then(Result::ok).unwrap_or(0);
        Some(Self { major, minor, micro })
    }
}

/// Finds a program: at the given path if one is given, else in the directories of `search` (as in PATH).
pub(crate) fn find(name: &str, given: Option<&Path>, search: Option<&OsStr>) -> Result<PathBuf> {
    let absent = || DriverError::NotInstalled {
        what: name.to_owned(),
        hint: install_hint(std::env::consts::OS),
    };
    if let Some(path) = given {
        return if path.is_file() {
            Ok(path.to_owned())
        } else {
            Err(absent())
        };
    }
    std::env::split_paths(search.unwrap_or(OsStr::new(USUAL_PLACES)))
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .ok_or_else(absent)
}

/// Asks a program for its version and refuses one that is too old.
pub(crate) fn check(program: &Path) -> Result<Version> {
    Ok(describe(program)?.0)
}

/// As [`check`]; also the line it says it in, which tells one distribution's build from another's.
pub(crate) fn describe(program: &Path) -> Result<(Version, String)> {
    let command = Command::new(program.to_string_lossy())
        .arg("--version")
        .deadline(Duration::from_secs(5));
    let text = Host.run(&command)?.text();
    let shown = program.display();
    let version = Version::parse(&text).ok_or_else(|| DriverError::Unhealthy {
        what: format!(
            "{shown} does not tell its version: {}",
            text.lines().next().unwrap_or_default()
        ),
        hint: format!("run `{shown} --version`; it should print a line with the version"),
    })?;
    if version < MINIMUM {
        return Err(DriverError::Unsupported {
            what: format!("{shown} is version {version}, and at least {MINIMUM} is needed"),
            hint: upgrade_hint(std::env::consts::OS),
        });
    }
    Ok((version, text.lines().next().unwrap_or_default().to_owned()))
}

fn install_hint(os: &str) -> String {
    match os {
        "macos" => "install it: `brew install qemu`".to_owned(),
        _ => "install it: `apt install qemu-system-x86 qemu-utils` (Debian, Ubuntu), `dnf install qemu-kvm qemu-img` \
              (Fedora), `pacman -S qemu-base` (Arch); on Arm `apt install qemu-system-arm qemu-utils`"
            .to_owned(),
    }
}

fn upgrade_hint(os: &str) -> String {
    match os {
        "macos" => "upgrade it: `brew upgrade qemu`".to_owned(),
        _ => "upgrade it; Debian 12 has a newer one in bookworm-backports: \
              `apt install -t bookworm-backports qemu-system-x86 qemu-utils`"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(major: u32, minor: u32, micro: u32) -> Option<Version> {
        Some(Version { major, minor, micro })
    }

    #[test]
    fn versions_are_read_as_distributions_print_them() {
        let debian =
            "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\nCopyright (c) 2003-2025 F";
        assert_eq!(Version::parse(debian), version(10, 0, 2));
        assert_eq!(
            Version::parse("qemu-img version 8.2.91 (v9.0.0-rc1-dirty)"),
            version(8, 2, 91)
        );
        assert_eq!(Version::parse("QEMU emulator version 9.1"), version(9, 1, 0));
        assert_eq!(Version::parse("command not found"), None);
        assert_eq!(Version::parse("QEMU emulator version unknown"), None);
        assert!(
            Version {
                major: 10,
                minor: 0,
                micro: 0
            } > MINIMUM
        );
        assert!(
            Version {
                major: 7,
                minor: 2,
                micro: 9
            } < MINIMUM
        );
    }

    #[test]
    fn a_program_that_is_nowhere_is_not_installed() {
        let dir = tempfile::tempdir().unwrap();
        let error = find("qemu-system-x86_64", None, Some(dir.path().as_os_str())).unwrap_err();
        assert!(
            matches!(&error, DriverError::NotInstalled { hint, .. } if hint.contains("install")),
            "{error}"
        );
        assert_eq!(error.to_string(), "qemu-system-x86_64 is not installed");
        std::fs::write(dir.path().join("x"), "").unwrap();
        assert_eq!(
            find("x", None, Some(dir.path().as_os_str())).unwrap(),
            dir.path().join("x")
        );
        assert!(find("x", Some(&dir.path().join("y")), None).is_err());
    }

    #[test]
    fn each_platform_has_its_own_words() {
        assert!(install_hint("macos").contains("brew"));
        assert!(install_hint("linux").contains("apt") && upgrade_hint("linux").contains("backports"));
    }
}
