//! Wheels: programs that upstream publishes, built by itself, on the Python Package Index and nowhere else that a build host is
//! sure to reach. pip fetches them, from wherever it is set up to; the sum in the catalog says whether it is the right file. See
//! docs/decisions/0017.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sampan_driver::Command;
use serde::Deserialize;

use super::catalog::twice;
use super::components::Place;
use super::{arch, cached, job};
use crate::error::{Error, Kind, Result};
use crate::store::{atomic, hash};

const DEADLINE: Duration = Duration::from_secs(20 * 60);

/// A package of the Python Package Index that carries programs of upstream's own build.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wheel {
    /// Our name for it.
    pub name: String,
    /// The package's name there.
    pub package: String,
    /// Its version, without leading "v".
    pub version: String,
    /// The file for each architecture.
    pub files: Vec<WheelFile>,
    /// What is taken out of it.
    pub programs: Vec<WheelProgram>,
}

/// A wheel for one architecture.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WheelFile {
    /// As Go spells it.
    pub arch: String,
    /// The platform tag in the file's name.
    pub platform: String,
    /// Of the whole file, in hex.
    pub sha256: String,
}

/// One program in a wheel.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WheelProgram {
    /// Path in the wheel.
    pub path: String,
    /// File name; unique in the catalog.
    pub name: String,
}

impl Wheel {
    /// The file for an architecture, as Go spells it.
    pub fn file(&self, arch: &str) -> Option<&WheelFile> {
        self.files.iter().find(|file| file.arch == arch)
    }

    pub(super) fn mistake(&self) -> Option<String> {
        let name = &self.name;
        if self.files.is_empty() || self.programs.is_empty() {
            return Some(format!("wheel {name} needs files and programs"));
        }
        let is_sum = |sum: &str| sum.len() == 64 && sum.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
        let bad_sum = self.files.iter().find(|file| !is_sum(&file.sha256));
        let bad_sum = bad_sum.map(|file| format!("wheel {name}: \"{}\" is no sha256 sum", file.sha256));
        let outside = |path: &str| path.starts_with('/') || path.split('/').any(|part| part == "..");
        let outside = self.programs.iter().find(|program| outside(&program.path));
        bad_sum
            .or_else(|| {
                outside.map(|program| format!("wheel {name}: {} is not a path inside it", program.path))
            })
            .or_else(|| twice(self.files.iter().map(|file| file.arch.as_str()), "wheel for"))
    }
}

/// Where a wheel's programs stand once they are there.
///
/// # Errors
/// [`Kind::Bundle`] when there is none for this architecture.
pub(super) fn dir(place: &Place<'_>, wheel: &Wheel) -> Result<PathBuf> {
    let file = of_here(wheel)?;
    let mut key = hash::Key::new("wheel 1").with("sha256", &file.sha256);
    for program in &wheel.programs {
        key = key.with(&program.name, &program.path);
    }
    let name = format!("{}-{}", wheel.name, key.short());
    Ok(place.build.join("wheels").join(name))
}

/// Fetches a wheel and puts its programs into `target`, replacing what is there.
///
/// # Errors
/// [`Kind::Bundle`] when pip cannot get it or it is another file than the catalog says; [`Kind::Interrupted`].
pub(super) fn build(place: &Place<'_>, wheel: &Wheel, target: &Path) -> Result<()> {
    let staging = atomic::Dir::begin(&place.build.join(format!("wheel-{}", wheel.name)))?;
    let command = download(wheel, of_here(wheel)?, staging.path());
    run(place, wheel, &command, "download")?;
    let fetched = fetched(wheel, staging.path())?;
    take(place, wheel, &fetched, target)
}

/// Puts the programs of a fetched wheel, if it is the right one, into `target`.
fn take(place: &Place<'_>, wheel: &Wheel, fetched: &Path, target: &Path) -> Result<()> {
    let wanted = &of_here(wheel)?.sha256;
    let sum = hash::file(fetched, &mut |_| ())?;
    if sum != *wanted {
        let message = format!(
            "wheel {}: {} has the sum {sum}, not {wanted}",
            wheel.name,
            fetched.display()
        );
        return Err(Error::new(Kind::Bundle, message)
            .hint("pip was given another file under this name: `pip config list` shows where it looks"));
    }
    let dir = atomic::Dir::begin(target)?;
    let tree = dir.path().join("tree");
    run(place, wheel, &unpack(fetched, &tree), "unpack")?;
    for program in &wheel.programs {
        let (from, to) = (tree.join(&program.path), dir.path().join(&program.name));
        fs::rename(&from, &to).map_err(Error::io(&from))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).map_err(Error::io(&to))?;
    }
    atomic::remove(&tree)?;
    cached::seal(dir, target, place.cancel)
}

