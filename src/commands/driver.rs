//! `driver`: list.

use crate::cli::TableFormat;
use crate::cli::driver::{DriverArgs, DriverVerb};
use crate::cluster::{self, DriverStatus};
use crate::error::Result;
use crate::progress::Reporter;
use crate::ui::Table;

use super::{App, host};

pub(super) fn run(app: &App, args: &DriverArgs) -> Result<u8> {
    let DriverVerb::List { output } = &args.verb;
    let drivers = cluster::survey(&app.layout()?, &host::drivers()?)?;
    match output.format {
        TableFormat::Json => app.ui.json(&drivers),
        TableFormat::Table => table(app, &drivers),
    }
    Ok(0)
}

fn table(app: &App, drivers: &[DriverStatus]) {
    let mut table = Table::new(&["Driver", "Installed", "Version", "Healthy", "Can", "Reason"]);
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let first = |text: &Option<String>| {
        let text = text.as_deref().unwrap_or_default();
        text.lines().next().unwrap_or_default().to_owned()
    };
    for driver in drivers {
        table.row(&[
            driver.name.clone(),
            driver.installed.map_or("-".to_owned(), yes),
            driver.version.clone().unwrap_or_default(),
            yes(driver.healthy),
            abilities(driver),
            first(&driver.reason),
        ]);
    }
    app.ui.line(&table.to_string());
    for driver in drivers.iter().filter(|driver| driver.installed.is_some()) {
        if let Some(fix) = &driver.fix {
            app.ui.info(&format!("{}: {fix}", driver.name));
        }
    }
}

/// What tells drivers apart for who uses them.
fn abilities(driver: &DriverStatus) -> String {
    let features = &driver.features;
    [
        (features.snapshots, "snapshots"),
        (features.publishing, "ports"),
        (features.loopback_range, "addresses"),
    ]
    .into_iter()
    .filter_map(|(can, word)| can.then_some(word))
    .collect::<Vec<_>>()
    .join(", ")
}
