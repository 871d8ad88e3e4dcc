//! The bundle is there: found, or got from its source.

use super::Step;
use crate::bundle;
use crate::cluster::start::{Run, is_running};
use crate::cluster::{addons, keep, open_driver};
use crate::error::{Error, Kind, Result};

pub(in crate::cluster) struct Bundle;

impl Step for Bundle {
    fn names(&self) -> (&'static str, &'static str) {
        ("Downloading Artifacts", "preparing the bundle")
    }

    fn is_done(&self, run: &mut Run<'_>) -> Result<bool> {
        let layout = &run.ctx.layout;
        keep::heal(run.ctx, &run.request.spec.name)?;
        run.bundle = match &run.profile {
            // The machine's disk is a layer over this very bundle; a newer one does not fit under it.
            Some(profile) => {
                bundle::find(layout, &profile.bundle)?.filter(|bundle| bundle.base_sum() == profile.base)
            }
            None => bundle::locate(layout, &wanted(run))?,
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
            addons::check(run.ctx, &bundle.layout, &run.request.addons)?;
        }
        Ok(run.bundle.is_some() || is_running(run)?)
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        let ctx = run.ctx;
        let bundle = bundle::ensure(&ctx.layout, &wanted(run), &*ctx.reporter, &ctx.cancel)?;
        if let Some(profile) = &run.profile
            && (&profile.bundle, &profile.base) != (&bundle.key, &bundle.base_sum())
        {
            let name = &profile.spec.name;
            return Err(Error::new(
                Kind::Bundle,
                format!(
                    "the bundle {} that profile \"{name}\" was made from is gone",
                    profile.bundle
                ),
            )
            .hint("put its directory back from a backup, if there is one")
            .hint(format!(
                "or begin anew: `sampan delete -p {name}`, then `sampan start -p {name}`"
            )));
        }
        addons::check(ctx, &bundle.layout, &run.request.addons)?;
        run.bundle = Some(bundle);
        // Opened again: with a kernel to try, the driver can tell which accelerator works.
        run.driver = open_driver(&run.request.spec.driver, &ctx.layout, &ctx.drivers)?;
        Ok(())
    }
}

/// Which bundle a cluster without one gets.
fn wanted(run: &Run<'_>) -> bundle::Wanted {
    bundle::Wanted {
        source: run.request.source.clone(),
        kubernetes: run.request.spec.kubernetes_version.clone(),
        upstream: run.request.upstream.clone(),
    }
}
