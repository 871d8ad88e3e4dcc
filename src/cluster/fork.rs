//! `fork`: a second profile that continues from this moment of a first one.

use std::fs;
use std::time::Duration;

use super::layer::{self, LayerKind, Manifest};
use super::machine::{self, Machine};
use super::profile::Place;
use super::start::{StartRequest, Started, start};
use super::taking::{self, Taken};
use super::{Context, Profile, cache, drivers, keep, kubeconfig, place, profile, verdict};
use crate::error::{Error, Kind, Result};
use crate::progress::Silent;
use crate::settings::{self, ClusterSpec};
use crate::store::atomic;

/// How long `fork` waits for another verb on one of the profiles.
const LOCK_DEADLINE: Duration = Duration::from_secs(300);

/// Makes the profile `dst`, which continues from this moment of `src`: running with its memory if `src` runs or is saved, else
/// booting from its disk. `src` is afterwards as it was; the two share nothing that either can change. They do share the
/// cluster's CA and the host's keys for the guest.
///
/// # Errors
/// [`Kind::Exists`] when there is a profile `dst`; [`Kind::NotFound`] without `src`; [`Kind::DriverUnsupported`] when its driver
/// cannot; those of [`super::start`]: then `dst` is there, and can be started.
pub fn fork(
    ctx: &Context,
    src: &str,
    dst: &str,
    keep_context: bool,
    wait_timeout: Duration,
) -> Result<Started> {
    settings::label(dst).map_err(|what| settings::wrong_name(dst, &what))?;
    let source = profile::load(&ctx.layout, src)?;
    refuse_existing(ctx, dst)?;
    kubeconfig::check(ctx, dst)?;
    let lock = profile::lock(ctx, dst, LOCK_DEADLINE)?;
    // Whoever held the lock may have made it.
    refuse_existing(ctx, dst)?;
    clear(ctx, &source, dst)?;
    let made = make(ctx, src, dst).map_err(|error| give_up(ctx, &source, dst, error));
    drop(lock);
    let (mut taken, spec) = made?;
    let request = StartRequest {
        keep_context,
        ..StartRequest::of(spec, wait_timeout)
    };
    // The layer's sums take a second for each gigabyte, and nobody needs them before the next `cache verify`.
    std::thread::scope(|scope| {
        let sealing = scope.spawn(|| taken.manifest.seal(&taken.files, &ctx.cancel, &Silent));
        let started = start(ctx, &request);
        if let Ok(Err(error)) = sealing.join() {
            ctx.reporter
                .warn(&format!("sums of the new layer cannot be kept: {error}"));
        }
        started
    })
}

fn refuse_existing(ctx: &Context, dst: &str) -> Result<()> {
    if !profile::exists(&ctx.layout, dst) || ctx.layout.profile(dst).forking().exists() {
        return Ok(());
    }
    Err(
        Error::new(Kind::Exists, format!("there is a profile \"{dst}\" already")).hint(format!(
            "choose another name, or delete it first: `sampan delete -p {dst}`"
        )),
    )
}

/// Takes the layer and makes the profile on it.
fn make(ctx: &Context, src: &str, dst: &str) -> Result<(Taken, ClusterSpec)> {
    let files = ctx.layout.profile(dst);
    atomic::make_private_dir(&files.dir)?;
    atomic::write(&files.forking(), 0o600, src.as_bytes())?;
    let source_lock = profile::lock(ctx, src, LOCK_DEADLINE)?;
    let source = Machine::open(ctx, src)?;
    let taken = taking::take(&source, LayerKind::Fork)?;
    drop(source_lock);
    taken.manifest.write(&taken.files)?;
    layer::copy_identity(&taken.files.0, &files.dir)?;
    let profile = place::choose(ctx, &*source.driver, |place| {
        profile_of(dst, &source.profile, place)
    })?;
    let spec = machine::spec(ctx, &profile)?;
    source.snapshots()?.fork(&spec, &taken.files.state())?;
    if goes_on(&taken.manifest) {
        verdict::settle_fork(&files, &profile)?;
    }
    keep::refresh(ctx, &*source.driver, &profile)?;
    atomic::remove(&files.forking())?;
    Ok((taken, profile.spec))
}

/// Whether the cluster of a layer goes on as one that had come up.
fn goes_on(manifest: &Manifest) -> bool {
    manifest.settled && !manifest.disk_only
}

/// The profile of a fork: another name and place, the same cluster.
fn profile_of(name: &str, source: &Profile, place: Place) -> Profile {
    let mut profile = source.clone();
    let node = source.node().to_owned();
    profile.spec.name = name.to_owned();
    profile.name_node(&node);
    profile.put(place);
    profile
}

/// Removes what a fork that was killed left of the profile.
fn clear(ctx: &Context, source: &Profile, dst: &str) -> Result<()> {
    let files = ctx.layout.profile(dst);
    if !files.dir.exists() {
        return Ok(());
    }
    let driver = drivers::open_driver(&source.spec.driver, &ctx.layout, &ctx.drivers)?;
    driver.remove(&machine::orphan(ctx, dst))?;
    atomic::remove(&files.dir)
}

/// Leaves nothing of a fork that failed.
fn give_up(ctx: &Context, source: &Profile, dst: &str, error: Error) -> Error {
    let cleared = clear(ctx, source, dst).and_then(|()| {
        // Held by us: nobody waits for a name that nothing came of.
        let _ = fs::remove_file(&ctx.layout.profile(dst).lock);
        cache::sweep(ctx)
    });
    if let Err(left) = cleared {
        ctx.reporter
            .warn(&format!("something of \"{dst}\" stays: {left}"));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_keeps_its_node_through_generations() {
        let place = |n: u8| Place {
            address: [127, 77, 0, n].into(),
            api_port: 8443,
            ssh_port: 2222,
            docker_port: 2376,
        };
        let text = "format = 1\nbundle = \"b\"\nbase = \"s\"\naddress = \"127.77.0.2\"\napi_port = 8443\nssh_port = 2222\n\
            [spec]\nname = \"a\"\ndriver = \"fake\"\ncpus = 2\nmemory_mib = 2000\ndisk_mib = 5000\n\
            kubernetes_version = \"v1\"\ndns_domain = \"d\"\nservice_cidr = \"s\"\npod_cidr = \"p\"\n";
        let first: Profile = toml::from_str(text).unwrap();
        let second = profile_of("b", &first, place(3));
        let third = profile_of("a", &second, place(4));
        assert_eq!((second.spec.name.as_str(), second.node()), ("b", "a"));
        assert_eq!((third.spec.name.as_str(), third.node()), ("a", "a"));
        assert_eq!(third.address, place(4).address);
    }
}
