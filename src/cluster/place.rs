//! Where the host reaches a new cluster.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use sampan_driver::Driver;

use super::profile::{self, Place};
use super::{Context, Profile};
use crate::error::{Error, Kind, Result};
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
    let _place = lock(ctx, &ctx.layout.addresses_lock(), "the choice of an address")?;
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
    save(ctx, &profile)?;
    Ok(profile)
}

/// Saves a profile that stands on another bundle than before.
///
/// # Errors
/// [`Kind::Bundle`] when that has gone meanwhile.
pub(super) fn save(ctx: &Context, profile: &Profile) -> Result<()> {
    // Whoever removes bundles holds this lock, and looks at the profiles first.
    let _layers = lock(ctx, &ctx.layout.layers_lock(), "the choice of layers")?;
    let keys = [profile.bundle.as_str(), profile.parts()].into_iter();
    let mut gone = keys.filter(|key| !ctx.layout.bundle(key).manifest().exists());
    if let Some(key) = gone.next() {
        return Err(
            Error::new(Kind::Bundle, format!("the bundle {key} was removed just now"))
                .hint("run the same command again"),
        );
    }
    profile.save(&ctx.layout)
}

fn lock(ctx: &Context, path: &Path, what: &str) -> Result<Lock> {
    Lock::acquire(path, what, LOCK_DEADLINE, &ctx.cancel, &*ctx.reporter)
}