fn run(place: &Place<'_>, wheel: &Wheel, command: &Command, step: &str) -> Result<()> {
    let log = place.log(&format!("{}-{step}", wheel.name));
    job::run(
        &format!("wheel {}", wheel.name),
        command,
        &log,
        place.cancel,
        place.stop,
    )
}

fn of_here(wheel: &Wheel) -> Result<&WheelFile> {
    wheel.file(arch()).ok_or_else(|| {
        let message = format!(
            "{} {} is not published for {}",
            wheel.package,
            wheel.version,
            arch()
        );
        Error::new(Kind::Bundle, message)
    })
}

/// What pip is told: exactly this file, whatever system and Python it runs on.
fn download(wheel: &Wheel, file: &WheelFile, to: &Path) -> Command {
    Command::new("python3")
        .args([
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--platform",
        ])
        .arg(&file.platform)
        .arg("--dest")
        .path(to)
        .arg(format!("{}=={}", wheel.package, wheel.version))
        .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
        .deadline(DEADLINE)
}

fn unpack(wheel: &Path, to: &Path) -> Command {
    Command::new("python3")
        .args(["-m", "zipfile", "-e"])
        .path(wheel)
        .path(to)
        .deadline(DEADLINE)
}

/// The one file that pip left.
fn fetched(wheel: &Wheel, dir: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).map_err(Error::io(dir))?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    let found = paths.find(|path| path.extension().is_some_and(|extension| extension == "whl"));
    found.ok_or_else(|| {
        let message = format!("pip fetched no wheel of {} {}", wheel.package, wheel.version);
        Error::new(Kind::Bundle, message)
    })
}

#[cfg(test)]
mod tests {
    use sampan_driver::{Host, Runner};

    use super::*;
    use crate::progress::Cancel;

    fn wheel(sha256: &str, program: &str) -> Wheel {
        Wheel {
            name: "w".into(),
            package: "some-package".into(),
            version: "1.0".into(),
            files: vec![WheelFile {
                arch: arch().into(),
                platform: "manylinux_2_31_x86_64".into(),
                sha256: sha256.into(),
            }],
            programs: vec![WheelProgram {
                path: program.into(),
                name: "program".into(),
            }],
        }
    }

    /// A wheel as pip would leave it, with `w/bin/x` in it.
    fn made(dir: &Path) -> PathBuf {
        fs::create_dir_all(dir.join("w/bin")).unwrap();
        fs::write(dir.join("w/bin/x"), "the program").unwrap();
        let file = dir.join("some_package-1.0-py3-none-any.whl");
        let pack = Command::shell(format!(
            "cd {} && python3 -m zipfile -c {} w",
            dir.display(),
            file.display()
        ));
        Host.run(&pack).unwrap();
        file
    }

    #[test]
    fn only_the_wheel_with_the_right_sum_is_taken() {
        let (dir, cancel) = (tempfile::tempdir().unwrap(), Cancel::default());
        let place = Place {
            build: dir.path(),
            tree: dir.path(),
            cancel: &cancel,
            stop: &cancel,
        };
        let file = made(&dir.path().join("fetched"));
        let sum = hash::file(&file, &mut |_| ()).unwrap();
        let right = wheel(&sum, "w/bin/x");
        let target = super::dir(&place, &right).unwrap();
        let wrong = wheel(&"0".repeat(64), "w/bin/x");
        let error = take(&place, &wrong, &file, &target).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&format!("has the sum {sum}, not 0000")),
            "{error}"
        );
        assert!(!target.exists());
        take(&place, &right, &file, &target).unwrap();
        assert!(cached::is_whole(&target));
        let program = target.join("program");
        assert_eq!(fs::read_to_string(&program).unwrap(), "the program");
        assert_eq!(program.metadata().unwrap().permissions().mode() & 0o777, 0o755);
        // Only programs are kept, and another wheel stands elsewhere.
        assert!(!target.join("tree").exists());
        assert_ne!(super::dir(&place, &wrong).unwrap(), target);
        let error = take(&place, &wheel(&sum, "w/bin/y"), &file, &dir.path().join("other")).unwrap_err();
        assert!(error.to_string().contains("w/bin/y"), "{error}");
    }

    #[test]
    fn pip_is_asked_for_one_file_whatever_the_host_is() {
        let wheel = wheel("0", "x");
        let line = download(&wheel, &wheel.files[0], Path::new("/out"))
            .to_string()
            .replace('\'', "");
        assert!(
            line.ends_with("python3 -m pip download --no-deps --only-binary=:all: --platform manylinux_2_31_x86_64 --dest /out some-package==1.0"),
            "{line}"
        );
    }

    #[test]
    fn a_wheel_for_another_machine_is_an_error() {
        let mut wheel = wheel("0", "x");
        wheel.files[0].arch = "other".into();
        let error = of_here(&wheel).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("some-package 1.0 is not published for"),
            "{error}"
        );
    }
}
