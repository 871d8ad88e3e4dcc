//! What the host has to offer: the platform, the program and its version, the right to use macOS's network for machines.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sampan_driver::{Command, DriverError, Host, Result, Runner};

/// Where programs are looked for when nobody says, and where Docker Desktop of that time had its own.
const USUAL_PLACES: &str = "/usr/local/bin:/opt/local/bin:/usr/bin";
const DOCKERS_OWN: &str = "/Applications/Docker.app/Contents/Resources/bin/com.docker.hyperkit";

/// The bit of a file's mode that makes its owner the process's user.
const SET_USER_ID: u32 = 0o4000;

/// The host as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// The operating system, as Rust calls it (`macos`).
    pub os: String,
    /// The processor, as Rust calls it (`x86_64`).
    pub arch: String,
    /// Whether this process is root's.
    pub root: bool,
}

impl Platform {
    /// This very host.
    pub fn here() -> Self {
        Self {
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            root: rustix::process::geteuid().is_root(),
        }
    }

    /// # Errors
    /// [`DriverError::Unsupported`] on any but a Mac with an Intel processor.
    pub(crate) fn check(&self) -> Result<()> {
        let (what, hint) = match (self.os.as_str(), self.arch.as_str()) {
            ("macos", "x86_64") => return Ok(()),
            ("macos", arch) => (
                format!("hyperkit runs on Macs with an Intel processor only, and this one is {arch}"),
                "use the qemu driver, which uses macOS's own hypervisor (HVF): `sampan start --driver qemu`",
            ),
            (os, _) => (
                format!("hyperkit runs on macOS only, and this is {os}"),
                "use the qemu driver: `sampan start --driver qemu`",
            ),
        };
        Err(DriverError::Unsupported {
            what,
            hint: hint.to_owned(),
        })
    }

    /// macOS lets only root make a network interface for a machine (vmnet). The fix is the one that minikube's documentation gave for
    /// its driver.
    ///
    /// # Errors
    /// [`DriverError::Unhealthy`] when hyperkit would not run as root.
    pub(crate) fn check_root(&self, program: &Path) -> Result<()> {
        // Homebrew's is a link to the real one, and it is that one's mode that counts.
        let real = program.canonicalize().map_err(DriverError::io(program))?;
        let metadata = fs::metadata(&real).map_err(DriverError::io(&real))?;
        if self.root || (metadata.uid() == 0 && metadata.mode() & SET_USER_ID != 0) {
            return Ok(());
        }
        let shown = Command::new("chown").arg("root:wheel").path(&real);
        let bit = Command::new("chmod").arg("u+s").path(&real);
        Err(DriverError::Unhealthy {
            what: format!(
                "{} may not use macOS's network for machines (vmnet): only root may, and it does not run as root",
                real.display()
            ),
            hint: format!("`sudo {shown} && sudo {bit}`, once; again after each upgrade of hyperkit"),
        })
    }
}

/// Finds hyperkit: at the given path if one is given, else in the directories of `search` (as in PATH), else Docker's.
pub(crate) fn find(given: Option<&Path>, search: Option<&OsStr>) -> Result<PathBuf> {
    let places = std::env::split_paths(search.unwrap_or(OsStr::new(USUAL_PLACES)))
        .map(|dir| dir.join("hyperkit"))
        .chain([PathBuf::from(DOCKERS_OWN)]);
    let found = match given {
        Some(path) => Some(path.to_owned()).filter(|path| path.is_file()),
        None => places.into_iter().find(|path| path.is_file()),
    };
    found.ok_or_else(|| DriverError::NotInstalled {
        what: "hyperkit".to_owned(),
        hint: "`brew install hyperkit`; better: `brew install qemu` and `--driver qemu`, as hyperkit is no longer maintained"
            .to_owned(),
    })
}

/// Asks hyperkit for its version. `hyperkit -v` prints "hyperkit: 0.20210107" and where it comes from.
pub(crate) fn version(program: &Path) -> Result<String> {
    let command = Command::new(program.to_string_lossy())
        .arg("-v")
        .deadline(Duration::from_secs(5));
    let text = Host.run(&command)?.text();
    let line = text.lines().next().unwrap_or_default();
    match line.rsplit_once(": ") {
        Some((_, version)) if !version.trim().is_empty() => Ok(version.trim().to_owned()),
        _ => Err(DriverError::Unhealthy {
            what: format!("{} does not tell its version: {line}", program.display()),
            hint: format!("run `{command}`; it should print a line with the version"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn platform(os: &str, arch: &str) -> Platform {
        Platform {
            os: os.into(),
            arch: arch.into(),
            root: false,
        }
    }

    #[test]
    fn only_intel_macs_will_do_and_the_others_hear_what_to_use() {
        platform("macos", "x86_64").check().unwrap();
        for (os, arch) in [("macos", "aarch64"), ("linux", "x86_64")] {
            match platform(os, arch).check() {
                Err(DriverError::Unsupported { what, hint }) => {
                    assert!(
                        what.contains("only") && hint.contains("--driver qemu"),
                        "{what}: {hint}"
                    );
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_program_that_would_not_be_root_is_refused_with_the_fix() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hyper kit");
        fs::write(&path, "").unwrap();
        match platform("macos", "x86_64").check_root(&path) {
            Err(DriverError::Unhealthy { what, hint }) => {
                assert!(what.contains("vmnet"), "{what}");
                assert!(
                    hint.contains("sudo chown root:wheel '") && hint.contains("sudo chmod u+s '"),
                    "{hint}"
                );
            }
            other => panic!("{other:?}"),
        }
        let root = Platform {
            root: true,
            ..platform("macos", "x86_64")
        };
        root.check_root(&path).unwrap();
        // The bit counts only on a file of root's.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
        let is_roots = fs::metadata(&path).unwrap().uid() == 0;
        assert_eq!(platform("macos", "x86_64").check_root(&path).is_ok(), is_roots);
    }

    #[test]
    fn a_program_that_is_nowhere_is_not_installed() {
        let dir = tempfile::tempdir().unwrap();
        let error = find(None, Some(dir.path().as_os_str())).unwrap_err();
        assert!(
            matches!(&error, DriverError::NotInstalled { hint, .. } if hint.contains("brew install")),
            "{error}"
        );
        fs::write(dir.path().join("hyperkit"), "").unwrap();
        assert_eq!(
            find(None, Some(dir.path().as_os_str())).unwrap(),
            dir.path().join("hyperkit")
        );
        assert!(find(Some(&dir.path().join("none")), None).is_err());
    }
}
