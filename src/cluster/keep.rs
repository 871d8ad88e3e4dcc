//! What a machine stands on stays with its profile: hard links to files of layers and bundles in `kept/`, named by the files'
//! full paths. They cost no room, and a cache that was removed by hand is put back from them.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sampan_driver::Driver;

use super::layer::Layer;
use super::{Context, Profile, machine, profile, uses};
use crate::error::{Error, Kind, Result};
use crate::layout::ProfileLayout;
use crate::store::lock::Lock;
use crate::store::{atomic, tree};

/// Whoever removes layers is done in a moment.
const LOCK_DEADLINE: Duration = Duration::from_secs(60);

/// Other files of a layer that are no larger than this are kept with those that are used, so that it is whole again.
const SMALL: u64 = 4 << 20;

/// Sees to it that a layer is not removed until the profile's machine was forked from it; false when it has gone already.
///
/// # Errors
/// The I/O error with the path.
pub(super) fn claim(ctx: &Context, files: &ProfileLayout, layer: &Layer) -> Result<bool> {
    let path = ctx.layout.layers_lock();
    let _lock = Lock::acquire(&path, "the layers", LOCK_DEADLINE, &ctx.cancel, &*ctx.reporter)?;
    if !layer.files.manifest().exists() {
        return Ok(false);
    }
    let dir = layer.files.0.to_string_lossy();
    atomic::write(&files.claim(), 0o600, dir.as_bytes())?;
    for key in [&layer.manifest.key, &layer.manifest.bundle] {
        atomic::write(&ctx.layout.used_stamp(key), 0o600, b"")?;
    }
    Ok(true)
}

/// All files of the layer that a profile has claimed.
pub(super) fn claimed(files: &ProfileLayout) -> Result<Vec<PathBuf>> {
    match fs::read_to_string(files.claim()) {
        Ok(dir) => tree::files(Path::new(&dir)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io(&files.claim())(error)),
    }
}

/// Keeps what the profile's machine stands on now, and nothing else. The caller holds the profile's lock.
///
/// # Errors
/// The I/O error with the path. That something is on another file system, where it cannot be kept, is none.
pub(super) fn refresh(ctx: &Context, driver: &dyn Driver, profile: &Profile) -> Result<()> {
    let files = ctx.layout.profile(&profile.spec.name);
    let wanted = wanted(ctx, driver, profile)?;
    for path in &wanted {
        keep(&files, path)?;
    }
    // While something is missing, nobody knows what else is below it.
    if wanted.iter().all(|path| path.exists()) {
        for (path, link) in kept(&files)? {
            if !wanted.contains(&path) {
                atomic::remove(&link)?;
            }
        }
        prune_empty(&files.kept());
    }
    atomic::remove(&files.claim())
}

/// What a machine needs to go on, to boot or to be forked again.
fn wanted(ctx: &Context, driver: &dyn Driver, profile: &Profile) -> Result<Vec<PathBuf>> {
    let mut wanted = match driver.snapshots() {
        Some(snapshots) => snapshots.uses(&machine::spec(ctx, profile)?)?,
        None => Vec::new(),
    };
    let layers = [ctx.layout.ready_layers(), ctx.layout.user_layers()].map(|dir| uses::real(&dir));
    let of_layers: Vec<PathBuf> = wanted.iter().filter_map(|path| layer_of(&layers, path)).collect();
    for dir in of_layers {
        let small = |path: &PathBuf| fs::metadata(path).is_ok_and(|meta| meta.len() <= SMALL);
        wanted.extend(tree::files(&dir)?.into_iter().filter(small));
    }
    for bundle in [
        ctx.layout.bundle(&profile.bundle),
        profile.parts_bundle(&ctx.layout),
    ] {
        wanted.extend(tree::files(&uses::real(&bundle.0))?);
    }
    wanted.sort();
    wanted.dedup();
    Ok(wanted)
}

/// The directory of the layer that a file is in.
fn layer_of(layers: &[PathBuf], path: &Path) -> Option<PathBuf> {
    layers.iter().find_map(|dir| {
        let name = path.strip_prefix(dir).ok()?.components().next()?;
        Some(dir.join(name))
    })
}

