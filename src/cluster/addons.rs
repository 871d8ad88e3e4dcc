//! Addons of a profile: those of a running cluster are changed at once, those of a stopped one by its next start.

use std::collections::BTreeMap;
use std::time::Duration;

use sampan_driver::MachineState;

use super::machine::Machine;
use super::steps::guest;
use super::{Context, Profile, access, profile, status};
use crate::addons::{self, Addon, Entry, Notes, Options, Registry, Site};
use crate::error::{Error, Kind, Result};
use crate::layout::BundleLayout;

/// How long a change waits for another verb on the same profile.
const LOCK_DEADLINE: Duration = Duration::from_secs(300);

/// What came of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// The cluster is so now.
    Now,
    /// The cluster is stopped: its next start makes it so.
    AtNextStart,
}

/// One addon in a list.
#[derive(Debug, Clone)]
pub struct Row {
    /// The addon.
    pub addon: Addon,
    /// Whether the cluster has it, as far as is known.
    pub enabled: bool,
    /// What the next start will do: enable (true) or disable it.
    pub wish: Option<bool>,
}

/// All addons.
#[derive(Debug, Clone)]
pub struct Listing {
    /// In the order of their names.
    pub rows: Vec<Row>,
    /// What is wrong with directories of the user's.
    pub troubles: Vec<String>,
}

/// The addons there are for a profile.
///
/// # Errors
/// [`Kind::NotFound`] without such a profile; those of [`Registry::load`].
pub fn registry(ctx: &Context, name: &str) -> Result<Registry> {
    load(ctx, &profile::load(&ctx.layout, name)?)
}

fn load(ctx: &Context, profile: &Profile) -> Result<Registry> {
    Registry::load(&profile.parts_bundle(&ctx.layout), &ctx.layout)
}

/// Says no to names that are none.
///
/// # Errors
/// As [`Registry::find`].
pub(super) fn check(ctx: &Context, bundle: &BundleLayout, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let registry = Registry::load(bundle, &ctx.layout)?;
    names.iter().try_for_each(|name| registry.find(name).map(drop))
}

/// What there is and what is enabled. Of a cluster that does not answer: as it was seen last.
///
/// # Errors
/// As [`registry`].
pub fn list(ctx: &Context, name: &str) -> Result<Listing> {
    let profile = profile::load(&ctx.layout, name)?;
    let registry = load(ctx, &profile)?;
    let path = ctx.layout.profile(name).addons_toml();
    let mut notes = Notes::read(&path)?;
    if state(ctx, &profile)? == MachineState::Running
        && let Ok(entries) = addons::entries(&status::api(ctx, &profile)?)
    {
        let seen = notes.seen.clone();
        notes.see(&enabled(&registry, &entries));
        if notes.seen != seen {
            // Only a memory: whoever cannot write it down still has the answer.
            let _ = notes.write(&path);
        }
    }
    let rows = registry.addons().map(|addon| Row {
        enabled: notes
            .seen
            .as_ref()
            .map_or(addon.about.default, |seen| seen.contains(&addon.name)),
        wish: notes.wishes.get(&addon.name).copied(),
        addon: addon.clone(),
    });
    Ok(Listing {
        rows: rows.collect(),
        troubles: registry.troubles().map(str::to_owned).collect(),
    })
}

/// Names of what is enabled. A cluster that was made by a sampan without addons has what is on by default.
fn enabled(registry: &Registry, entries: &BTreeMap<String, Entry>) -> Vec<String> {
    let is = |addon: &&Addon| {
        entries
            .get(&addon.name)
            .map_or(addon.about.default, |entry| entry.enabled)
    };
    registry
        .addons()
        .filter(is)
        .map(|addon| addon.name.clone())
        .collect()
}

/// Enables an addon. `services` are those it made, by namespace and name.
///
/// # Errors
/// [`Kind::AddonPaused`] for a cluster that is held; those of [`Registry::find`] and [`addons::enable`].
pub fn enable(ctx: &Context, name: &str, addon: &str) -> Result<(Done, Vec<(String, String)>)> {
    change(
        ctx,
        name,
        addon,
        |notes| notes.wish(addon, true),
        |site, addon, entry| {
            let rendered = addons::enable(site, addon, &entry.options)?;
            Ok((true, rendered.services()))
        },
    )
}

/// Disables an addon.
///
/// # Errors
/// As [`enable`].
pub fn disable(ctx: &Context, name: &str, addon: &str) -> Result<Done> {
    let note = |notes: &mut Notes| notes.wish(addon, false);
    let done = change(ctx, name, addon, note, |site, addon, entry| {
        addons::disable(site, addon, Some(entry))?;
        Ok((false, Vec::new()))
    })?;
    Ok(done.0)
}

