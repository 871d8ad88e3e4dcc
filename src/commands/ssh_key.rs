//! `ssh-key`.

use crate::cluster;
use crate::error::Result;

use super::App;

pub(super) fn run(app: &App) -> Result<u8> {
    let layout = app.layout()?;
    let profile = cluster::load(&layout, &app.profile()?)?;
    app.ui
        .line(&layout.profile(&profile.spec.name).ssh_key().display().to_string());
    Ok(0)
}
