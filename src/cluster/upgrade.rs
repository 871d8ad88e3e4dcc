//! An upgrade that is under way (`upgrade.toml`): what to tell when it fails, and when it is done. What is still to be done, the steps
//! of `start` see for themselves.

use std::fs;

use serde::{Deserialize, Serialize};

use super::start::Run;
use super::verdict;
use crate::error::{Error, Kind, Result};
use crate::layout::ProfileLayout;
use crate::store::atomic;

/// `upgrade.toml`.
#[derive(Serialize, Deserialize)]
pub(super) struct Underway {
    /// The version of Kubernetes that the cluster ran.
    pub(super) from: String,
    /// The one that it is to run.
    pub(super) to: String,
    /// The snapshot that was taken before; empty for none.
    pub(super) restore_point: String,
}

/// Notes that an upgrade has begun.
pub(super) fn begin(files: &ProfileLayout, underway: &Underway) -> Result<()> {
    let text = toml::to_string(underway)
        .map_err(|error| Error::new(Kind::Internal, "cannot describe the upgrade").because(error))?;
    atomic::write(&files.upgrade_toml(), 0o600, text.as_bytes())
}

/// Forgets it: it is done, or the machine is another one now.
pub(super) fn forget(files: &ProfileLayout) -> Result<()> {
    atomic::remove(&files.upgrade_toml())
}

fn read(files: &ProfileLayout) -> Option<Underway> {
    toml::from_str(&fs::read_to_string(files.upgrade_toml()).ok()?).ok()
}

/// The upgrade that the profile is in the middle of. One that was given up before the machine powered off is none.
fn underway(run: &Run<'_>) -> Option<Underway> {
    let version = &run.profile.as_ref()?.spec.kubernetes_version;
    read(&run.files).filter(|underway| underway.to == *version)
}

/// Says of a start that failed in the middle of an upgrade how to go on, and how to go back.
pub(super) fn explain(run: &Run<'_>, error: Error) -> Error {
    let Some(Underway {
        from, restore_point, ..
    }) = underway(run)
    else {
        return error;
    };
    let name = &run.request.spec.name;
    let error = error.hint(format!("`sampan start -p {name}` goes on with the upgrade"));
    if restore_point.is_empty() {
        return error;
    }
    error.hint(format!(
        "`sampan snapshot restore -p {name} {restore_point}` goes back to Kubernetes {from}"
    ))
}

/// Tells that an upgrade is done, once the cluster is up.
pub(super) fn finish(run: &Run<'_>) -> Result<()> {
    let Some(profile) = &run.profile else {
        return Ok(());
    };
    if !run.files.upgrade_toml().exists() || !verdict::is_noted_of(&run.files, profile)? {
        return Ok(());
    }
    if let Some(done) = underway(run) {
        let mut line = format!(
            "the cluster was upgraded from Kubernetes {} to {}",
            done.from, done.to
        );
        if !done.restore_point.is_empty() {
            line.push_str(&format!(
                "; `sampan snapshot delete -p {} {}` frees the room of what it was before",
                profile.spec.name, done.restore_point
            ));
        }
        run.ctx.reporter.info(&line);
    }
    forget(&run.files)
}
