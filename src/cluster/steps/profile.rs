//! The profile is on disk: what it is, where it is reached; keys, certificates, seed.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use super::Step;
use crate::cluster::profile::{self, API_PORT};
use crate::cluster::start::{Run, is_running};
use crate::cluster::{Context, layer, seed};
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
        let spec = run.request.spec.clone();
        let mut profile = match run.profile.take() {
            Some(old) => profile::Profile { spec, ..old },
            None => place(ctx, run, spec)?,
        };
        if let Some(place) = run.request.place {
            profile.put(place);
        }
        profile.save(&ctx.layout)?;
        if profile::current(&ctx.layout).is_none() {
            profile::set_current(&ctx.layout, name)?;
        }
        run.profile = Some(profile);
        Ok(())
    }
}

/// The guest knows the host by keys and certificates: those of the layer it is forked from, or new ones.
pub(in crate::cluster) struct Identity;

impl Step for Identity {
    fn names(&self) -> (&'static str, &'static str) {
        ("Generating certificates", "making keys and certificates")
    }

    fn is_done(&self, run: &mut Run<'_>) -> Result<bool> {
        is_running(run)
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        if let Some(layer) = &run.layer {
            layer::copy_identity(&layer.files.0, &run.files.dir)?;
            let mut profile = run.profile()?.clone();
            profile.name_node(&layer.manifest.node);
            profile.save(&run.ctx.layout)?;
            run.profile = Some(profile);
        }
        let (files, node) = (&run.files, run.profile()?.node());
        remote::keys::ensure(&files.ssh_key(), &format!("sampan {node}"))?;
        remote::keys::ensure(&files.ssh_host_key(), &format!("sampan {node} host"))?;
        pki::ensure(&files.pki(), node)?;
        write_seed(files, node)
    }

    fn changes(&self) -> bool {
        false
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
    let place = profile::Place {
        address: chosen.address.into(),
        api_port: chosen.port(API_PORT)?,
        ssh_port: chosen.port(SSH_PORT)?,
    };
    let profile = profile::Profile::new(spec, run.bundle()?, place);
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
