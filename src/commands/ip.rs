//! `ip`.

use crate::cluster;
use crate::error::Result;

use super::App;

pub(super) fn run(app: &App) -> Result<u8> {
    app.ui.line(
        &cluster::load(&app.layout()?, &app.profile()?)?
            .address
            .to_string(),
    );
    Ok(0)
}
