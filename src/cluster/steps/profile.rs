//! The profile is on disk: address, keys, certificates, seed.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use super::Step;
use crate::cluster::profile::{self, API_PORT};
use crate::cluster::start::{Run, is_running};
use crate::cluster::{Context, seed};
use crate::error::{Error, Result};
use crate::layout::ProfileLayout;
use crate::store::lock::Lock;
use crate::{network, pki, remote};

/// The port on the profile's address that leads to the guest's sshd; below 1024 only root may listen.
const SSH_PORT: u16 = 2222;

/// Choosing an address takes milliseconds.
const LOCK_DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);

pub(in crate::cluster) struct Profile;

impl Step for Profile {
    fn names(&self) -> (&'static str, &'static str) {
        ("Initial Minikube Setup", "setting up the profile")
    }

    fn is_done(&self, run: &mut Run<'_>) -> Result<bool> {
        is_running(run)
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        let ctx = run.ctx;
        let name = &run.request.spec.name;
        let files = &run.files;
        crate::store::atomic::make_private_dir(&files.dir)?;
        remote::keys::ensure(&files.ssh_key(), &format!("sampan {name}"))?;
        remote::keys::ensure(&files.ssh_host_key(), &format!("sampan {name} host"))?;
        pki::ensure(&files.pki(), name)?;
        write_seed(files, name)?;
        let spec = run.request.spec.clone();
        let profile = match run.profile.take() {
            Some(old) => profile::Profile { spec, ..old },
            None => place(ctx, run, spec)?,
        };
        profile.save(&ctx.layout)?;
        if profile::current(&ctx.layout).is_none() {
            profile::set_current(&ctx.layout, name)?;
        }
        run.profile = Some(profile);
        Ok(())
    }
}

/// Chooses where the host reaches a new cluster. Saved before the lock is let go, so that no two profiles choose the same.
fn place(ctx: &Context, run: &Run<'_>, spec: crate::settings::ClusterSpec) -> Result<profile::Profile> {
    let path = ctx.layout.addresses_lock();
    let lock = Lock::acquire(
        &path,
        "the choice of an address",
        LOCK_DEADLINE,
        &ctx.cancel,
        &*ctx.reporter,
    )?;
    let used: Vec<Ipv4Addr> = profile::list(&ctx.layout)?
        .iter()
        .filter_map(|name| profile::load(&ctx.layout, name).ok())
        .filter_map(|profile| match profile.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
        .collect();
    let chosen = network::choose(&used, &[API_PORT, SSH_PORT], run.driver.features().loopback_range)?;
    let profile = profile::Profile::new(
        spec,
        run.bundle()?,
        chosen.address.into(),
        chosen.port(API_PORT)?,
        chosen.port(SSH_PORT)?,
    );
    profile.save(&ctx.layout)?;
    drop(lock);
    Ok(profile)
}

/// What the guest reads before its sshd starts.
fn write_seed(files: &ProfileLayout, name: &str) -> Result<()> {
    let read = |path: std::path::PathBuf| fs::read(&path).map_err(Error::io(&path));
    let host_key = files.ssh_host_key();
    seed::write(
        &files.seed(),
        &[
            (
                "meta-data",
                format!("instance-id: {name}\nlocal-hostname: {name}\n").into_bytes(),
            ),
            ("user-data", b"#cloud-config\n{}\n".to_vec()),
            ("sampan/hostname", format!("{name}\n").into_bytes()),
            (
                "sampan/authorized_keys",
                read(files.ssh_key().with_extension("pub"))?,
            ),
            ("sampan/ssh_host_ed25519_key", read(host_key.clone())?),
            (
                "sampan/ssh_host_ed25519_key.pub",
                read(host_key.with_extension("pub"))?,
            ),
        ],
    )
}
