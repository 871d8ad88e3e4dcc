//! `bundle`: build, fetch, list, show, remove.

use serde_json::{Value, json};

use crate::bundle::{self, Archive, Entry};
use crate::cli::bundle::{BundleArgs, BundleVerb};
use crate::cli::{Format, TableFormat};
use crate::cluster::{self, Context};
use crate::error::{Error, Kind, Result};
use crate::layout::Layout;
use crate::progress::{Reporter, StepEnd, StepInfo};
use crate::ui::Table;

use super::App;

pub(super) fn run(app: &App, args: &BundleArgs) -> Result<u8> {
    match &args.verb {
        BundleVerb::Build { output } => build(app, *output),
        BundleVerb::Fetch(args) => super::upstream::fetch(app, args),
        BundleVerb::List { output } => list(app, *output),
        BundleVerb::Show { key, verify, output } => show(app, key.as_deref(), *verify, *output),
        BundleVerb::Remove { keys, force } => remove(app, keys, *force),
    }?;
    Ok(0)
}

fn build(app: &App, output: Format) -> Result<()> {
    let ctx = app.work()?;
    let step = StepInfo {
        number: 1,
        total: 1,
        name: "Building Bundle",
        title: "building the bundle",
    };
    app.ui.step_begin(step);
    let there = bundle::find(&ctx.layout, &bundle::current_key()?)?.is_some();
    let result = bundle::build_here(&ctx.layout, &*ctx.reporter, &ctx.cancel);
    let end = match (&result, there) {
        (Err(_), _) => StepEnd::Failed,
        (Ok(_), true) => StepEnd::AlreadyDone,
        (Ok(_), false) => StepEnd::Done,
    };
    app.ui.step_end(step, end);
    let bundle = result?;
    if output == Format::Text {
        app.ui.line(&bundle.layout.0.display().to_string());
    }
    Ok(())
}

fn list(app: &App, output: TableFormat) -> Result<()> {
    let layout = app.layout()?;
    let entries = bundle::list(&layout)?;
    match output {
        TableFormat::Json => {
            let values: Vec<Value> = entries.iter().map(|entry| as_json(&layout, entry)).collect();
            app.ui.json(&values);
        }
        TableFormat::Table if entries.is_empty() => {
            app.ui
                .info("there are no bundles; `sampan bundle build` or the first `sampan start` makes one");
        }
        TableFormat::Table => {
            let mut table = Table::new(&["Key", "Kubernetes", "Created", "On Disk", "Current", "Used By"]);
            for entry in &entries {
                let (version, created) = match &entry.state {
                    Ok(manifest) => (
                        manifest.kubernetes.clone(),
                        manifest.created.chars().take(16).collect(),
                    ),
                    Err(_) => ("damaged".to_owned(), String::new()),
                };
                let mark = if entry.current { "*" } else { "" };
                let users = users(&layout, &entry.key)?.join(", ");
                table.row(&[
                    entry.key.clone(),
                    version,
                    created,
                    megabytes(entry.disk_usage),
                    mark.to_owned(),
                    users,
                ]);
            }
            app.ui.line(&table.to_string());
        }
    }
    Ok(())
}

fn as_json(layout: &Layout, entry: &Entry) -> Value {
    json!({
        "key": entry.key,
        "path": layout.bundles().join(&entry.key),
        "kubernetes": entry.state.as_ref().map(|manifest| manifest.kubernetes.clone()).ok(),
        "created": entry.state.as_ref().map(|manifest| manifest.created.clone()).ok(),
        "damage": entry.state.as_ref().err(),
        "diskUsage": entry.disk_usage,
        "current": entry.current,
    })
}

