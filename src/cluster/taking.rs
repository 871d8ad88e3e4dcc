//! Layers of users' machines, as `snapshot save` and `fork` take them.

use std::path::PathBuf;
use std::time::Duration;

use sampan_driver::{MachineState, Snapshot};

use super::layer::{self, LayerKind, Manifest};
use super::machine::Machine;
use super::{keep, verdict};
use crate::error::{Error, Kind, Result};
use crate::layout::LayerLayout;
use crate::store::atomic;
use crate::store::lock::Lock;

/// A layer that was just taken. While this lives, nobody removes it.
pub(super) struct Taken {
    pub(super) files: LayerLayout,
    pub(super) manifest: Manifest,
    /// How long the machine stood still, if it ran.
    pub(super) paused: Option<Duration>,
    /// Nobody sweeps a layer under construction.
    _lock: Lock,
}

/// Takes a layer of a machine, which is afterwards as it was; the caller holds the profile's lock. Its manifest is still to be
/// written: before that, there is no layer.
///
/// # Errors
/// When there is no machine, it cannot be saved, or the disk is full: nothing is left then.
pub(super) fn take(machine: &Machine<'_>, kind: LayerKind) -> Result<Taken> {
    let (ctx, name) = (machine.ctx, &machine.profile.spec.name);
    let snapshots = machine.snapshots()?;
    let state = machine.state()?;
    let settled = verdict::is_noted_of(&machine.files, &machine.profile)?;
    match state {
        MachineState::Running => machine.sync()?,
        MachineState::Absent => {
            return Err(
                Error::new(Kind::NotRunning, format!("profile \"{name}\" has no machine yet"))
                    .hint(format!("run `sampan start -p {name}`")),
            );
        }
        // They were synced before they were held or saved.
        MachineState::Paused | MachineState::Stopped => {}
    }
    let id = layer::new_id(name);
    let (path, what) = (ctx.layout.layer_lock(&id), format!("the layer {id}"));
    let lock = Lock::acquire(&path, &what, Duration::ZERO, &ctx.cancel, &*ctx.reporter)?;
    let files = ctx.layout.user_layer(&id);
    atomic::make_private_dir(&files.0)?;
    let taken = snapshots
        .checkpoint(&machine.spec, &files.state())
        .map_err(Error::from);
    let effort = taken.inspect_err(|_| give_up(machine, snapshots, &files))?;
    layer::copy_identity(&machine.files.dir, &files.0)?;
    let saved = snapshots.saved(&files.state())?.unwrap_or_default();
    let manifest = Manifest {
        profile: name.clone(),
        // A disk is one file.
        disk_only: saved.len() < 2,
        ..Manifest::new(kind, &id, &machine.profile, settled)
    };
    keep::refresh(ctx, &*machine.driver, &machine.profile)?;
    Ok(Taken {
        files,
        manifest,
        paused: (state == MachineState::Running).then_some(effort.paused),
        _lock: lock,
    })
}

/// Removes what there is of a layer that nothing came of, unless the machine stands on it.
fn give_up(machine: &Machine<'_>, snapshots: &dyn Snapshot, files: &LayerLayout) {
    let real = |path: PathBuf| path.canonicalize().unwrap_or(path);
    let dir = real(files.0.clone());
    let uses = snapshots.uses(&machine.spec);
    if uses.is_ok_and(|uses| !uses.into_iter().any(|path| real(path).starts_with(&dir)))
        && let Err(error) = atomic::remove(&files.0)
    {
        tracing::warn!(%error, "it stays");
    }
}
