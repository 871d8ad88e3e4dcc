//! A profile's machine: from the profile and its bundle to what a driver makes, and back to how the host reaches it.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use sampan_driver::{
    Command, DirectBoot, Disk, Driver, Endpoint, ExtraDisk, MachineSpec, MachineState, Runner, Snapshot,
};

use super::{Context, Profile, drivers, profile};
use crate::error::{Error, Kind, Result};
use crate::layout::{BundleLayout, ProfileLayout};
use crate::remote;

/// How long a guest may take to write its caches out, and to hear that it shall.
const SYNC_DEADLINE: Duration = Duration::from_secs(120);

/// A profile with its machine, whatever that does.
pub(super) struct Machine<'a> {
    pub(super) ctx: &'a Context,
    pub(super) profile: Profile,
    pub(super) files: ProfileLayout,
    pub(super) driver: Box<dyn Driver>,
    pub(super) spec: MachineSpec,
}

impl<'a> Machine<'a> {
    /// Whoever is to change something holds the profile's lock.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no such profile.
    pub(super) fn open(ctx: &'a Context, name: &str) -> Result<Self> {
        Self::of(ctx, profile::load(&ctx.layout, name)?)
    }

    /// # Errors
    /// When there is no driver of the profile's name.
    pub(super) fn of(ctx: &'a Context, profile: Profile) -> Result<Self> {
        Ok(Self {
            ctx,
            driver: drivers::open_driver(&profile.spec.driver, &ctx.layout, &ctx.drivers)?,
            spec: spec(ctx, &profile)?,
            files: ctx.layout.profile(&profile.spec.name),
            profile,
        })
    }

    pub(super) fn state(&self) -> Result<MachineState> {
        Ok(self.driver.state(&self.spec)?)
    }

    /// What the driver can do with saved machines.
    ///
    /// # Errors
    /// [`Kind::DriverUnsupported`] when that is nothing.
    pub(super) fn snapshots(&self) -> Result<&dyn Snapshot> {
        self.driver.snapshots().ok_or_else(|| {
            Error::new(
                Kind::DriverUnsupported,
                format!(
                    "the driver {} cannot save, hold or copy machines here",
                    self.driver.name()
                ),
            )
            .hint("`sampan stop` and `sampan start` work with every driver")
        })
    }

    /// Runs commands in the guest.
    ///
    /// # Errors
    /// As [`connect`].
    pub(super) fn guest(&self, deadline: Duration) -> Result<Arc<dyn Runner>> {
        let endpoint = self.driver.endpoint(&self.spec)?;
        connect(self.ctx, &*self.driver, &self.profile, &endpoint, deadline)
    }

    /// Lets a running guest write out its caches, so that its disk is fit to boot from.
    ///
    /// # Errors
    /// When the guest cannot be asked.
    pub(super) fn sync(&self) -> Result<()> {
        let sync = Command::new("sync").deadline(SYNC_DEADLINE);
        self.guest(SYNC_DEADLINE)?.run(&sync)?;
        Ok(())
    }
}

/// The machine of a profile.
///
/// # Errors
/// When the bundle's kernel command line cannot be read.
pub(crate) fn spec(ctx: &Context, profile: &Profile) -> Result<MachineSpec> {
    let files = ctx.layout.profile(&profile.spec.name);
    let bundle = ctx.layout.bundle(&profile.bundle);
    let parts = profile.parts_bundle(&ctx.layout);
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
            extra(parts.parts(), "sampan-parts"),
        ],
        boot: boot(&bundle)?,
        forwards: profile.forwards(),
    })
}

/// The kernel of a bundle. None for a cloud image whose kernel could not be taken out: it boots as it comes, by firmware and its own boot
/// loader. A machine whose bundle is gone can still be stopped and removed; the driver says what is missing when it starts.
fn boot(bundle: &BundleLayout) -> Result<Option<DirectBoot>> {
    if bundle.disk().exists() && !bundle.kernel().exists() {
        return Ok(None);
    }
    let cmdline = match fs::read_to_string(bundle.cmdline()) {
        Ok(text) => text.trim().to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Error::io(&bundle.cmdline())(error)),
    };
    Ok(Some(DirectBoot {
        kernel: bundle.kernel(),
        initrd: bundle.initrd(),
        cmdline,
    }))
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
pub(crate) fn connect(
    ctx: &Context,
    driver: &dyn Driver,
    profile: &Profile,
    endpoint: &Endpoint,
    deadline: Duration,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_a_kernel_beside_it_boots_by_firmware() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = BundleLayout(dir.path().to_owned());
        // One that is gone is told by what it lacks.
        assert_eq!(boot(&bundle).unwrap().unwrap().kernel, bundle.kernel());
        fs::write(bundle.disk(), "").unwrap();
        assert_eq!(boot(&bundle).unwrap(), None);
        fs::write(bundle.kernel(), "").unwrap();
        fs::write(bundle.cmdline(), "root=LABEL=x rw\n").unwrap();
        assert_eq!(boot(&bundle).unwrap().unwrap().cmdline, "root=LABEL=x rw");
    }
}
