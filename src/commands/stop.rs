//! `stop`.

use std::time::Duration;

use crate::cli::StopArgs;
use crate::cluster::{self, Context, StopMode};
use crate::error::{Kind, Result};
use crate::kubeconfig::Files;
use crate::progress::{Reporter, StepEnd, StepInfo};

use super::App;

/// How long a guest may take to power off. Under emulation a node with pods takes about half a minute.
const DEADLINE: Duration = Duration::from_secs(120);

/// The value of the setting stop-mode that is not its default.
const SHUTDOWN: &str = "shutdown";

pub(super) fn run(app: &App, args: &StopArgs) -> Result<u8> {
    let flag = args
        .shutdown
        .map(|shutdown| if shutdown { SHUTDOWN } else { "save" });
    let settings = app.settings(vec![("stop-mode", flag.map(str::to_owned))])?;
    let mode = match settings.text("stop-mode", "save") {
        SHUTDOWN => StopMode::Shutdown,
        _ => StopMode::Save,
    };
    let ctx = app.work()?;
    let names = if args.all {
        cluster::list(&ctx.layout)?
    } else {
        vec![app.profile()?]
    };
    let total = names.len();
    for (index, name) in names.iter().enumerate() {
        let step = StepInfo {
            number: index + 1,
            total,
            name: "Stopping",
            title: "stopping the cluster",
        };
        match stop(app, &ctx, step, name, mode, args.keep_context_active) {
            // One that cannot be read must not keep the others running.
            Err(error) if args.all && error.kind() != Kind::Interrupted => {
                app.ui
                    .warn(&format!("cluster \"{name}\" was not stopped: {error}"));
            }
            other => other?,
        }
    }
    if names.is_empty() {
        app.ui.info("there are no clusters");
    }
    Ok(0)
}

fn stop(
    app: &App,
    ctx: &Context,
    step: StepInfo,
    name: &str,
    mode: StopMode,
    keep_context: bool,
) -> Result<()> {
    app.ui.step_begin(step);
    let stopped = cluster::stop(ctx, name, mode, DEADLINE);
    let end = if stopped.is_ok() {
        StepEnd::Done
    } else {
        StepEnd::Failed
    };
    app.ui.step_end(step, end);
    let stopped = stopped?;
    if !keep_context {
        Files::new(ctx.kubeconfig.clone()).remove(name)?;
    }
    app.ui.info(&match (stopped.was_running, stopped.saved) {
        (true, true) => format!("cluster \"{name}\" is saved; `sampan start -p {name}` goes on from here"),
        (true, false) => format!("cluster \"{name}\" is shut down; its data are kept"),
        (false, _) => format!("cluster \"{name}\" was not running"),
    });
    Ok(())
}
