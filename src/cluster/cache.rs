//! `cache`: which bundles and layers there are, what of that may go, and whether it is whole. Nothing in use ever goes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::inventory::{self, Fate, Item, Store};
use super::layer::{self, Found};
use super::machine::Machine;
use super::uses::Uses;
use super::{Context, keep, profile, template};
use crate::bundle;
use crate::error::{Error, Kind, Result};
use crate::layout::LayerLayout;
use crate::store::atomic;
use crate::store::lock::Lock;

pub use super::inventory::LayerInfo;

/// Whoever else removes or chooses layers is done in a moment.
const LOCK_DEADLINE: Duration = Duration::from_secs(60);

/// All bundles and layers.
///
/// # Errors
/// When it cannot be determined what a profile uses.
pub fn list(ctx: &Context) -> Result<Vec<LayerInfo>> {
    let items = inventory::take(ctx, &Uses::of_all(ctx)?)?;
    Ok(items.into_iter().map(|item| item.info).collect())
}

/// Removes bundles and ready layers that nobody uses, least recently used first, until the cache takes no more than `quota`
/// bytes; without a quota, all of them. What killed processes and failed checks left goes always. Returns what went, or with
/// `dry_run` what would go. Snapshots are the user's.
///
/// # Errors
/// When it cannot be determined what a profile uses: then nothing goes.
pub fn prune(ctx: &Context, quota: Option<u64>, dry_run: bool) -> Result<Vec<LayerInfo>> {
    remove_chosen(ctx, dry_run, |items| plan(items, quota))
}

/// Removes what is chosen, in that order; returns what went, or with `dry_run` what would go.
pub(super) fn remove_chosen(
    ctx: &Context,
    dry_run: bool,
    choose: impl FnOnce(&[Item]) -> Vec<usize>,
) -> Result<Vec<LayerInfo>> {
    template::end_abandoned(ctx)?;
    let _lock = lock(ctx)?;
    refresh_all(ctx)?;
    let items = inventory::take(ctx, &Uses::of_all(ctx)?)?;
    let mut gone = Vec::new();
    for item in choose(&items).into_iter().map(|index| &items[index]) {
        ctx.cancel.check()?;
        if dry_run || remove(ctx, item)? {
            gone.push(item.info.clone());
        }
    }
    if !dry_run {
        items.iter().try_for_each(trim)?;
    }
    Ok(gone)
}

/// Removes layers of users' machines that have no name and that nobody stands on any more.
///
/// # Errors
/// As [`prune`].
pub(super) fn sweep(ctx: &Context) -> Result<()> {
    if layer::names(&ctx.layout.user_layers())?.is_empty() {
        return Ok(());
    }
    let _lock = lock(ctx)?;
    refresh_all(ctx)?;
    let items = inventory::take(ctx, &Uses::of_all(ctx)?)?;
    for item in items.iter().filter(|item| item.store == Store::UserLayers) {
        if item.fate == Fate::Junk {
            remove(ctx, item)?;
        } else {
            trim(item)?;
        }
    }
    Ok(())
}

/// Reads every file of every bundle and layer and compares its sum. Returns what is damaged; of that, ready layers and bundles
/// that no profile uses are set aside, and made again when they are needed.
///
/// # Errors
/// The I/O error with the path; [`Kind::Interrupted`].
pub fn verify(ctx: &Context) -> Result<Vec<LayerInfo>> {
    let mut damaged = Vec::new();
    for item in inventory::take(ctx, &Uses::of_all(ctx)?)? {
        ctx.cancel.check()?;
        let Some(damage) = damage(ctx, &item)? else {
            continue;
        };
        let files = LayerLayout(item.dir.clone());
        match item.store {
            Store::ReadyLayers if files.manifest().exists() => layer::set_aside(&files)?,
            Store::Bundles if item.fate == Fate::Spare => {
                atomic::set_aside(&item.dir)?;
            }
            _ => {}
        }
        damaged.push(LayerInfo {
            damaged: Some(damage),
            ..item.info
        });
    }
    Ok(damaged)
}

/// What is wrong with something that should be whole.
fn damage(ctx: &Context, item: &Item) -> Result<Option<String>> {
    if item.info.damaged.is_some() {
        return Ok(item.info.damaged.clone());
    }
    if item.fate == Fate::Junk {
        return Ok(None);
    }
    if item.store == Store::Bundles {
        return match bundle::find(&ctx.layout, &item.info.key)? {
            Some(bundle) => bundle::verify(&bundle, &*ctx.reporter),
            None => Ok(None),
        };
    }
    match layer::look(&LayerLayout(item.dir.clone()))? {
        Found::Whole(layer) => layer::verify(&layer, &*ctx.reporter),
        // What is left of a layer without a name need not be whole.
        Found::Damaged(_) | Found::Nothing => Ok(None),
    }
}

/// What goes, in this order.
fn plan(items: &[Item], quota: Option<u64>) -> Vec<usize> {
    let all = || 0..items.len();
    let mut gone: Vec<usize> = all().filter(|&index| items[index].fate == Fate::Junk).collect();
    loop {
        let rest = || all().filter(|index| !gone.contains(index));
        let counts = |index: &usize| items[*index].store != Store::UserLayers;
        let total: u64 = rest().filter(counts).map(|index| items[index].info.bytes).sum();
        if quota.is_some_and(|quota| total <= quota) {
            return gone;
        }
        let stood_on = |key: &String| rest().any(|other| items[other].bundles.contains(key));
        let next = rest()
            .filter(|&index| {
                let item = &items[index];
                item.fate == Fate::Spare && (item.store != Store::Bundles || !stood_on(&item.info.key))
            })
            .min_by_key(|&index| items[index].last_used);
        match next {
            Some(next) => gone.push(next),
            None => return gone,
        }
    }
}

