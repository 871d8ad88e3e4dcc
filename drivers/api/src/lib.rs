//! What a sampan driver is.
//!
//! A driver turns a [`MachineSpec`] into a running virtual machine. Callers ask what a driver can do through
//! [`Features`], never by its name. Commands, on the host as in a guest, are described first ([`Command`]) and run
//! later by a [`Runner`].

mod command;
#[cfg(feature = "contract")]
pub mod contract;
mod driver;
pub mod files;
mod forward;
mod host;
pub mod process;
mod snapshot;
mod spec;

pub use command::{Command, CommandError, Failure, Output, Runner, Stream, last_lines};
pub use driver::{Driver, DriverError, Endpoint, Features, Health, MachineState, Result};
pub use forward::{PortForward, refused};
pub use host::Host;
pub use snapshot::{Effort, Snapshot, Started};
pub use spec::{DirectBoot, Disk, ExtraDisk, Forward, MachineSpec, Protocol};
