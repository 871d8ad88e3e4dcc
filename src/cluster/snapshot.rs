//! `snapshot`: moments of a profile that have names. Each is a layer of its machine.

use std::time::Duration;

use sampan_driver::MachineState;
use serde::{Serialize, Serializer};
use time::OffsetDateTime;

use super::layer::{self, Found, Layer, LayerKind, Manifest};
use super::machine::Machine;
use super::start::{StartRequest, Started, start};
use super::taking;
use super::{Context, Profile, cache, keep, profile, upgrade, verdict};
use crate::error::{Error, Kind, Result};
use crate::layout::{LayerLayout, Layout};
use crate::settings;
use crate::store::atomic;
use crate::store::tree::disk_usage;

/// How long a verb waits for another one on the same profile.
const LOCK_DEADLINE: Duration = Duration::from_secs(300);

/// A snapshot, as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotInfo {
    /// Its name; unique in its profile.
    pub name: String,
    /// The profile it is of.
    pub profile: String,
    /// When it was taken.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// Whether it holds memory: the machine goes on from it. Else it boots.
    pub with_memory: bool,
    /// Space it takes on the disk.
    pub bytes: u64,
    /// Version of the sampan that took it.
    pub sampan: String,
    /// Version of Kubernetes with leading "v".
    pub kubernetes: String,
    /// How long the machine stood still, if it ran; known only to who takes it. In seconds.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_seconds")]
    pub paused: Option<Duration>,
}

fn as_seconds<S: Serializer>(paused: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    paused.map(|paused| paused.as_secs_f64()).serialize(serializer)
}

/// What came of a restore.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The snapshot.
    pub snapshot: SnapshotInfo,
    /// How the cluster went on; none for a profile that was stopped.
    pub started: Option<Started>,
}

/// Takes a snapshot of a profile's machine, which is afterwards as it was. Without a name, it gets one of the time.
///
/// # Errors
/// [`Kind::Exists`] when there is one of that name; [`Kind::Usage`] for a name that cannot be one; [`Kind::NotFound`] without
/// such a profile, [`Kind::NotRunning`] when it has no machine, [`Kind::DriverUnsupported`] when its driver cannot.
pub fn save(ctx: &Context, profile: &str, name: Option<&str>) -> Result<SnapshotInfo> {
    if let Some(name) = name {
        check_name(name)?;
    }
    profile::load(&ctx.layout, profile)?;
    let _lock = profile::lock(ctx, profile, LOCK_DEADLINE)?;
    let machine = Machine::open(ctx, profile)?;
    let there = names(ctx, profile)?;
    let name = match name {
        Some(name) if there.iter().any(|other| other == name) => return Err(exists(profile, name)),
        Some(name) => name.to_owned(),
        None => free_name(name_of_now(), &there),
    };
    take(&machine, name)
}

/// Takes a snapshot of a machine under a name that begins so; the caller holds the profile's lock.
///
/// # Errors
/// As [`save`].
pub(super) fn save_held(machine: &Machine<'_>, name: &str) -> Result<SnapshotInfo> {
    let there = names(machine.ctx, &machine.profile.spec.name)?;
    take(machine, free_name(name.to_owned(), &there))
}

fn take(machine: &Machine<'_>, name: String) -> Result<SnapshotInfo> {
    let ctx = machine.ctx;
    let mut taken = taking::take(machine, LayerKind::Snapshot)?;
    taken.manifest.name = name;
    taken.manifest.seal(&taken.files, &ctx.cancel, &*ctx.reporter)?;
    Ok(SnapshotInfo {
        paused: taken.paused,
        ..info(&taken.files, &taken.manifest)
    })
}

fn names(ctx: &Context, profile: &str) -> Result<Vec<String>> {
    let all = of_profile(ctx, profile)?.into_iter();
    Ok(all.map(|(_, manifest)| manifest.name).collect())
}

/// Snapshots that need a bundle: profile and name.
///
/// # Errors
/// The I/O error with the path.
pub fn on_bundle(layout: &Layout, key: &str) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for id in layer::names(&layout.user_layers())? {
        if let Ok(Some(manifest)) = layer::read(&layout.user_layer(&id))?
            && !manifest.name.is_empty()
            && [manifest.bundle.as_str(), manifest.parts()].contains(&key)
        {
            found.push((manifest.profile, manifest.name));
        }
    }
    Ok(found)
}

/// All snapshots of a profile, oldest first.
///
/// # Errors
/// [`Kind::NotFound`] without such a profile.
pub fn list(ctx: &Context, profile: &str) -> Result<Vec<SnapshotInfo>> {
    profile::load(&ctx.layout, profile)?;
    let snapshots = of_profile(ctx, profile)?;
    Ok(snapshots
        .iter()
        .map(|(files, manifest)| info(files, manifest))
        .collect())
}

