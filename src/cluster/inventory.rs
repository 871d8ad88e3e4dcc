//! All layers and bundles there are: what each is, who depends on it, and whether it may go.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;
use time::format_description::well_known::Rfc3339;

use super::layer::{self, Found, LayerKind, Manifest};
use super::uses::Uses;
use super::{Context, profile};
use crate::bundle;
use crate::error::Result;
use crate::layout::{LayerLayout, Layout, TEMPLATE_PREFIX};
use crate::store::lock;
use crate::store::tree::{self, disk_usage};

/// Unused files of a layer that are no larger than this stay as long as others of it are used.
const SMALL: u64 = 4 << 20;

/// A bundle or a layer, as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerInfo {
    /// "bundle", "ready", "snapshot" or "fork".
    pub kind: String,
    /// Its name among its kind.
    pub key: String,
    /// Space it takes on the disk.
    pub bytes: u64,
    /// When it was made, RFC 3339; empty when that is not known.
    pub created: String,
    /// Profiles and layers that depend on it.
    pub used_by: Vec<String>,
    /// What it is, for people.
    pub detail: String,
    /// What is wrong with it.
    pub damaged: Option<String>,
}

/// What may become of something in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is used, or it is the user's.
    Stays,
    /// It is good, and nobody uses it now.
    Spare,
    /// It is good for nothing.
    Junk,
}

/// Where something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Store {
    Bundles,
    ReadyLayers,
    UserLayers,
}

/// One thing that was found.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) info: LayerInfo,
    pub(super) store: Store,
    pub(super) dir: PathBuf,
    pub(super) fate: Fate,
    /// The bundles that it needs.
    pub(super) bundles: Vec<String>,
    pub(super) last_used: SystemTime,
    /// Held by whoever is making it.
    pub(super) lock: Option<PathBuf>,
    /// Large files of it that nobody uses, while others are used.
    pub(super) excess: Vec<PathBuf>,
}

/// Everything, in the order of kinds and keys.
///
/// # Errors
/// When a directory cannot be read.
pub(super) fn take(ctx: &Context, uses: &Uses) -> Result<Vec<Item>> {
    let mut items = ready_layers(ctx, uses)?;
    items.extend(user_layers(ctx, uses)?);
    let mut all = bundles(ctx, uses)?;
    for bundle in &mut all {
        let on_it = items
            .iter()
            .filter(|item| item.bundles.contains(&bundle.info.key));
        let names = on_it.map(|item| format!("{} {}", item.info.kind, item.info.key));
        bundle.info.used_by.extend(names);
    }
    all.extend(items);
    Ok(all)
}

fn bundles(ctx: &Context, uses: &Uses) -> Result<Vec<Item>> {
    let root = ctx.layout.bundles();
    let mut items = Vec::new();
    for entry in bundle::list(&ctx.layout)? {
        let dir = root.join(&entry.key);
        let used_by = uses.below(&dir);
        let (created, detail, damaged) = match entry.state {
            Ok(manifest) => (
                manifest.created,
                format!("Kubernetes {}", manifest.kubernetes),
                None,
            ),
            Err(damage) => (String::new(), String::new(), Some(damage)),
        };
        let info = LayerInfo {
            kind: "bundle".to_owned(),
            bytes: entry.disk_usage,
            created,
            detail,
            damaged,
            ..info(&entry.key, &used_by)
        };
        items.push(item(&ctx.layout, Store::Bundles, dir, info, spare(&used_by)));
    }
    for name in layer::names(&root)?.iter().filter(|name| name.starts_with('.')) {
        let dir = root.join(name);
        let info = LayerInfo {
            kind: "bundle".to_owned(),
            bytes: disk_usage(&dir),
            detail: "left over".to_owned(),
            ..info(name, &BTreeSet::new())
        };
        items.push(Item {
            lock: Some(ctx.layout.layer_lock("build")),
            ..item(&ctx.layout, Store::Bundles, dir, info, Fate::Junk)
        });
    }
    Ok(items)
}

fn ready_layers(ctx: &Context, uses: &Uses) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for name in layer::names(&ctx.layout.ready_layers())? {
        let files = ctx.layout.ready_layer(&name);
        items.push(if name.starts_with('.') {
            unfinished(ctx, &name, files.0)
        } else {
            let mut item = a_layer(ctx, uses, &name, &files, Store::ReadyLayers)?;
            item.fate = match item.fate {
                Fate::Junk if files.manifest().exists() => Fate::Spare,
                fate => fate,
            };
            item
        });
    }
    Ok(items)
}

/// Something that is being made, or whose maker was killed.
fn unfinished(ctx: &Context, name: &str, dir: PathBuf) -> Item {
    let key = name
        .strip_prefix(TEMPLATE_PREFIX)
        .or_else(|| name.strip_prefix(".new-")?.split('-').next());
    let lock = key.map(|key| ctx.layout.layer_lock(key));
    let busy = lock.as_ref().is_some_and(|path| lock::holder(path).is_some());
    let inner = Layout {
        data: dir.clone(),
        ..ctx.layout.clone()
    };
    let profiles = profile::list(&inner).unwrap_or_default();
    let profile = profiles.iter().find_map(|name| profile::load(&inner, name).ok());
    let info = LayerInfo {
        kind: "ready".to_owned(),
        bytes: disk_usage(&dir),
        detail: if busy { "being made" } else { "half made" }.to_owned(),
        ..info(name, &BTreeSet::new())
    };
    let fate = if busy { Fate::Stays } else { Fate::Junk };
    Item {
        lock,
        bundles: profile.map(|profile| profile.bundle).into_iter().collect(),
        ..item(&ctx.layout, Store::ReadyLayers, dir, info, fate)
    }
}

