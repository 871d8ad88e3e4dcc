//! Components: each a Go module of the images tree, built into a directory of its own that is named by the hash of everything
//! that goes into it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sampan_driver::{Command, Host, Runner};

use super::catalog::Component;
use super::{arch, cached, job, tree};
use crate::error::{Error, Kind, Result};
use crate::progress::Cancel;
use crate::store::{atomic, hash};

/// Far more than the slowest component takes on two cores.
const DEADLINE: Duration = Duration::from_secs(60 * 60);

/// Where things are and when to stop.
pub(super) struct Place<'a> {
    /// CACHE/build.
    pub(super) build: &'a Path,
    /// The unpacked images tree.
    pub(super) tree: &'a Path,
    /// Set by the user.
    pub(super) cancel: &'a Cancel,
    /// Set when another part of the build failed.
    pub(super) stop: &'a Cancel,
}

impl Place<'_> {
    /// The log of a part of the build.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.build.join("logs").join(format!("{name}.log"))
    }
}

/// What makes programs here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Toolchain {
    /// "go1.26.8".
    pub(super) go: String,
    /// C compiler and libseccomp, for components with cgo.
    pub(super) c: String,
}

impl Toolchain {
    /// Asks Go alone, for components without C.
    pub(super) fn ask_go(module: &Path) -> Result<Self> {
        let go = Command::new("go")
            .arg("-C")
            .path(module)
            .args(["env", "GOVERSION"])
            .env("GOFLAGS", "")
            .env("GOWORK", "off");
        // Go may have to fetch the toolchain that the module asks for.
        let go = Host.run(&go.deadline(Duration::from_secs(600)))?.text();
        let c = String::new();
        Ok(Self { go, c })
    }

    /// Asks the tools. `module` is a directory with a go.mod, which may choose another toolchain than the installed one.
    pub(super) fn ask(module: &Path) -> Result<Self> {
        let Self { go, .. } = Self::ask_go(module)?;
        let c = Host
            .run(&Command::shell(
                "cc --version | head -n 1; pkg-config --modversion libseccomp",
            ))?
            .text();
        Ok(Self { go, c })
    }
}

/// Where a component's programs stand once built.
pub(super) fn dir(place: &Place<'_>, component: &Component, toolchain: &Toolchain) -> PathBuf {
    let mut key = hash::Key::new("component 2")
        .with("tree", tree::hash_of(&component.dir))
        .with("go", &toolchain.go)
        .with("arch", arch());
    for module in &component.uses {
        key = key.with(module, tree::hash_of(module));
    }
    for program in &component.programs {
        key = key.with(
            &program.name,
            go_build(component, &program.package, Path::new(""), Path::new("")).to_string(),
        );
    }
    if component.cgo {
        key = key.with("c", &toolchain.c);
    }
    place
        .build
        .join("components")
        .join(format!("{}-{}", component.name, key.short()))
}

/// Builds a component into `target`, replacing what is there.
pub(super) fn build(place: &Place<'_>, component: &Component, target: &Path) -> Result<()> {
    let dir = atomic::Dir::begin(target)?;
    for program in &component.programs {
        let output = dir.path().join(&program.name);
        let command = go_build(
            component,
            &program.package,
            &place.tree.join(&component.dir),
            &output,
        );
        let name = if component.programs.len() == 1 {
            component.name.clone()
        } else {
            format!("{}-{}", component.name, program.name)
        };
        let what = format!("component {}", component.name);
        job::run(&what, &command, &place.log(&name), place.cancel, place.stop)?;
        fs::set_permissions(&output, fs::Permissions::from_mode(0o755)).map_err(Error::io(&output))?;
    }
    cached::seal(dir, target, place.cancel)
}

/// The command that builds one program.
fn go_build(component: &Component, package: &str, module: &Path, output: &Path) -> Command {
    let mut command =
        Command::new("go")
            .arg("-C")
            .path(module)
            .args(["build", "-trimpath", "-buildvcs=false"]);
    if !component.tags.is_empty() {
        command = command.arg("-tags").arg(component.tags.join(","));
    }
    command
        .arg("-ldflags")
        .arg(&component.ldflags)
        .arg("-o")
        .path(output)
        .arg(package)
        .env("CGO_ENABLED", if component.cgo { "1" } else { "0" })
        .env("GOOS", "linux")
        .env("GOARCH", arch())
        // What the user has set for other work must not change what is built here.
        .env("GOFLAGS", "-mod=readonly")
        .env("GOWORK", "off")
        .env("GO111MODULE", "on")
        .deadline(DEADLINE)
}

/// What was built: programs of a component or a wheel, in a directory of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Built {
    /// Where they are.
    pub(super) dir: PathBuf,
    /// Their names.
    pub(super) programs: Vec<String>,
}

/// The path of a program among what was built.
pub(super) fn program(built: &[Built], name: &str) -> Result<PathBuf> {
    built
        .iter()
        .find(|built| built.programs.iter().any(|program| program == name))
        .map(|built| built.dir.join(name))
        .ok_or_else(|| Error::new(Kind::Bundle, format!("no component makes the program {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(name: &str) -> Component {
        let catalog = super::super::catalog().unwrap();
        catalog
            .components
            .into_iter()
            .find(|component| component.name == name)
            .unwrap()
    }

    #[test]
    fn a_program_is_built_as_one_would_by_hand() {
        let command = go_build(
            &component("runc"),
            "example.org/runc",
            Path::new("/tree/runc"),
            Path::new("/out/runc"),
        );
        let line = command.to_string();
        assert!(line.starts_with("CGO_ENABLED=1 GOOS=linux "), "{line}");
        assert!(
            line.contains(" go -C /tree/runc build -trimpath ") && line.contains("seccomp,"),
            "{line}"
        );
        assert!(line.ends_with(" -o /out/runc example.org/runc"), "{line}");
    }

    #[test]
    fn a_components_place_follows_its_inputs() {
        let (build, cancel) = (Path::new("/build"), Cancel::default());
        let place = Place {
            build,
            tree: Path::new("/tree"),
            cancel: &cancel,
            stop: &cancel,
        };
        let chain = Toolchain {
            go: "go1".into(),
            c: "cc1".into(),
        };
        let other_go = Toolchain {
            go: "go2".into(),
            c: "cc1".into(),
        };
        let other_c = Toolchain {
            go: "go1".into(),
            c: "cc2".into(),
        };
        let (runc, etcd) = (component("runc"), component("etcd"));
        assert_ne!(dir(&place, &runc, &chain), dir(&place, &runc, &other_go));
        assert_ne!(dir(&place, &runc, &chain), dir(&place, &runc, &other_c));
        assert_eq!(dir(&place, &etcd, &chain), dir(&place, &etcd, &other_c));
        let mut tagged = etcd.clone();
        tagged.tags.push("x".into());
        let mut alone = etcd.clone();
        assert_eq!(alone.uses, ["components/slack"]);
        alone.uses.clear();
        assert_ne!(dir(&place, &etcd, &chain), dir(&place, &alone, &chain));
        assert_ne!(dir(&place, &etcd, &chain), dir(&place, &tagged, &chain));
    }
}
