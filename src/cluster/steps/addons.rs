//! What is added to a cluster: the addons that every new one has, and those that the user wants.

use std::collections::BTreeMap;

use super::Step;
use super::guest::with_node;
use crate::addons::{self, Addon, Entry, Notes, Options, Registry, Site};
use crate::cluster::start::Run;
use crate::error::{Kind, Result};
use crate::supervisor;

/// The addons that every new cluster has. What a user disabled stays so.
pub(in crate::cluster) struct DefaultAddons;

impl Step for DefaultAddons {
    fn names(&self) -> (&'static str, &'static str) {
        ("Configuring Storage", "setting up storage")
    }

    fn is_done(&self, run: &mut Run<'_>) -> Result<bool> {
        if run.settled {
            return Ok(true);
        }
        let registry = registry(run)?;
        with_site(run, |site| Ok(missing(site, &registry)?.is_empty()))
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        let registry = registry(run)?;
        with_site(run, |site| {
            for (addon, options) in missing(site, &registry)? {
                addons::apply(site, addon, &options)?;
            }
            Ok(())
        })
    }
}

/// Default addons that are not there as they should be, with what was configured.
fn missing<'a>(site: &Site<'_>, registry: &'a Registry) -> Result<Vec<(&'a Addon, Options)>> {
    let entries = addons::entries(site.node.api)?;
    let mut missing = Vec::new();
    for addon in registry.addons().filter(|addon| addon.about.default) {
        let entry = entries.get(&addon.name);
        if entry.is_none() || is_stale(site, addon, entry)? {
            missing.push((
                addon,
                entry.map(|entry| entry.options.clone()).unwrap_or_default(),
            ));
        }
    }
    Ok(missing)
}

/// Whether an addon is enabled and what was applied is not what would be applied now.
fn is_stale(site: &Site<'_>, addon: &Addon, entry: Option<&Entry>) -> Result<bool> {
    let Some(entry) = entry.filter(|entry| entry.enabled) else {
        return Ok(false);
    };
    Ok(addons::render(site, addon, &entry.options)?.digest != entry.applied)
}

/// What the user wants beyond that: asked for with this start, or while the cluster was stopped. That an addon does not come up
/// is no reason for a cluster not to: it is told, and tried again by the next start.
pub(in crate::cluster) struct Addons;

impl Step for Addons {
    fn names(&self) -> (&'static str, &'static str) {
        ("Enabling Addons", "enabling addons")
    }

    fn is_done(&self, run: &mut Run<'_>) -> Result<bool> {
        if !run.request.addons.is_empty() || Notes::read(&run.files.addons_toml())?.is_pending() {
            return Ok(false);
        }
        // A fork of a ready snapshot, and a cluster that goes on where it was, have what they should have; others are looked at.
        let moved = !run.settled || (run.is_fork && run.layer.is_none());
        if !moved {
            return Ok(true);
        }
        let registry = registry(run)?;
        with_site(run, |site| Ok(stale(site, &registry)?.is_empty()))
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        let registry = registry(run)?;
        let path = run.files.addons_toml();
        let mut notes = Notes::read(&path)?;
        for name in &run.request.addons {
            notes.wish(name, true);
        }
        notes.write(&path)?;
        // An addon may wait until its Service is published.
        supervisor::nudge(run.ctx, &run.request.spec.name, run.woken);
        with_site(run, |site| {
            for (name, enable) in wanted(site, &registry, &notes)? {
                match change(site, &registry, &name, enable, &notes) {
                    Err(error) if error.kind() == Kind::Interrupted => return Err(error),
                    Err(error) => run.ctx.reporter.warn(&format!(
                        "{name}: {error} (the next start tries again, so does `sampan addons {} {name}`)",
                        if enable { "enable" } else { "disable" }
                    )),
                    Ok(()) => {
                        notes.settle(&name, enable);
                        notes.write(&path)?;
                    }
                }
            }
            Ok(())
        })
    }
}

/// Names of what is to be done, and whether it is to be enabled.
fn wanted(site: &Site<'_>, registry: &Registry, notes: &Notes) -> Result<BTreeMap<String, bool>> {
    let entries = addons::entries(site.node.api)?;
    let is_enabled = |name: &String| entries.get(name).is_some_and(|entry| entry.enabled);
    let configured = notes.options.keys().filter(|name| is_enabled(name));
    let mut wanted: BTreeMap<String, bool> = configured.map(|name| (name.clone(), true)).collect();
    wanted.extend(stale(site, registry)?.into_iter().map(|name| (name, true)));
    wanted.extend(notes.wishes.clone());
    Ok(wanted)
}

fn stale(site: &Site<'_>, registry: &Registry) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (name, entry) in addons::entries(site.node.api)? {
        let Ok(addon) = registry.find(&name) else { continue };
        if is_stale(site, addon, Some(&entry))? {
            names.push(name);
        }
    }
    Ok(names)
}

fn change(site: &Site<'_>, registry: &Registry, name: &str, enable: bool, notes: &Notes) -> Result<()> {
    let addon = registry.find(name)?;
    let entry = addons::entries(site.node.api)?.remove(name).unwrap_or_default();
    if !enable {
        return addons::disable(site, addon, Some(&entry));
    }
    let mut options = entry.options;
    options.extend(notes.options.get(name).cloned().unwrap_or_default());
    addons::enable(site, addon, &options).map(drop)
}

fn registry(run: &Run<'_>) -> Result<Registry> {
    Registry::load(&run.bundle()?.layout, &run.ctx.layout)
}

fn with_site<T>(run: &Run<'_>, call: impl FnOnce(&Site<'_>) -> Result<T>) -> Result<T> {
    let address = run.profile()?.address;
    with_node(run, |node| call(&Site { node, address }))
}