fn show(app: &App, key: Option<&str>, verify: bool, output: Format) -> Result<()> {
    let ctx = app.context()?;
    let key = match key {
        Some(key) => complete(&ctx.layout, key)?,
        None => bundle::current_key()?,
    };
    let entry = entry(&ctx, &key)?;
    let damaged = |damage: &str| {
        Error::new(Kind::Bundle, format!("bundle {key} is damaged: {damage}"))
            .hint("`sampan bundle build` sets it aside and makes it again")
    };
    let manifest = entry.state.clone().map_err(|damage| damaged(&damage))?;
    if verify
        && let Some(bundle) = bundle::find(&ctx.layout, &key)?
        && let Some(damage) = bundle::verify(&bundle, &*ctx.reporter)?
    {
        return Err(damaged(&damage));
    }
    if output == Format::Json {
        app.ui.json(&manifest);
        return Ok(());
    }
    let ui = &app.ui;
    ui.line(&format!("key: {key}"));
    ui.line(&format!("path: {}", ctx.layout.bundles().join(&key).display()));
    ui.line(&format!(
        "kubernetes: {} for {}",
        manifest.kubernetes, manifest.arch
    ));
    ui.line(&format!(
        "created: {} with {}",
        manifest.created, manifest.toolchain
    ));
    ui.line(&format!("on disk: {}", megabytes(entry.disk_usage)));
    ui.line(&format!("used by: {}", users(&ctx.layout, &key)?.join(", ")));
    ui.line("components:");
    for component in &manifest.components {
        ui.line(&format!("  {} {}", component.name, component.version));
    }
    for (archive, title) in [(Archive::Node, "images:"), (Archive::Addons, "images of addons:")] {
        ui.line(title);
        for image in manifest.images.iter().filter(|image| image.archive == archive) {
            ui.line(&format!("  {}:{} {}", image.name, image.tag, image.digest));
        }
    }
    if verify {
        ui.line("all sums are right");
    }
    Ok(())
}

fn entry(ctx: &Context, key: &str) -> Result<Entry> {
    let found = bundle::list(&ctx.layout)?
        .into_iter()
        .find(|entry| entry.key == key);
    found.ok_or_else(|| {
        Error::new(Kind::NotFound, format!("bundle {key} is not there"))
            .hint("`sampan bundle build` makes it, `sampan bundle list` shows which there are")
    })
}

fn remove(app: &App, keys: &[String], force: bool) -> Result<()> {
    let ctx = app.work()?;
    for key in keys {
        let key = complete(&ctx.layout, key)?;
        let users = users(&ctx.layout, &key)?;
        if !users.is_empty() && !force {
            return Err(Error::new(
                Kind::Usage,
                format!("bundle {key} is in use by {}", users.join(", ")),
            )
            .hint(format!(
                "delete the cluster first (`sampan delete -p {}`), or use --force",
                users[0]
            )));
        }
        let freed = bundle::remove(&ctx.layout, &key, &*ctx.reporter, &ctx.cancel)?;
        app.ui
            .info(&format!("bundle {key} is removed ({})", megabytes(freed)));
    }
    Ok(())
}

/// The key that begins so.
fn complete(layout: &Layout, beginning: &str) -> Result<String> {
    let keys: Vec<String> = bundle::list(layout)?.into_iter().map(|entry| entry.key).collect();
    let mut fitting = keys.iter().filter(|key| key.starts_with(beginning));
    match (fitting.next(), fitting.next()) {
        (Some(key), None) => Ok(key.clone()),
        (Some(one), Some(other)) => Err(Error::new(
            Kind::Usage,
            format!("\"{beginning}\" is the beginning of several bundles: {one}, {other}"),
        )
        .hint("write more of it")),
        (None, _) => Err(
            Error::new(Kind::NotFound, format!("no bundle begins with \"{beginning}\""))
                .hint("`sampan bundle list` shows which there are"),
        ),
    }
}

/// Names of the profiles that stand on a bundle. A profile that cannot be read counts for none.
fn users(layout: &Layout, key: &str) -> Result<Vec<String>> {
    let names = cluster::list(layout)?;
    Ok(names
        .into_iter()
        .filter(|name| cluster::load(layout, name).is_ok_and(|profile| profile.bundle == key))
        .collect())
}

pub(super) fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}