/// Removes one thing; false when somebody is at work on it. The caller holds the lock of layers.
fn remove(ctx: &Context, item: &Item) -> Result<bool> {
    let removed = remove_dir(ctx, item)?;
    if removed {
        atomic::remove(&ctx.layout.used_stamp(&item.info.key))?;
    }
    Ok(removed)
}

fn remove_dir(ctx: &Context, item: &Item) -> Result<bool> {
    if item.store == Store::Bundles && item.fate == Fate::Spare {
        let removed = bundle::remove(&ctx.layout, &item.info.key, &*ctx.reporter, &ctx.cancel);
        return match removed {
            Err(error) if matches!(error.kind(), Kind::Locked | Kind::NotFound) => Ok(false),
            removed => removed.map(|_| true),
        };
    }
    let lock = match &item.lock {
        Some(path) => match Lock::try_acquire(path)? {
            Some(lock) => Some(lock),
            None => return Ok(false),
        },
        None => None,
    };
    // First what makes it a layer: killed in between, what is left is known for what it is.
    let files = LayerLayout(item.dir.clone());
    atomic::remove(&files.manifest())?;
    make_removable(&item.dir);
    atomic::remove(&item.dir)?;
    if item.store == Store::UserLayers
        && let Some(lock) = &lock
    {
        let _ = fs::remove_file(lock.path());
    }
    Ok(true)
}

/// Removes large files of a layer that others of are used.
fn trim(item: &Item) -> Result<()> {
    item.excess.iter().try_for_each(|path| atomic::remove(path))
}

/// Files can be removed from a directory that may be written to only.
fn make_removable(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o700));
}

/// Drops what is kept for profiles and not used by their machines any more. A profile that is at work keeps all.
fn refresh_all(ctx: &Context) -> Result<()> {
    for name in profile::list(&ctx.layout)? {
        let Some(_lock) = Lock::try_acquire(&ctx.layout.profile(&name).lock)? else {
            continue;
        };
        let Ok(profile) = profile::load(&ctx.layout, &name) else {
            continue;
        };
        let machine = Machine::of(ctx, profile)?;
        if let Err(error) = keep::refresh(ctx, &*machine.driver, &machine.profile) {
            tracing::warn!(%error, name, "what it keeps stays");
        }
    }
    Ok(())
}

fn lock(ctx: &Context) -> Result<Lock> {
    let path = ctx.layout.layers_lock();
    Lock::acquire(&path, "the layers", LOCK_DEADLINE, &ctx.cancel, &*ctx.reporter)
        .map_err(|error: Error| error.hint("nothing was removed"))
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::PathBuf;
    use std::time::SystemTime;

    use super::*;

    pub(in crate::cluster) fn thing(
        store: Store,
        key: &str,
        fate: Fate,
        bundle: Option<&str>,
        age: u64,
    ) -> Item {
        Item {
            info: LayerInfo {
                kind: String::new(),
                key: key.to_owned(),
                bytes: 10,
                created: String::new(),
                used_by: Vec::new(),
                detail: String::new(),
                damaged: None,
            },
            store,
            dir: PathBuf::new(),
            fate,
            bundles: bundle.map(str::to_owned).into_iter().collect(),
            last_used: SystemTime::UNIX_EPOCH + Duration::from_secs(1000 - age),
            lock: None,
            excess: Vec::new(),
        }
    }

    fn keys(items: &[Item], quota: Option<u64>) -> Vec<&str> {
        let plan = plan(items, quota);
        plan.into_iter()
            .map(|index| items[index].info.key.as_str())
            .collect()
    }

    #[test]
    fn a_bundle_goes_only_after_every_layer_on_it() {
        let items = [
            thing(Store::Bundles, "old", Fate::Spare, None, 9),
            thing(Store::ReadyLayers, "on-old", Fate::Spare, Some("old"), 1),
            thing(Store::Bundles, "used", Fate::Spare, None, 9),
            thing(Store::UserLayers, "snapshot", Fate::Stays, Some("used"), 9),
            thing(Store::Bundles, "busy", Fate::Stays, None, 9),
        ];
        assert_eq!(keys(&items, None), ["on-old", "old"]);
    }

    #[test]
    fn a_quota_takes_the_least_recently_used_and_no_more_than_needed() {
        let items = [
            thing(Store::ReadyLayers, "new", Fate::Spare, Some("b"), 1),
            thing(Store::ReadyLayers, "old", Fate::Spare, Some("b"), 5),
            thing(Store::ReadyLayers, "in-use", Fate::Stays, Some("b"), 9),
            thing(Store::Bundles, "b", Fate::Spare, None, 9),
            thing(Store::UserLayers, "mine", Fate::Stays, None, 9),
        ];
        assert_eq!(keys(&items, Some(30)), ["old"]);
        assert_eq!(keys(&items, Some(29)), ["old", "new"]);
        assert_eq!(keys(&items, Some(0)), ["old", "new"]);
        assert!(keys(&items, Some(40)).is_empty());
    }

    #[test]
    fn junk_goes_whatever_the_quota_is() {
        let items = [
            thing(Store::ReadyLayers, ".making-k", Fate::Junk, Some("b"), 1),
            thing(Store::Bundles, "b", Fate::Spare, None, 1),
        ];
        assert_eq!(keys(&items, Some(100)), [".making-k"]);
        assert_eq!(keys(&items, None), [".making-k", "b"]);
    }
}
