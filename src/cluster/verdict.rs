//! Remembers that a cluster was brought up completely since its machine booted (`state.toml`), so that starting it again need not
//! look into the guest.

use std::fs;

use serde::{Deserialize, Serialize};

use super::start::Run;
use super::{Profile, status};
use crate::error::{Error, Result};
use crate::layout::ProfileLayout;
use crate::store::{atomic, hash};

/// `state.toml`.
#[derive(Serialize, Deserialize)]
struct State {
    /// Hash of all that the finished start was made of.
    settled: String,
    /// The machine was forked from another one, and still has to be told what is its own.
    #[serde(default)]
    fork: bool,
}

/// What a finished start depends on: anything else here, and its steps run again.
fn inputs(profile: &Profile) -> Result<String> {
    let text = toml::to_string(profile).map_err(|error| {
        Error::new(crate::error::Kind::Internal, "cannot describe the profile").because(error)
    })?;
    Ok(hash::bytes(
        format!("{}\n{text}", env!("CARGO_PKG_VERSION")).as_bytes(),
    ))
}

/// Whether a start finished since the machine booted, and the node is Ready right now.
pub(super) fn is_settled(run: &Run<'_>) -> Result<bool> {
    Ok(is_noted(run)? && status::node_is_ready(run.api()?, run.profile()?.node()))
}

/// Whether a start of this very cluster finished since the machine booted.
pub(super) fn is_noted(run: &Run<'_>) -> Result<bool> {
    is_noted_of(&run.files, run.profile()?)
}

/// As [`is_noted`], of any profile.
pub(super) fn is_noted_of(files: &ProfileLayout, profile: &Profile) -> Result<bool> {
    let inputs = inputs(profile)?;
    Ok(read(files).is_some_and(|state| state.settled == inputs))
}

/// Whether the machine goes on for the first time since it was forked.
pub(super) fn is_fork(files: &ProfileLayout) -> bool {
    read(files).is_some_and(|state| state.fork)
}

fn read(files: &ProfileLayout) -> Option<State> {
    toml::from_str(&fs::read_to_string(files.state_toml()).ok()?).ok()
}

/// Notes that a start has finished.
pub(super) fn settle(run: &Run<'_>) -> Result<()> {
    settle_of(&run.files, run.profile()?)
}

/// Notes that a machine was forked from one whose start had finished.
pub(super) fn settle_fork(files: &ProfileLayout, profile: &Profile) -> Result<()> {
    write(files, profile, true)
}

/// Notes of any profile that its cluster is as after a start that has finished.
pub(super) fn settle_of(files: &ProfileLayout, profile: &Profile) -> Result<()> {
    write(files, profile, false)
}

fn write(files: &ProfileLayout, profile: &Profile, fork: bool) -> Result<()> {
    let state = State {
        settled: inputs(profile)?,
        fork,
    };
    let text = toml::to_string(&state).map_err(|error| {
        Error::new(crate::error::Kind::Internal, "cannot describe the state").because(error)
    })?;
    atomic::write(&files.state_toml(), 0o600, text.as_bytes())
}

/// Forgets it, when a machine boots.
pub(super) fn forget(files: &ProfileLayout) -> Result<()> {
    match fs::remove_file(files.state_toml()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(&files.state_toml())(error))
        }
        _ => Ok(()),
    }
}