/// Sets options of an addon; one that is enabled is made so at once.
///
/// # Errors
/// As [`enable`]; [`Kind::Usage`] for an option that it does not have.
pub fn configure(ctx: &Context, name: &str, addon: &str, options: &Options) -> Result<Done> {
    registry(ctx, name)?.find(addon)?.check(options)?;
    let note = |notes: &mut Notes| {
        notes
            .options
            .entry(addon.to_owned())
            .or_default()
            .extend(options.clone())
    };
    let done = change(ctx, name, addon, note, |site, addon, entry| {
        let mut all = entry.options.clone();
        all.extend(options.clone());
        if entry.enabled {
            addons::enable(site, addon, &all)?;
        } else {
            let entry = Entry {
                options: all,
                ..entry.clone()
            };
            addons::write_entry(site.node.api, &addon.name, &entry)?;
        }
        Ok((entry.enabled, Vec::new()))
    })?;
    Ok(done.0)
}

/// The options of an addon with their values.
///
/// # Errors
/// As [`registry`]; those of the API of a running cluster.
pub fn options(ctx: &Context, name: &str, addon: &str) -> Result<Options> {
    let profile = profile::load(&ctx.layout, name)?;
    let registry = load(ctx, &profile)?;
    let mut options = registry.find(addon)?.about.options.clone();
    if state(ctx, &profile)? == MachineState::Running {
        let entry = addons::entries(&status::api(ctx, &profile)?)?.remove(addon);
        options.extend(entry.unwrap_or_default().options);
    }
    let notes = Notes::read(&ctx.layout.profile(name).addons_toml())?;
    options.extend(notes.options.get(addon).cloned().unwrap_or_default());
    Ok(options)
}

/// Does something to a running cluster, or has it noted for the next start of a stopped one. `work` says whether the addon is enabled
/// afterwards, and which services it made.
fn change(
    ctx: &Context,
    name: &str,
    addon: &str,
    note: impl FnOnce(&mut Notes),
    work: impl FnOnce(&Site<'_>, &Addon, &Entry) -> Result<(bool, Vec<(String, String)>)>,
) -> Result<(Done, Vec<(String, String)>)> {
    let registry = registry(ctx, name)?;
    let addon = registry.find(addon)?;
    let _lock = profile::lock(ctx, name, LOCK_DEADLINE)?;
    let profile = profile::load(&ctx.layout, name)?;
    let path = ctx.layout.profile(name).addons_toml();
    let mut notes = Notes::read(&path)?;
    match state(ctx, &profile)? {
        MachineState::Running => {}
        MachineState::Paused => {
            return Err(
                Error::new(Kind::AddonPaused, format!("cluster \"{name}\" is paused"))
                    .hint(format!("run `sampan unpause -p {name}` first")),
            );
        }
        MachineState::Stopped | MachineState::Absent => {
            note(&mut notes);
            notes.write(&path)?;
            return Ok((Done::AtNextStart, Vec::new()));
        }
    }
    let (enabled, services) = access(ctx, name)?.with_node(|node| {
        let site = Site {
            node,
            address: profile.address,
        };
        let mut entry = addons::entries(node.api)?.remove(&addon.name).unwrap_or_default();
        entry
            .options
            .extend(notes.options.get(&addon.name).cloned().unwrap_or_default());
        work(&site, addon, &entry)
    })?;
    notes.settle(&addon.name, enabled);
    if let Err(error) = notes.write(&path) {
        ctx.reporter
            .warn(&format!("what is enabled cannot be noted: {error}"));
    }
    Ok((Done::Now, services))
}

/// Whether the cluster runs, and a change is work.
///
/// # Errors
/// [`Kind::NotFound`] without such a profile.
pub fn is_running(ctx: &Context, name: &str) -> Result<bool> {
    Ok(state(ctx, &profile::load(&ctx.layout, name)?)? == MachineState::Running)
}

fn state(ctx: &Context, profile: &Profile) -> Result<MachineState> {
    Machine::of(ctx, profile.clone())?.state()
}

/// The images of an addon: short names, and what they are in this cluster's bundle.
///
/// # Errors
/// As [`registry`]; [`Kind::Bundle`] when the bundle lacks one.
pub fn images(ctx: &Context, name: &str, addon: &str) -> Result<Vec<(String, String)>> {
    let profile = profile::load(&ctx.layout, name)?;
    let registry = load(ctx, &profile)?;
    let parts = guest::parts(&ctx.layout, &profile)?;
    let short = &registry.find(addon)?.about.images;
    short
        .iter()
        .map(|image| Ok((image.clone(), parts.image(image)?)))
        .collect()
}
