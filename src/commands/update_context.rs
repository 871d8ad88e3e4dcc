//! `update-context`.

use crate::cluster;
use crate::error::Result;

use super::App;

pub(super) fn run(app: &App) -> Result<u8> {
    let ctx = app.context()?;
    let name = app.profile()?;
    let api = cluster::load(&ctx.layout, &name)?.api();
    app.ui.line(&match cluster::update_context(&ctx, &name)? {
        true => format!("\"{name}\" context has been updated to point to {api}"),
        false => format!("No changes required for the \"{name}\" context"),
    });
    Ok(0)
}
