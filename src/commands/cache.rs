//! `cache`: list, prune, verify.

use crate::cli::TableFormat;
use crate::cli::cache::{CacheArgs, CacheVerb};
use crate::cluster::cache::{self, LayerInfo};
use crate::error::{Error, Kind, Result};
use crate::progress::Reporter;
use crate::settings::quantity::{self, Amount};
use crate::ui::Table;

use super::App;
use super::bundle::megabytes;

pub(super) fn run(app: &App, args: &CacheArgs) -> Result<u8> {
    match &args.verb {
        CacheVerb::List { output } => list(app, output.format),
        CacheVerb::Prune {
            quota,
            all,
            dry_run,
            output,
        } => prune(app, quota.as_deref(), *all, *dry_run, output.format),
        CacheVerb::Verify { output } => verify(app, output.format),
    }?;
    Ok(0)
}

fn list(app: &App, output: TableFormat) -> Result<()> {
    let layers = cache::list(&app.context()?)?;
    match output {
        TableFormat::Json => app.ui.json(&layers),
        TableFormat::Table if layers.is_empty() => app.ui.info("the cache is empty"),
        TableFormat::Table => {
            let mut table = Table::new(&["Kind", "Key", "On Disk", "Created", "Used By", "What"]);
            for layer in &layers {
                let what = match &layer.damaged {
                    Some(damage) => format!("damaged: {damage}"),
                    None => layer.detail.clone(),
                };
                table.row(&[
                    layer.kind.clone(),
                    layer.key.clone(),
                    megabytes(layer.bytes),
                    layer.created.chars().take(16).collect(),
                    layer.used_by.join(", "),
                    what,
                ]);
            }
            app.ui.line(&table.to_string());
            app.ui.info(&format!("{} in all", megabytes(total(&layers))));
        }
    }
    Ok(())
}

fn prune(app: &App, quota: Option<&str>, all: bool, dry_run: bool, output: TableFormat) -> Result<()> {
    let settings = app.settings(vec![("cache-quota", quota.map(str::to_owned))])?;
    let quota = settings.get("cache-quota").filter(|_| !all);
    let quota = match quota.map(|setting| quantity::size_mib(&setting.text)) {
        Some(Ok(Amount::Of(mib))) => Some(mib.saturating_mul(1024 * 1024)),
        Some(Ok(Amount::Max)) => Some(u64::MAX),
        None => None,
        Some(Err(what)) => return Err(Error::new(Kind::Usage, format!("cache-quota {what}"))),
    };
    let gone = cache::prune(&app.work()?, quota, dry_run)?;
    if output == TableFormat::Json {
        app.ui.json(&gone);
        return Ok(());
    }
    let (verb, sum) = match dry_run {
        true => ("would go", "would be freed"),
        false => ("is removed", "are freed"),
    };
    for layer in &gone {
        app.ui.info(&format!(
            "{} {} {verb} ({})",
            layer.kind,
            layer.key,
            megabytes(layer.bytes)
        ));
    }
    app.ui.info(&match gone.is_empty() {
        true => "there is nothing to remove".to_owned(),
        false => format!("{} {sum}", megabytes(total(&gone))),
    });
    Ok(())
}

fn verify(app: &App, output: TableFormat) -> Result<()> {
    let damaged = cache::verify(&app.work()?)?;
    if output == TableFormat::Json {
        app.ui.json(&damaged);
    }
    let Some(first) = damaged.first() else {
        if output == TableFormat::Table {
            app.ui.info("all layers are whole");
        }
        return Ok(());
    };
    let lines: Vec<String> = damaged
        .iter()
        .map(|layer| {
            let why = layer.damaged.as_deref().unwrap_or_default();
            format!("{} {}: {why}", layer.kind, layer.key)
        })
        .collect();
    let users: Vec<&str> = damaged
        .iter()
        .flat_map(|layer| layer.used_by.iter().map(String::as_str))
        .collect();
    let message = match damaged.len() {
        1 => format!("{} {} is damaged", first.kind, first.key),
        count => format!("{count} layers are damaged"),
    };
    let error = Error::new(Kind::Bundle, message)
        .detail("what is wrong", &lines)
        .hint("ready snapshots, and bundles that no cluster uses, are set aside; the next start makes them again");
    Err(match users.is_empty() {
        true => error,
        false => error.hint(format!(
            "clusters that stand on damaged ones may fail: {}",
            users.join(", ")
        )),
    })
}

fn total(layers: &[LayerInfo]) -> u64 {
    layers.iter().map(|layer| layer.bytes).sum()
}
