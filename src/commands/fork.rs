//! `fork`, also called `clone`.

use crate::cli::snapshot::ForkArgs;
use crate::cluster;
use crate::error::{Error, Kind, Result};
use crate::progress::Reporter;
use crate::settings;

use super::App;

pub(super) fn run(app: &App, args: &ForkArgs) -> Result<u8> {
    let (source, target) = (&args.source, &args.target);
    for name in [source, target] {
        settings::label(name).map_err(|what| settings::wrong_name(name, &what))?;
    }
    if source == target {
        return Err(Error::new(
            Kind::Usage,
            format!("cluster \"{source}\" cannot be forked into itself"),
        )
        .hint("choose another name for the new cluster"));
    }
    let keep_context = args.keep_context.map(|keep| keep.to_string());
    let settings = app.settings(vec![
        ("keep-context", keep_context),
        ("wait-timeout", args.wait_timeout.clone()),
    ])?;
    let (_, wait_timeout) = settings::wait(&settings)?;
    let keep_context = settings.flag("keep-context");
    let ctx = app.work()?;
    let forked = cluster::fork(&ctx, source, target, keep_context, wait_timeout)?;
    app.ui.info(&format!(
        "cluster \"{target}\" goes on from cluster \"{source}\", after {:.1}s",
        forked.elapsed.as_secs_f64()
    ));
    super::start::tell_kubectl(app, target, keep_context);
    Ok(0)
}
