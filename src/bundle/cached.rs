//! Directories of the build cache: sealed with the sums of their files, and checked when a bundle takes files from them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::manifest::Manifest;
use crate::error::{Error, Kind, Result};
use crate::layout::BundleLayout;
use crate::progress::{Cancel, Silent};
use crate::store::sums::Sums;
use crate::store::{atomic, sparse};

/// Sums of the files in a directory of the cache.
const SUMS: &str = "sums.toml";

/// Puts a finished directory of the cache at its place, with the sums of its files.
pub(super) fn seal(dir: atomic::Dir, target: &Path, cancel: &Cancel) -> Result<()> {
    let sums = Manifest::sums(dir.path(), cancel, &Silent)?;
    let text = toml::to_string(&sums)
        .map_err(|error| Error::new(Kind::Internal, "sums cannot be written").because(error))?;
    atomic::write(&dir.path().join(SUMS), 0o644, text.as_bytes())?;
    atomic::remove(target)?;
    dir.commit()
}

/// Whether a directory was sealed and all its files have the size they had then.
pub(super) fn is_whole(dir: &Path) -> bool {
    sums(dir).is_some_and(|sums| {
        sums.iter()
            .all(|(name, sum)| dir.join(name).metadata().is_ok_and(|meta| meta.len() == sum.size))
    })
}

fn sums(dir: &Path) -> Option<Sums> {
    toml::from_str(&fs::read_to_string(dir.join(SUMS)).ok()?).ok()
}

/// A file of a bundle that is a file of the cache.
pub(super) struct Source {
    /// Path in the bundle.
    pub(super) name: &'static str,
    /// Directory of the cache.
    pub(super) dir: PathBuf,
    /// File there.
    pub(super) file: &'static str,
    /// Whether the bundle may share the file with the cache. Only what can be made again to the same bytes: damage in the bundle
    /// is damage in the cache then.
    pub(super) share: bool,
}

impl Source {
    /// Puts the file into the bundle: as a further name of the cache's file or as a copy.
    pub(super) fn place(&self, bundle: &BundleLayout) -> Result<()> {
        let (from, to) = (self.dir.join(self.file), bundle.0.join(self.name));
        if !self.share || fs::hard_link(&from, &to).is_err() {
            sparse::copy(&from, &to, &mut |_| ())?;
        }
        // Machines only read them: whoever would write to a shared file is told so by the system.
        let mode = if self.name.starts_with("bin/") {
            0o555
        } else {
            0o444
        };
        fs::set_permissions(&to, fs::Permissions::from_mode(mode)).map_err(Error::io(&to))
    }

    /// Whether the file still is what was put into the cache: a bundle that shares it would inherit its damage.
    pub(super) fn is_right(&self, manifest: &Manifest) -> bool {
        sums(&self.dir).is_some_and(|sums| {
            sums.get(self.file)
                .is_some_and(|sum| Some(sum) == manifest.files.get(self.name))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::Origin;
    use super::*;

    #[test]
    fn a_bundle_shares_files_of_the_cache_and_notices_damage_there() {
        let root = tempfile::tempdir().unwrap();
        let (target, bundle) = (
            root.path().join("cache/base-1"),
            BundleLayout(root.path().join("bundle")),
        );
        fs::create_dir(&bundle.0).unwrap();
        assert!(!is_whole(&target));
        let dir = atomic::Dir::begin(&target).unwrap();
        fs::write(dir.path().join("disk.raw"), "disk").unwrap();
        seal(dir, &target, &Cancel::default()).unwrap();
        assert!(is_whole(&target));
        let source = Source {
            name: "disk.raw",
            dir: target.clone(),
            file: "disk.raw",
            share: true,
        };
        source.place(&bundle).unwrap();
        let manifest = |bundle: &BundleLayout| Manifest {
            format: 1,
            key: String::new(),
            arch: String::new(),
            kubernetes: String::new(),
            created: String::new(),
            toolchain: String::new(),
            contract: 1,
            source: Origin::Build,
            base: String::new(),
            components: Vec::new(),
            images: Vec::new(),
            files: Manifest::sums(&bundle.0, &Cancel::default(), &Silent).unwrap(),
        };
        assert!(source.is_right(&manifest(&bundle)));
        atomic::remove(&target.join("disk.raw")).unwrap();
        assert!(!is_whole(&target));
        atomic::remove(&bundle.disk()).unwrap();
        fs::write(bundle.disk(), "dish").unwrap();
        assert!(!source.is_right(&manifest(&bundle)));
    }
}
