//! How the library tells what it is doing: it reports, it never prints. `ui` turns reports into lines, bars or JSON.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// One step of a verb such as `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepInfo {
    /// Place in the list, from 1.
    pub number: usize,
    /// How many steps there are.
    pub total: usize,
    /// Stable name for scripts, as minikube spells it where it has the step ("Booting control plane").
    pub name: &'static str,
    /// What people read: "booting the machine".
    pub title: &'static str,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepEnd {
    /// It did its work.
    Done,
    /// There was nothing to do.
    AlreadyDone,
    /// It failed; the error is reported by the verb itself.
    Failed,
}

/// Receives reports. Methods return at once and never fail.
pub trait Reporter: Send + Sync {
    /// A step begins; steps do not nest.
    fn step_begin(&self, step: StepInfo);
    /// The running step ends.
    fn step_end(&self, step: StepInfo, end: StepEnd);
    /// What the running step is doing or waiting for right now; replaces the last such message.
    fn detail(&self, message: &str);
    /// Something worth a line of its own.
    fn info(&self, message: &str);
    /// Something is not as it should be, and work goes on.
    fn warn(&self, message: &str);
    /// Opens a bar for long work with a known total (bytes, components, …); `None` means the total is not known.
    fn bar(&self, title: &str, total: Option<u64>, unit: Unit) -> Box<dyn Bar>;
}

/// What a bar counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes: shown with rate and time left.
    Bytes,
    /// Things.
    Items,
}

/// A bar on the terminal; dropping it takes it away.
pub trait Bar: Send + Sync {
    /// Moves on by this much.
    fn advance(&self, by: u64);
    /// Says what is being worked on.
    fn message(&self, message: &str);
}

/// Reports nothing: for tests and for verbs that work silently.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn step_begin(&self, _: StepInfo) {}
    fn step_end(&self, _: StepInfo, _: StepEnd) {}
    fn detail(&self, _: &str) {}
    fn info(&self, _: &str) {}
    fn warn(&self, _: &str) {}
    fn bar(&self, _: &str, _: Option<u64>, _: Unit) -> Box<dyn Bar> {
        Box::new(Self)
    }
}

impl Bar for Silent {
    fn advance(&self, _: u64) {}
    fn message(&self, _: &str) {}
}

/// Says whether the user has asked to stop (Ctrl-C, SIGTERM). Cheap to clone; every loop that waits asks it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// The flag itself, for a signal handler to set.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Whether the user has asked to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Ends the work when the user has asked to stop.
    ///
    /// # Errors
    /// [`Kind::Interrupted`].
    pub fn check(&self) -> Result<()> {
        if self.is_set() {
            return Err(Error::interrupted());
        }
        Ok(())
    }
}
