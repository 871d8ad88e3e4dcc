//! The bundles are there: found, or got from their source.

use super::Step;
use crate::bundle;
use crate::cluster::start::{Run, is_running};
use crate::cluster::{Profile, addons, keep, open_driver};
use crate::error::{Error, Kind, Result};
use crate::layout::Layout;
use crate::settings::ContainerRuntime;

pub(in crate::cluster) struct Bundle;

impl Step for Bundle {
    fn names(&self) -> (&'static str, &'static str) {
        ("Downloading Artifacts", "preparing the bundle")
    }

    fn is_done(&self, run: &mut Run<'_>) -> Result<bool> {
        let layout = &run.ctx.layout;
        keep::heal(run.ctx, &run.request.spec.name)?;
        let base = run.profile.as_ref().map(|profile| base(layout, profile));
        let base = base.transpose()?.flatten();
        let has_base = run.profile.is_none() || base.is_some();
        run.bundle = match &run.profile {
            Some(profile) if !run.is_upgrade() => match profile.parts() == profile.bundle {
                true => base,
                false => bundle::find(layout, profile.parts())?,
            },
            _ => bundle::locate(layout, &wanted(run))?,
        };
        if let (None, Some(bundle)) = (&run.profile, &run.bundle)
            && run.request.place.is_none()
        {
            run.ctx.reporter.info(&format!(
                "taking the bundle that is here, {}{}",
                bundle.manifest.source.title(),
                run.request.upstream.unused()
            ));
        }
        if let Some(bundle) = &run.bundle {
            check(run, bundle)?;
        }
        Ok(has_base && run.bundle.is_some() || !run.is_upgrade() && is_running(run)?)
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        let ctx = run.ctx;
        if let Some(profile) = &run.profile
            && (run.is_upgrade() || profile.parts() != profile.bundle)
            && base(&ctx.layout, profile)?.is_none()
        {
            return Err(gone(profile, &profile.bundle));
        }
        let bundle = bundle::ensure(&ctx.layout, &wanted(run), &*ctx.reporter, &ctx.cancel)?;
        if let Some(profile) = &run.profile
            && !run.is_upgrade()
            && !is_of(profile, &bundle)
        {
            return Err(gone(profile, profile.parts()));
        }
        check(run, &bundle)?;
        run.bundle = Some(bundle);
        // Opened again: with a kernel to try, the driver can tell which accelerator works.
        run.driver = open_driver(&run.request.spec.driver, &ctx.layout, &ctx.drivers)?;
        Ok(())
    }
}

/// The bundle that the machine's disk is a layer over, this very one: a newer one does not fit under it.
fn base(layout: &Layout, profile: &Profile) -> Result<Option<bundle::Bundle>> {
    Ok(bundle::find(layout, &profile.bundle)?.filter(|bundle| bundle.base_sum() == profile.base))
}

/// Whether a profile's programs are from this bundle; its disk is, too, unless it was upgraded.
fn is_of(profile: &Profile, bundle: &bundle::Bundle) -> bool {
    profile.parts() == bundle.key && (bundle.key != profile.bundle || bundle.base_sum() == profile.base)
}

fn gone(profile: &Profile, key: &str) -> Error {
    let name = &profile.spec.name;
    Error::new(
        Kind::Bundle,
        format!("the bundle {key} that profile \"{name}\" was made from is gone"),
    )
    .hint("put its directory back from a backup, if there is one")
    .hint(format!(
        "or begin anew: `sampan delete -p {name}`, then `sampan start -p {name}`"
    ))
}

/// Which bundle a cluster without one gets, or one that is to run another version.
fn wanted(run: &Run<'_>) -> bundle::Wanted {
    bundle::Wanted {
        source: run.request.source.clone(),
        kubernetes: run.request.spec.kubernetes_version.clone(),
        upstream: run.request.upstream.clone(),
        cri_dockerd: run.request.spec.container_runtime == ContainerRuntime::Docker,
    }
}

/// Whether a bundle has what the cluster needs.
fn check(run: &Run<'_>, bundle: &bundle::Bundle) -> Result<()> {
    wanted(run).check(bundle)?;
    addons::check(run.ctx, &bundle.layout, &run.request.addons)
}