/// One snapshot of a profile.
///
/// # Errors
/// [`Kind::NotFound`] without such a profile or snapshot.
pub fn show(ctx: &Context, profile: &str, name: &str) -> Result<SnapshotInfo> {
    profile::load(&ctx.layout, profile)?;
    find(ctx, profile, name).map(|(files, manifest)| info(&files, &manifest))
}

/// Deletes a snapshot. Profiles that stand on its files are as before.
///
/// # Errors
/// As [`show`].
pub fn delete(ctx: &Context, profile: &str, name: &str) -> Result<()> {
    profile::load(&ctx.layout, profile)?;
    let lock = profile::lock(ctx, profile, LOCK_DEADLINE)?;
    let (files, manifest) = find(ctx, profile, name)?;
    forget_name(&files, manifest)?;
    drop(lock);
    cache::sweep(ctx)
}

/// Deletes the names of all snapshots of a profile; the caller sweeps afterwards.
pub(super) fn forget_all(ctx: &Context, profile: &str) -> Result<()> {
    for (files, manifest) in of_profile(ctx, profile)? {
        forget_name(&files, manifest)?;
    }
    Ok(())
}

fn forget_name(files: &LayerLayout, manifest: Manifest) -> Result<()> {
    let nameless = Manifest {
        name: String::new(),
        ..manifest
    };
    nameless.write(files)
}

/// Takes a profile back to a snapshot: disk, memory and sizes. One that runs or is held goes on running from there; one that is
/// stopped stays so, and its next start goes on from there.
///
/// # Errors
/// As [`show`]; [`Kind::HostPath`] when the snapshot is damaged; those of [`start`].
pub fn restore(ctx: &Context, profile: &str, name: &str, wait_timeout: Duration) -> Result<Restored> {
    profile::load(&ctx.layout, profile)?;
    let lock = profile::lock(ctx, profile, LOCK_DEADLINE)?;
    keep::heal(ctx, profile)?;
    let machine = Machine::open(ctx, profile)?;
    let (files, manifest) = find(ctx, profile, name)?;
    let layer = whole(&files, profile, name)?;
    let ran = matches!(machine.state()?, MachineState::Running | MachineState::Paused);
    let restored = put_back(&machine, &layer)?;
    drop(lock);
    let started = if ran {
        Some(start(ctx, &StartRequest::of(restored.spec, wait_timeout))?)
    } else {
        None
    };
    // What the machine stood on until now.
    cache::sweep(ctx)?;
    Ok(Restored {
        snapshot: info(&files, &manifest),
        started,
    })
}

/// Gives the profile the machine, the sizes and the identity of the layer; its address stays.
fn put_back(machine: &Machine<'_>, layer: &Layer) -> Result<Profile> {
    let (ctx, manifest) = (machine.ctx, &layer.manifest);
    let mut profile = Profile {
        spec: settings::ClusterSpec {
            name: machine.profile.spec.name.clone(),
            ..manifest.spec.clone()
        },
        bundle: manifest.bundle.clone(),
        base: manifest.base.clone(),
        ..machine.profile.clone()
    };
    profile.take_parts(manifest.parts());
    profile.name_node(&manifest.node);
    let spec = super::machine::spec(ctx, &profile)?;
    // Whoever is killed from here on leaves a profile whose next start looks at everything.
    verdict::forget(&machine.files)?;
    upgrade::forget(&machine.files)?;
    if profile.parts() != machine.profile.parts() {
        // The memory of one version and the programs of another make no machine.
        atomic::write(&machine.files.restoring(), 0o600, manifest.name.as_bytes())?;
    }
    machine.snapshots()?.restore(&spec, &layer.files.state())?;
    profile.save(&ctx.layout)?;
    atomic::remove(&machine.files.restoring())?;
    layer::copy_identity(&layer.files.0, &machine.files.dir)?;
    if manifest.settled && !manifest.disk_only {
        verdict::settle_of(&machine.files, &profile)?;
    }
    keep::refresh(ctx, &*machine.driver, &profile)?;
    Ok(profile)
}

fn whole(files: &LayerLayout, profile: &str, name: &str) -> Result<Layer> {
    let damage = match layer::look(files)? {
        Found::Whole(layer) => return Ok(*layer),
        Found::Damaged(damage) => damage,
        Found::Nothing => "layer.toml is missing".to_owned(),
    };
    Err(Error::new(
        Kind::HostPath,
        format!(
            "snapshot \"{name}\" of profile \"{profile}\" in {} is damaged: {damage}",
            files.0.display()
        ),
    )
    .hint("put its files back from a backup, if there is one")
    .hint(format!(
        "or delete it: `sampan snapshot delete -p {profile} {name}`"
    )))
}

