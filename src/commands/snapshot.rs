//! `snapshot`: save, restore, list, show, delete.

use crate::cli::snapshot::{SnapshotArgs, SnapshotVerb};
use crate::cli::{Format, TableFormat};
use crate::cluster::snapshot::{self, SnapshotInfo};
use crate::cluster::{self, Context};
use crate::error::{Error, Kind, Result};
use crate::progress::Reporter;
use crate::settings;
use crate::ui::Table;

use super::App;
use super::bundle::megabytes;

pub(super) fn run(app: &App, args: &SnapshotArgs) -> Result<u8> {
    let profile = app.profile()?;
    match &args.verb {
        SnapshotVerb::Save { name, .. } => save(app, &profile, name.as_deref()),
        SnapshotVerb::Restore {
            name, wait_timeout, ..
        } => restore(app, &profile, name.as_deref(), wait_timeout.clone()),
        SnapshotVerb::List { output } => list(app, &profile, output.format),
        SnapshotVerb::Show { name, output } => show(app, &profile, name.as_deref(), output.format),
        SnapshotVerb::Delete { names, .. } => delete(app, &profile, names),
    }?;
    Ok(0)
}

fn save(app: &App, profile: &str, name: Option<&str>) -> Result<()> {
    if let Some(name) = name {
        snapshot::check_name(name)?;
    }
    let ctx = app.work()?;
    let info = app.step("Saving Snapshot", "saving the snapshot", || {
        snapshot::save(&ctx, profile, name)
    })?;
    let held = match info.paused {
        Some(time) => format!("; the cluster stood still for {} ms", time.as_millis()),
        None => String::new(),
    };
    app.ui.info(&format!(
        "snapshot \"{}\" of cluster \"{profile}\" is saved ({}{held})",
        info.name,
        contents(&info)
    ));
    Ok(())
}

fn restore(app: &App, profile: &str, name: Option<&str>, wait_timeout: Option<String>) -> Result<()> {
    let settings = app.settings(vec![("wait-timeout", wait_timeout)])?;
    let (_, wait_timeout) = settings::wait(&settings)?;
    let ctx = app.work()?;
    let name = &chosen(&ctx, profile, name)?.name;
    snapshot::restore(&ctx, profile, name, wait_timeout)?;
    app.ui
        .info(&format!("cluster \"{profile}\" is back at snapshot \"{name}\""));
    Ok(())
}

fn list(app: &App, profile: &str, output: TableFormat) -> Result<()> {
    let all = snapshot::list(&app.context()?, profile)?;
    match output {
        TableFormat::Json => app.ui.json(&all),
        TableFormat::Table if all.is_empty() => app.ui.info(&format!(
            "cluster \"{profile}\" has no snapshots; `sampan snapshot save -p {profile}` makes one"
        )),
        TableFormat::Table => {
            let mut table = Table::new(&["Name", "Created", "Memory", "On Disk", "Kubernetes"]);
            for info in &all {
                let memory = if info.with_memory { "*" } else { "" };
                table.row(&[
                    info.name.clone(),
                    created(info),
                    memory.to_owned(),
                    megabytes(info.bytes),
                    info.kubernetes.clone(),
                ]);
            }
            app.ui.line(&table.to_string());
        }
    }
    Ok(())
}

fn show(app: &App, profile: &str, name: Option<&str>, output: Format) -> Result<()> {
    let info = chosen(&app.context()?, profile, name)?;
    if output == Format::Json {
        app.ui.json(&info);
        return Ok(());
    }
    let ui = &app.ui;
    ui.line(&format!("name: {}", info.name));
    ui.line(&format!("profile: {}", info.profile));
    ui.line(&format!("created: {}", created(&info)));
    ui.line(&format!("holds: {}", contents(&info)));
    ui.line(&format!("kubernetes: {}", info.kubernetes));
    ui.line(&format!("made by: sampan {}", info.sampan));
    Ok(())
}

fn delete(app: &App, profile: &str, names: &[String]) -> Result<()> {
    let ctx = app.work()?;
    for name in names {
        snapshot::check_name(name)?;
        app.step("Deleting Snapshot", "deleting the snapshot", || {
            snapshot::delete(&ctx, profile, name)
        })?;
        app.ui.info(&format!(
            "snapshot \"{name}\" of cluster \"{profile}\" is deleted"
        ));
    }
    Ok(())
}

/// The snapshot that is meant: the newest when none is named.
fn chosen(ctx: &Context, profile: &str, name: Option<&str>) -> Result<SnapshotInfo> {
    if let Some(name) = name {
        snapshot::check_name(name)?;
        return snapshot::show(ctx, profile, name);
    }
    // The profile itself may be what is missing.
    cluster::load(&ctx.layout, profile)?;
    let all = snapshot::list(ctx, profile)?;
    all.into_iter().max_by_key(|info| info.created).ok_or_else(|| {
        Error::new(Kind::NotFound, format!("cluster \"{profile}\" has no snapshots"))
            .hint(format!("`sampan snapshot save -p {profile}` makes one"))
    })
}

fn contents(info: &SnapshotInfo) -> String {
    let what = if info.with_memory {
        "disk and memory"
    } else {
        "disk"
    };
    format!("{what}, {}", megabytes(info.bytes))
}

/// "2026-11-21 14:30:00 UTC".
fn created(info: &SnapshotInfo) -> String {
    let moment = info.created;
    format!(
        "{} {:02}:{:02}:{:02} UTC",
        moment.date(),
        moment.hour(),
        moment.minute(),
        moment.second()
    )
}
