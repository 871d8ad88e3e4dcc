//! The hidden verb `supervise`: the process that publishes a profile's ports. What it says goes to its log.

use crate::cli::publish::SuperviseArgs;
use crate::cluster::Context;
use crate::error::Result;
use crate::layout::Layout;
use crate::supervisor;

use super::App;

pub(super) fn run(app: &App, args: &SuperviseArgs) -> Result<u8> {
    let layout = Layout {
        config: args.config.clone(),
        data: args.data.clone(),
        cache: args.cache.clone(),
    };
    // A profile is found where it was when this was started, whatever the environment says here.
    let ctx = Context {
        layout,
        ..app.context()?
    };
    supervisor::run(&ctx, &app.profile()?)?;
    Ok(0)
}