fn user_layers(ctx: &Context, uses: &Uses) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for id in layer::names(&ctx.layout.user_layers())? {
        let files = ctx.layout.user_layer(&id);
        let item = a_layer(ctx, uses, &id, &files, Store::UserLayers)?;
        let lock = ctx.layout.layer_lock(&id);
        let busy = lock::holder(&lock).is_some();
        items.push(Item {
            lock: Some(lock),
            fate: if busy { Fate::Stays } else { item.fate },
            excess: if busy { Vec::new() } else { item.excess },
            ..item
        });
    }
    Ok(items)
}

/// A layer that no name holds is junk when nobody uses it.
fn a_layer(ctx: &Context, uses: &Uses, name: &str, files: &LayerLayout, store: Store) -> Result<Item> {
    let used_by = uses.below(&files.0);
    let mut info = LayerInfo {
        bytes: disk_usage(&files.0),
        ..info(name, &used_by)
    };
    let unnamed = if used_by.is_empty() {
        Fate::Junk
    } else {
        Fate::Stays
    };
    let (held, bundles) = match layer::read(files)? {
        Ok(Some(manifest)) => {
            describe(&mut info, &manifest);
            let named = !manifest.name.is_empty();
            if (named || store == Store::ReadyLayers)
                && let Found::Damaged(damage) = layer::look(files)?
            {
                info.damaged = Some(damage);
            }
            (named, manifest.bundles())
        }
        Ok(None) => {
            info.kind = if store == Store::ReadyLayers {
                "ready"
            } else {
                "fork"
            }
            .to_owned();
            info.detail = "not complete".to_owned();
            if files.damaged().exists() {
                info.damaged = Some("it failed its check".to_owned());
            }
            (false, Vec::new())
        }
        // Somebody's data, perhaps.
        Err(damage) if store == Store::UserLayers => {
            info.kind = "snapshot".to_owned();
            info.damaged = Some(damage);
            (true, Vec::new())
        }
        Err(damage) => {
            info.kind = "ready".to_owned();
            info.damaged = Some(damage);
            (false, Vec::new())
        }
    };
    // Also where some machine stands on no more than its disk.
    let whole = held || store == Store::ReadyLayers && files.manifest().exists();
    let excess = if whole {
        Vec::new()
    } else {
        excess(uses, &files.0)?
    };
    Ok(Item {
        bundles,
        excess,
        ..item(
            &ctx.layout,
            store,
            files.0.clone(),
            info,
            if held { Fate::Stays } else { unnamed },
        )
    })
}

fn describe(info: &mut LayerInfo, manifest: &Manifest) {
    let spec = &manifest.spec;
    let sizes = format!("{} CPUs, {} MiB memory", spec.cpus, spec.memory_mib);
    (info.kind, info.detail) = match manifest.kind {
        LayerKind::Ready => ("ready".to_owned(), sizes),
        LayerKind::Snapshot if manifest.name.is_empty() => {
            ("snapshot".to_owned(), format!("of {}, deleted", manifest.profile))
        }
        LayerKind::Snapshot => (
            "snapshot".to_owned(),
            format!("\"{}\" of {}", manifest.name, manifest.profile),
        ),
        LayerKind::Fork => ("fork".to_owned(), format!("of {}", manifest.profile)),
    };
    info.created = manifest.created.format(&Rfc3339).unwrap_or_default();
    if !manifest.name.is_empty() && !info.used_by.contains(&manifest.profile) {
        info.used_by.push(manifest.profile.clone());
    }
}

/// Large files of a layer that nobody uses.
fn excess(uses: &Uses, dir: &Path) -> Result<Vec<PathBuf>> {
    let large = |path: &PathBuf| fs::metadata(path).is_ok_and(|meta| meta.len() > SMALL);
    Ok(tree::files(dir)?
        .into_iter()
        .filter(|path| large(path) && !uses.is_used(path))
        .collect())
}

fn spare(used_by: &BTreeSet<String>) -> Fate {
    if used_by.is_empty() {
        Fate::Spare
    } else {
        Fate::Stays
    }
}

fn info(key: &str, used_by: &BTreeSet<String>) -> LayerInfo {
    LayerInfo {
        kind: String::new(),
        key: key.to_owned(),
        bytes: 0,
        created: String::new(),
        used_by: used_by.iter().cloned().collect(),
        detail: String::new(),
        damaged: None,
    }
}

fn item(layout: &Layout, store: Store, dir: PathBuf, info: LayerInfo, fate: Fate) -> Item {
    let modified = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let last_used = modified(&layout.used_stamp(&info.key)).or_else(|| modified(&dir));
    Item {
        info,
        store,
        dir,
        fate,
        bundles: Vec::new(),
        last_used: last_used.unwrap_or(SystemTime::UNIX_EPOCH),
        lock: None,
        excess: Vec::new(),
    }
}