/// All layers that are snapshots of a profile, oldest first.
fn of_profile(ctx: &Context, profile: &str) -> Result<Vec<(LayerLayout, Manifest)>> {
    let mut found = Vec::new();
    for id in layer::names(&ctx.layout.user_layers())? {
        let files = ctx.layout.user_layer(&id);
        match layer::read(&files)? {
            Ok(Some(manifest)) if manifest.profile == profile && !manifest.name.is_empty() => {
                found.push((files, manifest));
            }
            _ => {}
        }
    }
    found.sort_by(|(_, one), (_, two)| (one.created, &one.name).cmp(&(two.created, &two.name)));
    Ok(found)
}

fn find(ctx: &Context, profile: &str, name: &str) -> Result<(LayerLayout, Manifest)> {
    let all = of_profile(ctx, profile)?;
    let names: Vec<String> = all.iter().map(|(_, manifest)| manifest.name.clone()).collect();
    all.into_iter()
        .find(|(_, manifest)| manifest.name == name)
        .ok_or_else(|| missing(profile, name, &names))
}

fn missing(profile: &str, name: &str, names: &[String]) -> Error {
    let error = Error::new(
        Kind::NotFound,
        format!("profile \"{profile}\" has no snapshot \"{name}\""),
    );
    if names.is_empty() {
        return error.hint(format!(
            "it has none; `sampan snapshot save -p {profile} {name}` takes one"
        ));
    }
    error.hint(format!("there is: {}", names.join(", ")))
}

fn exists(profile: &str, name: &str) -> Error {
    Error::new(
        Kind::Exists,
        format!("profile \"{profile}\" has a snapshot \"{name}\" already"),
    )
    .hint(format!(
        "choose another name, or delete it first: `sampan snapshot delete -p {profile} {name}`"
    ))
}

/// Whether a text can be the name of a snapshot: labels as in the names of clusters, with dots between them.
///
/// # Errors
/// [`Kind::Usage`] when it cannot.
pub fn check_name(name: &str) -> Result<()> {
    let is_name = name.len() <= 63 && name.split('.').all(|part| settings::label(part).is_ok());
    is_name.then_some(()).ok_or_else(|| {
        Error::new(Kind::Usage, format!("{name:?} is not a name for a snapshot"))
            .hint("use at most 63 lower-case letters, digits, inner dashes and dots")
    })
}

/// The time as a name: "20261121-143000".
fn name_of_now() -> String {
    let now = OffsetDateTime::now_utc();
    format!(
        "{:04}{:02}{:02}-{:02}{:02}{:02}",
        now.year(),
        u8::from(now.month()),
        now.day(),
        now.hour(),
        now.minute(),
        now.second()
    )
}

/// A name, with a number behind it if there is one of that name.
fn free_name(name: String, there: &[String]) -> String {
    std::iter::once(name.clone())
        .chain((2..).map(|number| format!("{name}-{number}")))
        .find(|name| !there.contains(name))
        .unwrap_or(name)
}

fn info(files: &LayerLayout, manifest: &Manifest) -> SnapshotInfo {
    SnapshotInfo {
        name: manifest.name.clone(),
        profile: manifest.profile.clone(),
        created: manifest.created,
        with_memory: !manifest.disk_only,
        bytes: disk_usage(&files.0),
        sampan: manifest.sampan.clone(),
        kubernetes: manifest.spec.kubernetes_version.clone(),
        paused: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_the_time_is_a_label_and_free() {
        let first = name_of_now();
        assert!(check_name(&first).is_ok(), "{first}");
        let there = [first.clone(), format!("{first}-2")];
        assert_eq!(free_name(first.clone(), &there), format!("{first}-3"));
        assert_eq!(free_name(first.clone(), &[]), first);
        assert!(check_name("before-v1.36.4").is_ok());
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", "../x", "A", "a b", "-a", "a..b", "."] {
            assert_eq!(check_name(name).unwrap_err().kind(), Kind::Usage, "{name}");
        }
    }

    #[test]
    fn a_missing_one_says_what_there_is() {
        let error = missing("p", "x", &["a".into(), "b".into()]);
        assert_eq!(error.kind(), Kind::NotFound);
        assert_eq!(error.hints(), ["there is: a, b"]);
        assert_eq!(exists("p", "a").kind().exit_code(), 81);
    }
}
