//! Bundles: all bits of a node in one directory, named by a hash of what they are made of. [`ensure`] finds the one that is wanted,
//! or gets it from its [`Source`]; a damaged one is set aside and made again, never used.

#[cfg(test)]
mod addon_files;
mod archive;
mod build;
mod cached;
mod catalog;
pub mod cloud;
mod components;
mod elsewhere;
mod gpt;
mod image_layers;
mod job;
mod layers;
mod manifest;
mod oci;
mod parts;
mod source;
mod tools;
mod tree;
pub mod upstream;
pub mod variant;
mod wheels;

use std::fs;
use std::time::Duration;

pub use archive::{EXTENSION, Exported, Imported, Input, Target, export, import};
pub use catalog::{Catalog, Component, Dest, Head, Image, Layer, LayerFile, LayerLink, Program};
pub use elsewhere::version_of;
pub use manifest::{Archive, CONTRACT, ComponentRef, FORMAT, ImageRef, Manifest, Origin};
pub use source::{Source, Wanted, ensure, locate, own_keys};
pub use tree::{catalog, write_addons};
pub use wheels::{Wheel, WheelFile, WheelProgram};

use crate::error::{Error, Kind, Result};
use crate::layout::{BundleLayout, Layout};
use crate::progress::{Cancel, Reporter};
use crate::store::lock::Lock;
use crate::store::tree::disk_usage;
use crate::store::{atomic, hash};

/// How long a build waits for another one: longer than any build takes.
const LOCK_DEADLINE: Duration = Duration::from_secs(2 * 60 * 60);

/// A bundle that looked whole when it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Its key: the name of its directory.
    pub key: String,
    /// Its files.
    pub layout: BundleLayout,
    /// What it holds.
    pub manifest: Manifest,
}

impl Bundle {
    /// sha256 of the base disk; empty when the manifest has none.
    pub fn base_sum(&self) -> String {
        self.manifest
            .files
            .get("disk.raw")
            .map(|file| file.sha256.clone())
            .unwrap_or_default()
    }
}

/// A bundle in a list.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// What it holds, or what is wrong with it.
    pub state: Result<Manifest, String>,
    /// Space it takes on the disk, in bytes.
    pub disk_usage: u64,
}

/// What is found under a key.
enum Found {
    Whole(Box<Bundle>),
    Damaged(String),
    Nothing,
}

/// The architecture bundles are made for here, as Go spells it.
pub fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The key of the bundle that this sampan uses for new profiles: a hash of the images tree, catalog included, and the
/// architecture. The Go toolchain is part of the components' keys only, so that a host without one can tell which bundle it needs.
///
/// # Errors
/// [`Kind::Bundle`] on an architecture that no bundle can be made for.
pub fn current_key() -> Result<String> {
    let arch = arch();
    if !["amd64", "arm64"].contains(&arch) {
        return Err(Error::new(
            Kind::Bundle,
            format!("there are no bundles for the architecture {arch}"),
        )
        .hint("sampan runs on amd64 and arm64"));
    }
    Ok(hash::Key::new("bundle 1")
        .with("tree", tree::hash_of(""))
        .with("arch", arch)
        .short())
}

/// Versions of Kubernetes that there are bundles of: first the one that is built, which all sources have, then those of upstream,
/// newest first.
///
/// # Errors
/// [`Kind::Bundle`] for a catalog that cannot be used.
pub fn versions(options: &upstream::Options) -> Result<Vec<String>> {
    let built = catalog()?.bundle.kubernetes;
    let mut versions = upstream::versions(options)?;
    versions.retain(|version| *version != built);
    versions.insert(0, built);
    Ok(versions)
}

/// The bundle of a key, if it is there and looks whole. Takes a few milliseconds.
///
/// # Errors
/// The I/O error with the path, or [`Kind::Bundle`] for a bundle of another format.
pub fn find(layout: &Layout, key: &str) -> Result<Option<Bundle>> {
    match look(layout, key)? {
        Found::Whole(bundle) => Ok(Some(*bundle)),
        Found::Damaged(_) | Found::Nothing => Ok(None),
    }
}

/// Some bundle for this host, this sampan's own first; none when nothing whole is here.
pub fn any(layout: &Layout) -> Option<Bundle> {
    let own = current_key().and_then(|key| find(layout, &key));
    if let Ok(Some(bundle)) = own {
        return Some(bundle);
    }
    let entries = list(layout).ok()?;
    let fits = |entry: &&Entry| entry.state.as_ref().is_ok_and(|manifest| manifest.arch == arch());
    let entry = entries.iter().find(fits)?;
    find(layout, &entry.key).ok().flatten()
}

/// The bundle of this sampan that is built from source: found, or built.
///
/// # Errors
/// [`Kind::HostTool`] when the host lacks tools, [`Kind::Bundle`] when something could not be built, [`Kind::Interrupted`], or
/// the I/O error with the path.
pub fn build_here(layout: &Layout, reporter: &dyn Reporter, cancel: &Cancel) -> Result<Bundle> {
    let key = current_key()?;
    if let Some(bundle) = find(layout, &key)? {
        return Ok(bundle);
    }
    let _lock = lock(layout, reporter, cancel)?;
    match look(layout, &key)? {
        Found::Whole(bundle) => return Ok(*bundle),
        Found::Damaged(damage) => set_aside(layout, &key, &damage, reporter)?,
        Found::Nothing => {}
    }
    let order = build::Order {
        key: &key,
        catalog: catalog()?,
        target: layout.bundles().join(&key),
        tidy: true,
    };
    put_together(layout, &order, reporter, cancel)?;
    made(layout, &key)
}

