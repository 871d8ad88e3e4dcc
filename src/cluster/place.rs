//! Where the host reaches a new cluster.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use sampan_driver::Driver;

use super::profile::{self, Place};
use super::{Context, Profile};
use crate::error::{Error, Kind, Result};
use crate::layout::BundleLayout;
use crate::network;
use crate::provision::DOCKER_PORT;
use crate::store::lock::Lock;

/// The port on the profile's address that leads to the apiserver: Kubernetes' own default. 8443, where the apiserver listens in the guest, is left to what
/// the cluster publishes for https.
const API_PORT: u16 = 6443;

/// The port on the profile's address that leads to the guest's sshd; below 1024 only root may listen.
const SSH_PORT: u16 = 2222;

/// Choosing an address takes milliseconds, choosing what to remove from the cache not much longer.
const LOCK_DEADLINE: Duration = Duration::from_secs(30);

/// Chooses a place and saves the profile that `make` makes of it. Saved before the lock is let go, so that no two profiles
/// choose the same.
///
/// # Errors
/// [`Kind::PortTaken`] when no address is left; [`Kind::Bundle`] when the profile's bundle has gone meanwhile.
pub(super) fn choose(
    ctx: &Context,
    driver: &dyn Driver,
    make: impl FnOnce(Place) -> Profile,
) -> Result<Profile> {
    let lock = |path: &Path, what| Lock::acquire(path, what, LOCK_DEADLINE, &ctx.cancel, &*ctx.reporter);
    let _place = lock(&ctx.layout.addresses_lock(), "the choice of an address")?;
    let used: Vec<Ipv4Addr> = profile::list(&ctx.layout)?
        .iter()
        .filter_map(|name| profile::load(&ctx.layout, name).ok())
        .filter_map(|profile| match profile.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
        .collect();
    let chosen = network::choose(
        network::first_of(&ctx.layout.data),
        &used,
        &[API_PORT, SSH_PORT, DOCKER_PORT],
        driver.features().loopback_range,
    )?;
    let profile = make(Place {
        address: chosen.address.into(),
        api_port: chosen.port(API_PORT)?,
        ssh_port: chosen.port(SSH_PORT)?,
        docker_port: chosen.port(DOCKER_PORT)?,
    });
    // Whoever removes bundles holds this lock, and looks at the profiles first.
    let _layers = lock(&ctx.layout.layers_lock(), "the choice of layers")?;
    if !BundleLayout(ctx.layout.bundles().join(&profile.bundle))
        .manifest()
        .exists()
    {
        return Err(Error::new(
            Kind::Bundle,
            format!("the bundle {} was removed just now", profile.bundle),
        )
        .hint("run the same command again"));
    }
    profile.save(&ctx.layout)?;
    Ok(profile)
}
