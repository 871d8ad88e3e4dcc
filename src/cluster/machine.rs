//! From a profile and its bundle to the machine a driver makes, and back to how the host reaches it.

use std::fs;
use std::sync::Arc;

use sampan_driver::{DirectBoot, Disk, Driver, Endpoint, ExtraDisk, MachineSpec, Runner};

use super::{Context, Profile};
use crate::error::{Error, Result};
use crate::layout::BundleLayout;
use crate::remote;

/// The machine of a profile.
///
/// # Errors
/// When the bundle's kernel command line cannot be read.
pub(super) fn spec(ctx: &Context, profile: &Profile) -> Result<MachineSpec> {
    let files = ctx.layout.profile(&profile.spec.name);
    let bundle = BundleLayout(ctx.layout.bundles().join(&profile.bundle));
    // A machine whose bundle is gone can still be stopped and removed; the driver says what is missing when it starts.
    let cmdline = match fs::read_to_string(bundle.cmdline()) {
        Ok(text) => text.trim().to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Error::io(&bundle.cmdline())(error)),
    };
    let extra = |path, serial: &str| ExtraDisk {
        path,
        serial: serial.to_owned(),
    };
    Ok(MachineSpec {
        name: profile.spec.name.clone(),
        dir: files.machine(),
        cpus: profile.spec.cpus,
        memory_mib: profile.spec.memory_mib,
        disk: Disk {
            base: bundle.disk(),
            size_mib: profile.spec.disk_mib,
        },
        extra_disks: vec![
            extra(files.seed(), "sampan-seed"),
            extra(bundle.parts(), "sampan-parts"),
        ],
        boot: Some(DirectBoot {
            kernel: bundle.kernel(),
            initrd: bundle.initrd(),
            cmdline,
        }),
        forwards: profile.forwards(),
    })
}

/// How SSH reaches a profile's guest.
pub(super) fn target(ctx: &Context, profile: &Profile) -> remote::Target {
    let files = ctx.layout.profile(&profile.spec.name);
    remote::Target {
        address: std::net::SocketAddr::new(profile.address, profile.ssh_port),
        user: "root".to_owned(),
        key: files.ssh_key(),
        host_key: files.ssh_host_key().with_extension("pub"),
        place: profile.spec.name.clone(),
    }
}

/// A way to run commands in a running guest: the driver's own, or SSH once sshd answers.
///
/// # Errors
/// When the machine does not run, or sshd does not answer until the deadline.
pub(super) fn connect(
    ctx: &Context,
    driver: &dyn Driver,
    profile: &Profile,
    endpoint: &Endpoint,
    deadline: std::time::Duration,
) -> Result<Arc<dyn Runner>> {
    if let Some(runner) = &endpoint.runner {
        return Ok(Arc::clone(runner));
    }
    debug_assert!(driver.features().ssh);
    Ok(Arc::new(remote::connect(
        &target(ctx, profile),
        deadline,
        &ctx.cancel,
    )?))
}

/// The machine of a profile whose file cannot be read: enough to find and remove it.
pub(super) fn orphan(ctx: &Context, name: &str) -> MachineSpec {
    MachineSpec {
        name: name.to_owned(),
        dir: ctx.layout.profile(name).machine(),
        cpus: 0,
        memory_mib: 0,
        disk: Disk {
            base: std::path::PathBuf::new(),
            size_mib: 0,
        },
        extra_disks: Vec::new(),
        boot: None,
        forwards: Vec::new(),
    }
}
