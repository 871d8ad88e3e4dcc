//! What is going on with a profile right now (`events.json`), so that `status` of another process can say "Starting".

use std::fs;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::layout::ProfileLayout;
use crate::store::atomic;

/// Older reports are of a process that was killed.
const STALE: Duration = Duration::from_secs(600);

/// A transient state, as minikube's cluster layout numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transient {
    /// 100
    Starting,
    /// 110
    Stopping,
    /// 120
    Deleting,
}

/// What a running verb last wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The verb that is at work.
    pub state: Transient,
    /// The step's stable name; empty between steps.
    pub step: String,
}

/// Writes what is going on.
pub(super) fn write(files: &ProfileLayout, state: Transient, step: &str) -> Result<()> {
    let event = Event {
        state,
        step: step.to_owned(),
    };
    let text = serde_json::to_vec(&event).unwrap_or_default();
    atomic::write(&files.events(), 0o600, &text)
}

/// Nothing is going on any more. A file that stays is taken for stale after ten minutes.
pub(super) fn clear(files: &ProfileLayout) {
    let _ = fs::remove_file(files.events());
}

/// What is going on, if a verb is at work.
pub(super) fn read(files: &ProfileLayout) -> Option<Event> {
    let modified = fs::metadata(files.events()).ok()?.modified().ok()?;
    let age = SystemTime::now().duration_since(modified).unwrap_or_default();
    if age > STALE {
        return None;
    }
    serde_json::from_slice(&fs::read(files.events()).ok()?).ok()
}