/// Builds; once more, where something in the build cache turns out to be damaged.
fn put_together(
    layout: &Layout,
    order: &build::Order<'_>,
    reporter: &dyn Reporter,
    cancel: &Cancel,
) -> Result<()> {
    if let Some(damaged) = build::build(layout, order, reporter, cancel)? {
        reporter.warn(&format!(
            "{} in the build cache is damaged; making it again",
            damaged.display()
        ));
        build::build(layout, order, reporter, cancel)?;
    }
    Ok(())
}

/// A bundle that was made just now.
fn made(layout: &Layout, key: &str) -> Result<Bundle> {
    match look(layout, key)? {
        Found::Whole(bundle) => Ok(*bundle),
        Found::Damaged(damage) => Err(Error::new(
            Kind::Bundle,
            format!("bundle {key} is damaged right after it was made: {damage}"),
        )
        .hint("check the disk and the host's memory")),
        Found::Nothing => Err(Error::new(
            Kind::Bundle,
            format!("bundle {key} vanished right after it was made"),
        )),
    }
}

/// Reads every file of a bundle and compares its sum; returns what is wrong.
///
/// # Errors
/// The I/O error with the path.
pub fn verify(bundle: &Bundle, reporter: &dyn Reporter) -> Result<Option<String>> {
    bundle.manifest.verify(&bundle.layout, reporter)
}

/// All bundles, sorted by key.
///
/// # Errors
/// The I/O error with the path.
pub fn list(layout: &Layout) -> Result<Vec<Entry>> {
    let dir = layout.bundles();
    let mut entries = Vec::new();
    let names = match fs::read_dir(&dir) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(entries),
        Err(error) => return Err(Error::io(&dir)(error)),
    };
    for name in names {
        let name = name.map_err(Error::io(&dir))?;
        let key = name.file_name().to_string_lossy().into_owned();
        if key.starts_with('.') {
            continue;
        }
        let state = match look(layout, &key) {
            Ok(Found::Whole(bundle)) => Ok(bundle.manifest),
            Ok(Found::Damaged(damage)) => Err(damage),
            Ok(Found::Nothing) => continue,
            Err(error) => Err(error.to_string()),
        };
        entries.push(Entry {
            state,
            disk_usage: disk_usage(&name.path()),
            key,
        });
    }
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(entries)
}

/// Removes a bundle; whether a profile still needs it is for the caller to know. Returns the bytes it took on the disk.
///
/// # Errors
/// [`Kind::NotFound`], [`Kind::Locked`] while a build runs, or the I/O error with the path.
pub fn remove(layout: &Layout, key: &str, reporter: &dyn Reporter, cancel: &Cancel) -> Result<u64> {
    let path = layout.bundles().join(key);
    if key.is_empty() || key.contains('/') || key.starts_with('.') || !path.is_dir() {
        return Err(Error::new(
            Kind::NotFound,
            format!("no bundle {key} in {}", layout.bundles().display()),
        )
        .hint("see `sampan bundle list`"));
    }
    let _lock = Lock::acquire(
        &build_lock(layout),
        "the bundle store",
        Duration::ZERO,
        cancel,
        reporter,
    )?;
    let freed = disk_usage(&path);
    // Out of sight at once, so that a killed process leaves no half bundle.
    let aside = atomic::set_aside(&path)?;
    atomic::remove(&aside)?;
    Ok(freed)
}

fn look(layout: &Layout, key: &str) -> Result<Found> {
    let files = BundleLayout(layout.bundles().join(key));
    let manifest = match Manifest::read(&files) {
        Ok(Some(manifest)) => manifest,
        Ok(None) if files.0.exists() => return Ok(Found::Damaged("bundle.toml is missing".to_owned())),
        Ok(None) => return Ok(Found::Nothing),
        Err(error) if error.kind() == Kind::Bundle => return Ok(Found::Damaged(error.to_string())),
        Err(error) => return Err(error),
    };
    if manifest.key != key {
        return Ok(Found::Damaged(format!(
            "it says that it is bundle {}",
            manifest.key
        )));
    }
    match manifest.damage(&files)? {
        Some(damage) => Ok(Found::Damaged(damage)),
        None => Ok(Found::Whole(Box::new(Bundle {
            key: key.to_owned(),
            layout: files,
            manifest,
        }))),
    }
}

fn set_aside(layout: &Layout, key: &str, damage: &str, reporter: &dyn Reporter) -> Result<()> {
    let aside = atomic::set_aside(&layout.bundles().join(key))?;
    reporter.warn(&format!(
        "bundle {key} is damaged ({damage}); making it again, the old one is in {}",
        aside.display()
    ));
    Ok(())
}

/// One build at a time: they share the components.
fn build_lock(layout: &Layout) -> std::path::PathBuf {
    layout.layer_lock("build")
}

fn lock(layout: &Layout, reporter: &dyn Reporter, cancel: &Cancel) -> Result<Lock> {
    Lock::acquire(
        &build_lock(layout),
        "the bundle store",
        LOCK_DEADLINE,
        cancel,
        reporter,
    )
}
