//! The life of a cluster: start, stop, delete, status, and what commands need to reach into it.
//!
//! [`start`] is a list of steps, one file each under `steps/`; every step says whether it is done already. Nothing here prints;
//! reports go to the [`Reporter`] of the [`Context`].

mod access;
pub mod addons;
pub mod cache;
mod delete;
mod drivers;
mod events;
mod fork;
mod inventory;
mod keep;
mod kubeconfig;
mod last_words;
mod layer;
mod machine;
mod nocloud;
mod pause;
mod place;
mod profile;
mod renew;
mod seed;
mod selection;
pub mod snapshot;
mod spare;
mod start;
mod status;
mod steps;
mod stop;
mod taking;
mod template;
mod upgrade;
mod uses;
mod verdict;

use std::path::PathBuf;
use std::sync::Arc;

pub use access::{Access, Publishing, access, is_paused};
pub use delete::{delete, purge};
pub use drivers::{DriverOptions, driver_names, open_driver};
pub use events::{Event, Transient};
pub use fork::fork;
pub use kubeconfig::update_context;
pub(crate) use machine::{connect as connect_machine, spec as machine_spec};
pub use pause::{pause, unpause};
pub use profile::{Place, Profile, current, exists, list, load, set_current};
pub(crate) use renew::{Schedule, renew};
pub use selection::{DriverStatus, limits, select, survey};
pub use spare::prune_bundles;
pub use start::{StartRequest, Started, start};
pub use status::{ComponentState, HostState, KubeconfigState, Status, api, status};
pub use stop::{StopMode, Stopped, stop};

use crate::layout::Layout;
use crate::progress::{Cancel, Reporter};

/// What every verb needs; made once per process by `commands`.
#[derive(Clone)]
pub struct Context {
    /// Where things are on disk.
    pub layout: Layout,
    /// Receives reports.
    pub reporter: Arc<dyn Reporter>,
    /// Whether the user has asked to stop.
    pub cancel: Cancel,
    /// What drivers need to know of the host.
    pub drivers: DriverOptions,
    /// The kubeconfig files, in the order of `KUBECONFIG`; never empty.
    pub kubeconfig: Vec<PathBuf>,
}