fn keep(files: &ProfileLayout, path: &Path) -> Result<()> {
    let Ok(relative) = path.strip_prefix("/") else {
        return Ok(());
    };
    let link = files.kept().join(relative);
    if !path.is_file() || same_file(path, &link) {
        return Ok(());
    }
    atomic::remove(&link)?;
    if let Some(parent) = link.parent() {
        atomic::make_private_dir(parent)?;
    }
    match fs::hard_link(path, &link) {
        Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            Err(Error::io(&link)(error))
        }
        // Another file system, or one without links: then the file is all there is.
        Err(error) => {
            tracing::debug!(%error, path = %path.display(), "cannot be kept");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Files that are kept for a profile: where they belong, and their links.
///
/// # Errors
/// The I/O error with the path.
pub(super) fn kept(files: &ProfileLayout) -> Result<Vec<(PathBuf, PathBuf)>> {
    let kept = files.kept();
    let links = tree::files(&kept)?;
    let place = |link: &PathBuf| Some(Path::new("/").join(link.strip_prefix(&kept).ok()?));
    Ok(links
        .into_iter()
        .filter_map(|link| Some((place(&link)?, link)))
        .collect())
}

/// Puts back what is missing of layers and bundles, as far as any profile keeps it; then looks whether all that the profile
/// `name` keeps is what it was.
///
/// # Errors
/// [`Kind::HostPath`] when another file took the place of one that the profile's machine stands on.
pub(super) fn heal(ctx: &Context, name: &str) -> Result<()> {
    for profile in profile::list(&ctx.layout)? {
        let mut healed = Vec::new();
        for (path, link) in kept(&ctx.layout.profile(&profile))? {
            if !path.exists() && put_back(&path, &link) {
                healed.push(path);
            }
        }
        if let Some(first) = healed.first() {
            ctx.reporter.warn(&format!(
                "{} files that profile \"{profile}\" stands on were removed and are put back: {}{}",
                healed.len(),
                first.display(),
                if healed.len() > 1 { ", …" } else { "" }
            ));
        }
    }
    let bundles = uses::real(&ctx.layout.bundles());
    for (path, link) in kept(&ctx.layout.profile(name))? {
        // A bundle that was made again is known by its sum.
        if !path.starts_with(&bundles) && !is_as_it_was(&path, &link) {
            return Err(replaced(name, &path, &link));
        }
    }
    Ok(())
}

fn put_back(path: &Path, link: &Path) -> bool {
    let parent = path.parent().unwrap_or(path);
    let linked = fs::create_dir_all(parent).and_then(|()| fs::hard_link(link, path));
    // Somebody else may have been quicker.
    linked.is_ok() || path.exists()
}

/// Whether a file is the one that was kept, or has been put back from a backup. What sampan itself writes anew may differ.
fn is_as_it_was(path: &Path, link: &Path) -> bool {
    let (Ok(is), Ok(was)) = (fs::metadata(path), fs::metadata(link)) else {
        return true;
    };
    let stamp = |meta: &fs::Metadata| (meta.size(), meta.mtime(), meta.mtime_nsec());
    is.ino() == was.ino() || stamp(&is) == stamp(&was) || was.len() <= SMALL
}

fn replaced(name: &str, path: &Path, link: &Path) -> Error {
    Error::new(
        Kind::HostPath,
        format!(
            "{} is not the file any more that the disk of profile \"{name}\" stands on",
            path.display()
        ),
    )
    .hint(format!(
        "the right one is {}: move the other away, then start again",
        link.display()
    ))
}

/// Says of an error at the start of a machine what is missing, if that is why.
pub(super) fn explain(ctx: &Context, driver: &dyn Driver, profile: &Profile, error: Error) -> Error {
    let spec = machine::spec(ctx, profile);
    let uses = spec
        .ok()
        .and_then(|spec| driver.snapshots()?.uses(&spec).ok())
        .unwrap_or_default();
    let Some(missing) = uses.iter().find(|path| !path.exists()) else {
        return error;
    };
    let name = &profile.spec.name;
    let what = if missing.starts_with(uses::real(&ctx.layout.bundles())) {
        "a bundle"
    } else if missing.starts_with(uses::real(&ctx.layout.ready_layers())) {
        "a ready snapshot"
    } else {
        "a layer of another machine"
    };
    Error::new(
        Kind::HostPath,
        format!(
            "{} is missing: it is part of {what} that the disk of profile \"{name}\" stands on",
            missing.display()
        ),
    )
    .hint("put it back from a backup, if there is one")
    .hint(format!(
        "or begin anew: `sampan delete -p {name}`, then `sampan start -p {name}`"
    ))
    .because(error)
}

fn same_file(one: &Path, two: &Path) -> bool {
    let id = |path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    id(one).is_some_and(|one| id(two) == Some(one))
}

/// Removes directories that nothing is in any more.
fn prune_empty(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            prune_empty(&entry.path());
        }
    }
    // Those that are not empty stay.
    let _ = fs::remove_dir(dir);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile_in(dir: &Path) -> ProfileLayout {
        crate::layout::Layout::under(dir).profile("p")
    }

    #[test]
    fn a_kept_file_is_put_back_and_is_the_same_one() {
        let dir = tempfile::tempdir().unwrap();
        let (files, path) = (profile_in(dir.path()), dir.path().join("layers/a/disk"));
        atomic::write(&path, 0o600, b"disk").unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        keep(&files, &path).unwrap();
        keep(&files, &path).unwrap();
        fs::remove_dir_all(dir.path().join("layers")).unwrap();
        let kept = kept(&files).unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].0, path);
        assert!(put_back(&kept[0].0, &kept[0].1));
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    }

    #[test]
    fn another_file_in_the_place_of_a_kept_one_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let (files, path) = (profile_in(dir.path()), dir.path().join("disk"));
        fs::write(&path, vec![1; SMALL as usize + 1]).unwrap();
        keep(&files, &path).unwrap();
        let link = kept(&files).unwrap()[0].1.clone();
        assert!(is_as_it_was(&path, &link));
        fs::remove_file(&path).unwrap();
        fs::copy(&link, &path).unwrap();
        let modified = fs::metadata(&link).unwrap().modified().unwrap();
        let copy = fs::File::options().append(true).open(&path).unwrap();
        copy.set_modified(modified).unwrap();
        assert!(is_as_it_was(&path, &link), "a backup");
        copy.set_modified(modified - Duration::from_secs(1)).unwrap();
        assert!(!is_as_it_was(&path, &link));
    }

    #[test]
    fn a_file_is_found_in_its_layer() {
        let layers = [PathBuf::from("/c/layers"), PathBuf::from("/d/layers")];
        let of = |path: &str| layer_of(&layers, Path::new(path));
        assert_eq!(of("/d/layers/x/state/disk"), Some("/d/layers/x".into()));
        assert_eq!(of("/c/bundles/x/disk"), None);
    }

    #[test]
    fn directories_without_links_go() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("kept/a/b/c")).unwrap();
        fs::write(dir.path().join("kept/a/file"), "").unwrap();
        prune_empty(&dir.path().join("kept"));
        assert!(dir.path().join("kept/a/file").exists());
        assert!(!dir.path().join("kept/a/b").exists());
    }
}
