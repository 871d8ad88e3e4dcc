//! The profile is on disk: what it is, where it is reached; keys, certificates, seed.

use std::fs;

use sampan_driver::MachineState;

use super::Step;
use crate::cluster::start::{Run, is_running};
use crate::cluster::{layer, machine, nocloud, place, profile, seed};
use crate::error::{Error, Kind, Result};
use crate::layout::ProfileLayout;
use crate::settings::ClusterSpec;
use crate::{pki, remote};

pub(in crate::cluster) struct Profile;

impl Step for Profile {
    fn names(&self) -> (&'static str, &'static str) {
        ("Initial Minikube Setup", "setting up the profile")
    }

    fn is_done(&self, run: &mut Run<'_>) -> Result<bool> {
        if !is_running(run)? {
            return Ok(false);
        }
        let spec = running(run)?;
        Ok(run.profile()?.spec == spec)
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        let ctx = run.ctx;
        let name = &run.request.spec.name;
        let files = &run.files;
        if files.forking().exists() {
            return Err(Error::new(
                Kind::HostConfig,
                format!("profile \"{name}\" is half a fork: `sampan fork` was killed while it made it"),
            )
            .hint(format!(
                "run the same `sampan fork` again, or `sampan delete -p {name}`"
            )));
        }
        if let Ok(snapshot) = fs::read_to_string(files.restoring()) {
            return Err(Error::new(
                Kind::HostConfig,
                format!("profile \"{name}\" is half restored: `sampan snapshot restore` was killed"),
            )
            .hint(format!(
                "run it again: sampan snapshot restore -p {name} {snapshot}"
            )));
        }
        crate::store::atomic::make_private_dir(&files.dir)?;
        let spec = match is_running(run)? {
            true => running(run)?,
            false => run.request.spec.clone(),
        };
        let mut profile = match run.profile.take() {
            Some(old) => {
                // Only an upgrade changes that, and whoever held the lock may have made one.
                let kubernetes_version = old.spec.kubernetes_version.clone();
                let spec = ClusterSpec {
                    kubernetes_version,
                    ..spec
                };
                profile::Profile { spec, ..old }
            }
            None => {
                let bundle = run.bundle()?;
                place::choose(ctx, &*run.driver, |place| {
                    profile::Profile::new(spec, bundle, place)
                })?
            }
        };
        if profile.parts() != profile.bundle
            && run.driver.state(&machine::spec(ctx, &profile)?)? == MachineState::Absent
        {
            // Only the disk of a machine that is gone stood on another one.
            profile.move_to(run.bundle()?);
        }
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

/// What the cluster of a machine that runs is to be: what it is, with the registries that are asked for.
fn running(run: &Run<'_>) -> Result<ClusterSpec> {
    let mut spec = run.profile()?.spec.clone();
    spec.follow(&run.request.spec);
    Ok(spec)
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
        pki::docker::ensure(&files.pki(), &files.docker(), node, None)?;
        write_seed(files, node)
    }

    fn changes(&self) -> bool {
        false
    }
}

/// What the guest reads before its sshd starts.
fn write_seed(files: &ProfileLayout, name: &str) -> Result<()> {
    let read = |path: std::path::PathBuf| fs::read_to_string(&path).map_err(Error::io(&path));
    let host_key = files.ssh_host_key();
    let authorized_key = read(files.ssh_key().with_extension("pub"))?;
    let host_key_public = read(host_key.with_extension("pub"))?;
    let host_key = read(host_key)?;
    let mut all = Vec::from(nocloud::files(&nocloud::Identity {
        name,
        authorized_key: &authorized_key,
        host_key: &host_key,
        host_key_public: &host_key_public,
    })?);
    all.extend([
        ("sampan/hostname", format!("{name}\n").into_bytes()),
        ("sampan/authorized_keys", authorized_key.into_bytes()),
        ("sampan/ssh_host_ed25519_key", host_key.into_bytes()),
        ("sampan/ssh_host_ed25519_key.pub", host_key_public.into_bytes()),
    ]);
    seed::write(&files.seed(), &all)
}
