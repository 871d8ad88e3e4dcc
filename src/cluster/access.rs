//! How commands reach into a running cluster: its profile, its SSH target, a runner for its guest.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sampan_driver::{Driver, Endpoint, MachineState, Runner};

use super::machine::{self, Machine};
use super::steps::guest;
use super::{Context, Profile, status};
use crate::error::{Error, Kind, Result};
use crate::layout::BundleLayout;
use crate::provision::Node;
use crate::remote::Target;
use crate::supervisor;

/// A running guest that was started before answers at once; this is for one that is busy.
const SSH_DEADLINE: Duration = Duration::from_secs(60);

/// A running cluster.
pub struct Access {
    /// The profile.
    pub profile: Profile,
    /// Where the guest's console goes, and its forwards.
    pub endpoint: Endpoint,
    /// How SSH reaches the guest.
    pub target: Target,
    /// The files of the bundle that its programs are from.
    pub bundle: BundleLayout,
    driver: Box<dyn Driver>,
    ctx: Context,
}

/// How the ports of services get to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publishing {
    /// The supervisor publishes them.
    Supervised,
    /// They are at the node's own address.
    AtNode(IpAddr),
    /// Not by themselves: the driver cannot open ports while a machine runs.
    Not,
}

/// Finds a running cluster.
///
/// # Errors
/// [`Kind::NotFound`] without such a profile, [`Kind::NotRunning`] when its machine does not run.
pub fn access(ctx: &Context, name: &str) -> Result<Access> {
    let access = reach(ctx, name)?;
    // Whoever reaches into a running cluster heals what publishes its ports.
    if access.driver.features().publishing {
        supervisor::nudge(ctx, name, false);
    }
    Ok(access)
}

/// As [`access`], for what publishes the ports itself.
pub(super) fn reach(ctx: &Context, name: &str) -> Result<Access> {
    let machine = Machine::open(ctx, name)?;
    match machine.state()? {
        MachineState::Running => {}
        MachineState::Paused => {
            return Err(
                Error::new(Kind::NotRunning, format!("cluster \"{name}\" is paused"))
                    .hint(format!("run `sampan unpause -p {name}`")),
            );
        }
        MachineState::Stopped | MachineState::Absent => {
            return Err(
                Error::new(Kind::NotRunning, format!("cluster \"{name}\" is not running"))
                    .hint(format!("run `sampan start -p {name}`")),
            );
        }
    }
    Ok(Access {
        endpoint: machine.driver.endpoint(&machine.spec)?,
        target: machine::target(ctx, &machine.profile),
        bundle: machine.profile.parts_bundle(&ctx.layout),
        profile: machine.profile,
        driver: machine.driver,
        ctx: ctx.clone(),
    })
}

/// Whether a profile's machine is held still.
///
/// # Errors
/// [`Kind::NotFound`] without such a profile.
pub fn is_paused(ctx: &Context, name: &str) -> Result<bool> {
    Ok(Machine::open(ctx, name)?.state()? == MachineState::Paused)
}

impl Access {
    /// The guest's own address, where the host reaches it by that.
    pub(super) fn own_address(&self) -> Option<IpAddr> {
        (!self.driver.features().forwards).then_some(self.profile.address)
    }

    /// How the ports of this cluster's services get to the host.
    pub fn publishing(&self) -> Publishing {
        let features = self.driver.features();
        match (features.publishing, features.forwards) {
            (true, _) => Publishing::Supervised,
            (false, false) => Publishing::AtNode(self.profile.address),
            (false, true) => Publishing::Not,
        }
    }

    /// Runs commands in the guest.
    ///
    /// # Errors
    /// When sshd does not answer.
    pub fn runner(&self) -> Result<Arc<dyn Runner>> {
        machine::connect(
            &self.ctx,
            &*self.driver,
            &self.profile,
            &self.endpoint,
            SSH_DEADLINE,
        )
    }

    /// Calls something with the node as the provisioner sees it, for what is done to a cluster that is up already.
    ///
    /// # Errors
    /// When sshd does not answer, [`Kind::Bundle`] when the profile's bundle is gone, or whatever the call gives.
    pub fn with_node<T>(&self, call: impl FnOnce(&Node<'_>) -> Result<T>) -> Result<T> {
        let runner = self.runner()?;
        let (address, host) = guest::addresses(self.driver.features().forwards, self.profile.address);
        call(&Node {
            runner: &*runner,
            api: &status::api(&self.ctx, &self.profile)?,
            name: self.profile.node(),
            spec: &self.profile.spec,
            parts: &guest::parts(&self.ctx.layout, &self.profile)?,
            pki: &guest::pki(&self.ctx.layout.profile(&self.profile.spec.name)),
            address,
            host,
            reporter: &*self.ctx.reporter,
            cancel: &self.ctx.cancel,
        })
    }
}
