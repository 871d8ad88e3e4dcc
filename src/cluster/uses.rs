//! Which files of layers and bundles the machines of all profiles depend on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::machine::{self, Machine};
use super::{Context, drivers, keep, profile};
use crate::error::{Kind, Result};

/// Files, with the names of profiles that depend on them.
#[derive(Debug, Default)]
pub(super) struct Uses(BTreeMap<PathBuf, BTreeSet<String>>);

impl Uses {
    /// What all profiles depend on, damaged ones too.
    ///
    /// # Errors
    /// When it cannot be determined of one of them: then nothing may be removed.
    pub(super) fn of_all(ctx: &Context) -> Result<Self> {
        let mut uses = Self::default();
        for name in profile::list(&ctx.layout)? {
            for path in of_profile(ctx, &name)? {
                uses.add(&path, &name);
            }
        }
        Ok(uses)
    }

    pub(super) fn add(&mut self, path: &Path, name: &str) {
        self.0.entry(real(path)).or_default().insert(name.to_owned());
    }

    /// Whether somebody depends on this file.
    pub(super) fn is_used(&self, path: &Path) -> bool {
        self.0.contains_key(&real(path))
    }

    /// Who depends on something in this directory.
    pub(super) fn below(&self, dir: &Path) -> BTreeSet<String> {
        let dir = real(dir);
        let used = self.0.iter().filter(|(path, _)| path.starts_with(&dir));
        used.flat_map(|(_, names)| names.clone()).collect()
    }
}

/// A path without links in it. Drivers name files so, as far as they are there.
pub(super) fn real(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if !parent.as_os_str().is_empty() => real(parent).join(name),
        _ => path.to_owned(),
    }
}

/// What one profile depends on: what its driver says of its machine, the bundle it was made of, and what is kept for it.
fn of_profile(ctx: &Context, name: &str) -> Result<Vec<PathBuf>> {
    let files = ctx.layout.profile(name);
    let mut uses: Vec<PathBuf> = keep::kept(&files)?.into_iter().map(|(path, _)| path).collect();
    uses.extend(keep::claimed(&files)?);
    match profile::load(&ctx.layout, name) {
        Ok(profile) => {
            uses.push(ctx.layout.bundle(&profile.bundle).disk());
            uses.push(profile.parts_bundle(&ctx.layout).parts());
            let machine = Machine::of(ctx, profile)?;
            if let Some(snapshots) = machine.driver.snapshots() {
                uses.extend(snapshots.uses(&machine.spec)?);
            }
        }
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::HostConfig) => {
            // Which driver it had is lost: each one says what it sees.
            for driver in drivers::driver_names(&ctx.drivers) {
                let driver = drivers::open_driver(&driver, &ctx.layout, &ctx.drivers)?;
                if let Some(snapshots) = driver.snapshots() {
                    uses.extend(snapshots.uses(&machine::orphan(ctx, name))?);
                }
            }
        }
        Err(error) => return Err(error),
    }
    Ok(uses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_any_of_their_names() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("layer")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("layer"), dir.path().join("link")).unwrap();
        let mut uses = Uses::default();
        uses.add(&dir.path().join("link/disk"), "a");
        uses.add(&dir.path().join("layer/gone/memory"), "b");
        assert!(uses.is_used(&dir.path().join("layer/disk")));
        assert!(!uses.is_used(&dir.path().join("layer/dis")));
        let names: Vec<String> = uses.below(&dir.path().join("layer")).into_iter().collect();
        assert_eq!(names, ["a", "b"]);
        assert!(uses.below(&dir.path().join("lay")).is_empty());
    }
}
