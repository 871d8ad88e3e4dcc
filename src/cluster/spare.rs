//! `bundle prune`: bundles that nobody uses, what is left of downloads, and what builds left.

use std::fs;
use std::path::{Path, PathBuf};

use super::Context;
use super::cache::{self, LayerInfo};
use super::inventory::{Fate, Item, Store};
use crate::error::{Error, Result};
use crate::layout::DownloadsLayout;
use crate::store::atomic;
use crate::store::lock::Lock;
use crate::store::tree::disk_usage;

/// What is left of something: its kind, and where it is.
type Left = (&'static str, PathBuf);

/// Removes bundles that no cluster, snapshot or fork stands on, with the ready snapshots made of them; what is left of downloads;
/// leftovers of builds. Bundles in `own`, whole downloads and the build cache go with `all` only. Returns what went, or with
/// `dry_run` what would go.
///
/// # Errors
/// When it cannot be determined what a profile uses: then nothing goes.
pub fn prune_bundles(ctx: &Context, own: &[String], all: bool, dry_run: bool) -> Result<Vec<LayerInfo>> {
    let mut gone = cache::remove_chosen(ctx, dry_run, |items| chosen(items, own, all))?;
    // Held until all is removed.
    let (mut paths, _locks) = parts(ctx)?;
    let build = Lock::try_acquire(&ctx.layout.layer_lock("build"))?;
    if build.is_some() {
        paths.extend(builds(ctx, all)?);
    }
    if all {
        paths.extend(downloads(ctx)?);
    }
    for (kind, path) in paths {
        ctx.cancel.check()?;
        gone.push(LayerInfo {
            kind: kind.to_owned(),
            key: path
                .strip_prefix(&ctx.layout.cache)
                .unwrap_or(&path)
                .display()
                .to_string(),
            bytes: if path.is_dir() {
                disk_usage(&path)
            } else {
                usage(&path)
            },
            created: String::new(),
            used_by: Vec::new(),
            detail: String::new(),
            damaged: None,
        });
        if !dry_run {
            atomic::remove(&path)?;
        }
    }
    Ok(gone)
}

/// Which of the bundles and layers go, in this order: what stands on a bundle before the bundle.
fn chosen(items: &[Item], own: &[String], all: bool) -> Vec<usize> {
    let mut gone = Vec::new();
    for (index, item) in items.iter().enumerate() {
        if item.store != Store::Bundles {
            continue;
        }
        if item.fate == Fate::Junk {
            gone.push(index);
            continue;
        }
        let on_it = |other: &&Item| other.bundles.contains(&item.info.key);
        let free =
            item.fate == Fate::Spare && items.iter().filter(on_it).all(|other| other.fate != Fate::Stays);
        if free && (all || !own.contains(&item.info.key)) {
            gone.extend((0..items.len()).filter(|&other| on_it(&&items[other])));
            gone.push(index);
        }
    }
    gone
}

/// What was fetched of something so far, unless somebody is fetching it right now.
fn parts(ctx: &Context) -> Result<(Vec<Left>, Vec<Lock>)> {
    let downloads = DownloadsLayout(ctx.layout.downloads());
    let (mut found, mut locks) = (Vec::new(), Vec::<Lock>::new());
    for path in entries(&ctx.layout.downloads().join("parts"))? {
        let id = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let is_lock = path.extension().is_some_and(|extension| extension == "lock");
        if is_lock {
            continue;
        }
        let lock = downloads.part_lock(&id);
        if !locks.iter().any(|held| held.path() == lock) {
            match Lock::try_acquire(&lock)? {
                Some(held) => locks.push(held),
                None => continue,
            }
        }
        found.push(("download", path));
    }
    Ok((found, locks))
}

/// Whole downloads. What was known of the sums of others stays.
fn downloads(ctx: &Context) -> Result<Vec<Left>> {
    let mut found = Vec::new();
    for folder in ["sha256", "sha512"] {
        let files = entries(&ctx.layout.downloads().join(folder))?;
        found.extend(files.into_iter().map(|path| ("download", path)));
    }
    Ok(found)
}

/// What killed builds left, or all of the build cache. The caller holds its lock.
fn builds(ctx: &Context, all: bool) -> Result<Vec<Left>> {
    let root = ctx.layout.build();
    let mut found = Vec::new();
    for path in entries(&root)? {
        if all || is_left_over(&path) {
            found.push(("build", path));
        } else if path.is_dir() {
            let left = entries(&path)?.into_iter().filter(|path| is_left_over(path));
            found.extend(left.map(|path| ("build", path)));
        }
    }
    Ok(found)
}

fn is_left_over(path: &Path) -> bool {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    name.starts_with(".new-") || name.starts_with(".damaged-")
}

fn usage(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    path.symlink_metadata().map_or(0, |meta| meta.blocks() * 512)
}

/// What is in a directory, sorted. No directory has nothing.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(dir)(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(Error::io(dir))?.path());
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::super::cache::tests::thing;
    use super::*;

    #[test]
    fn a_bundle_goes_with_what_was_made_of_it_unless_somebody_stands_on_it() {
        let items = [
            thing(Store::Bundles, "own", Fate::Spare, None, 1),
            thing(Store::Bundles, "old", Fate::Spare, None, 1),
            thing(Store::Bundles, "used", Fate::Stays, None, 1),
            thing(Store::Bundles, "below-a-snapshot", Fate::Spare, None, 1),
            thing(Store::Bundles, ".new-x", Fate::Junk, None, 1),
            thing(Store::ReadyLayers, "on-own", Fate::Spare, Some("own"), 1),
            thing(Store::ReadyLayers, "on-old", Fate::Spare, Some("old"), 1),
            thing(
                Store::UserLayers,
                "snapshot",
                Fate::Stays,
                Some("below-a-snapshot"),
                1,
            ),
        ];
        let keys = |all| {
            let chosen = chosen(&items, &["own".to_owned()], all);
            chosen
                .into_iter()
                .map(|index| items[index].info.key.as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!(keys(false), ["on-old", "old", ".new-x"]);
        assert_eq!(keys(true), ["on-own", "own", "on-old", "old", ".new-x"]);
    }
}
