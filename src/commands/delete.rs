//! `delete`.

use crate::cli::DeleteArgs;
use crate::cluster::{self, Context};
use crate::error::{Error, Kind, Result};
use crate::progress::{Reporter, StepEnd, StepInfo};

use super::{App, docker_env};

pub(super) fn run(app: &App, args: &DeleteArgs) -> Result<u8> {
    let ctx = app.work()?;
    let all = cluster::list(&ctx.layout)?;
    if args.purge && !args.all && all.len() > 1 {
        return Err(Error::new(
            Kind::Usage,
            format!("there are {} clusters: {}", all.len(), all.join(", ")),
        )
        .hint("--purge takes all of sampan away; say --all as well if you mean it"));
    }
    let names = if args.all || args.purge {
        all
    } else {
        vec![app.profile()?]
    };
    let total = names.len();
    for (index, name) in names.iter().enumerate() {
        let step = StepInfo {
            number: index + 1,
            total,
            name: "Deleting",
            title: "deleting the cluster",
        };
        delete(app, &ctx, step, name)?;
    }
    if args.purge {
        cluster::purge(&ctx)?;
        app.ui.info("removed sampan's settings, profiles and bundles");
    }
    Ok(0)
}

fn delete(app: &App, ctx: &Context, step: StepInfo, name: &str) -> Result<()> {
    if !cluster::exists(&ctx.layout, name) {
        // There may be kubeconfig entries of it nevertheless.
        let found = cluster::delete(ctx, name)?;
        docker_env::forget_context(app, name)?;
        let rest = if found {
            "; its kubeconfig entries are gone now"
        } else {
            ""
        };
        app.ui.info(&format!("there is no cluster \"{name}\"{rest}"));
        return Ok(());
    }
    app.ui.step_begin(step);
    let deleted = cluster::delete(ctx, name).and_then(|_| docker_env::forget_context(app, name));
    let end = if deleted.is_ok() {
        StepEnd::Done
    } else {
        StepEnd::Failed
    };
    app.ui.step_end(step, end);
    deleted?;
    app.ui.info(&format!("removed all traces of cluster \"{name}\""));
    Ok(())
}
