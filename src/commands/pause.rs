//! `pause` and `unpause`.

use crate::cli::snapshot::HoldArgs;
use crate::cluster;
use crate::error::{Error, Kind, Result};
use crate::progress::Reporter;

use super::App;

pub(super) fn pause(app: &App, args: &HoldArgs) -> Result<u8> {
    check(args)?;
    let (ctx, name) = (app.work()?, app.profile()?);
    let changed = app.step("Pausing", "holding the machine", || cluster::pause(&ctx, &name))?;
    app.ui.info(&match changed {
        true => format!("cluster \"{name}\" is paused; `sampan unpause -p {name}` lets it go on"),
        false => format!("cluster \"{name}\" was paused already"),
    });
    Ok(0)
}

pub(super) fn unpause(app: &App, args: &HoldArgs) -> Result<u8> {
    check(args)?;
    let (ctx, name) = (app.work()?, app.profile()?);
    let changed = cluster::unpause(&ctx, &name)?;
    app.ui.info(&match changed {
        true => format!("cluster \"{name}\" goes on"),
        false => format!("cluster \"{name}\" was not paused"),
    });
    Ok(0)
}

/// minikube holds the containers of some namespaces, sampan the whole machine.
fn check(args: &HoldArgs) -> Result<()> {
    if args.namespaces.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Unimplemented,
        format!(
            "`--namespaces {}` of minikube is not there: the whole machine is held, not single namespaces",
            args.namespaces.join(",")
        ),
    )
    .hint("leave it out; for single workloads: kubectl scale deployment NAME --replicas 0 -n NAMESPACE"))
}
