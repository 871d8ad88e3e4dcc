//! `bundle`: build, fetch, export, import, verify, list, show, remove, prune.

use std::io::IsTerminal;
use std::path::Path;

use serde_json::{Value, json};

use crate::bundle::{self, Archive, Entry, Input, Target};
use crate::cli::bundle::{BundleArgs, BundleVerb};
use crate::cli::{Format, TableFormat};
use crate::cluster::{self, Context};
use crate::error::{Error, Kind, Result};
use crate::layout::Layout;
use crate::progress::{Reporter, StepEnd, StepInfo};
use crate::ui::Table;

use super::{App, upstream};

pub(super) fn run(app: &App, args: &BundleArgs) -> Result<u8> {
    match &args.verb {
        BundleVerb::Build { output } => build(app, output.format),
        BundleVerb::Fetch(args) => super::upstream::fetch(app, args),
        BundleVerb::Export { file, key, force } => export(app, file, key.as_deref(), *force),
        BundleVerb::Import { file } => import(app, file),
        BundleVerb::Verify { key } => verify(app, key.as_deref()),
        BundleVerb::List { output } => list(app, output.format),
        BundleVerb::Show { key, verify, output } => show(app, key.as_deref(), *verify, output.format),
        BundleVerb::Remove { keys, force } => remove(app, keys, *force),
        BundleVerb::Prune { all, dry_run } => prune(app, *all, *dry_run),
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

/// "-" means a standard stream.
fn is_stream(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn export(app: &App, file: &Path, key: Option<&str>, force: bool) -> Result<()> {
    let ctx = app.work()?;
    let bundle = whole(&ctx, key)?;
    if is_stream(file) {
        if std::io::stdout().is_terminal() {
            return Err(Error::new(Kind::Usage, "a bundle file is not for a terminal")
                .hint("send it to a file or a program: sampan bundle export - | ssh HOST sampan bundle import -"));
        }
        bundle::export(&bundle, &Target::Output, &*ctx.reporter, &ctx.cancel)?;
        return Ok(());
    }
    let target = Target::File {
        path: file.to_owned(),
        force,
    };
    let exported = app.step("Exporting Bundle", "exporting the bundle", || {
        bundle::export(&bundle, &target, &*ctx.reporter, &ctx.cancel)
    })?;
    app.ui.info(&format!(
        "bundle {} is in {}: {} bytes, sha256 {}",
        bundle.key,
        file.display(),
        exported.size,
        exported.sha256
    ));
    Ok(())
}

fn import(app: &App, file: &Path) -> Result<()> {
    let ctx = app.work()?;
    let from = if is_stream(file) {
        Input::Input
    } else {
        Input::File(file)
    };
    let imported = app.step("Importing Bundle", "importing the bundle", || {
        bundle::import(&ctx.layout, from, &*ctx.reporter, &ctx.cancel)
    })?;
    let bundle = &imported.bundle;
    let (key, kubernetes) = (&bundle.key, &bundle.manifest.kubernetes);
    if imported.was_here {
        app.ui.info(&format!(
            "bundle {key} with Kubernetes {kubernetes} is here already"
        ));
    } else {
        app.ui.info(&format!(
            "bundle {key} with Kubernetes {kubernetes} is here now, {} on the disk",
            megabytes(crate::store::tree::disk_usage(&bundle.layout.0))
        ));
    }
    if imported.differs {
        app.ui.info(&format!(
            "the one in {} was made at another time and was not taken; to take it: sampan bundle remove {key}, then import it again",
            file.display()
        ));
    }
    if !own_keys()?.contains(key) {
        app.ui.info(&format!(
            "it is not what this sampan makes new clusters from by itself; for one from it: sampan start --source {key}"
        ));
    }
    Ok(())
}

/// A bundle that looks whole.
fn whole(ctx: &Context, key: Option<&str>) -> Result<bundle::Bundle> {
    let key = match key {
        Some(key) => complete(&ctx.layout, key)?,
        None => own(&ctx.layout)?,
    };
    entry(ctx, &key)?.state.map_err(|damage| damaged(&key, &damage))?;
    bundle::find(&ctx.layout, &key)?
        .ok_or_else(|| Error::new(Kind::NotFound, format!("bundle {key} is not there any more")))
}

/// Keys of the bundles that new clusters are made from.
fn own_keys() -> Result<Vec<String>> {
    bundle::own_keys(&upstream::own_catalog())
}

/// The key of the bundle that new clusters get; of one that is to be made, when there is none yet.
pub(super) fn own(layout: &Layout) -> Result<String> {
    let wanted = bundle::Wanted {
        upstream: upstream::own_catalog(),
        ..bundle::Wanted::default()
    };
    let own = bundle::locate(layout, &wanted)?;
    own.map_or_else(bundle::current_key, |bundle| Ok(bundle.key))
}

fn damaged(key: &str, damage: &str) -> Error {
    Error::new(Kind::Bundle, format!("bundle {key} is damaged: {damage}"))
        .hint("`sampan bundle build` or `sampan bundle import FILE` sets it aside and makes it again")
}

fn verify(app: &App, key: Option<&str>) -> Result<()> {
    let ctx = app.work()?;
    let bundle = whole(&ctx, key)?;
    let damage = app.step(
        "Verifying Bundle",
        "checking the bundle",
        || match bundle::verify(&bundle, &*ctx.reporter)? {
            Some(damage) => Err(damaged(&bundle.key, &damage)),
            None => Ok(()),
        },
    );
    damage?;
    app.ui.info(&format!(
        "bundle {} is whole: {} files, {}",
        bundle.key,
        bundle.manifest.files.len(),
        megabytes(bundle.manifest.files.values().map(|file| file.size).sum())
    ));
    Ok(())
}

fn prune(app: &App, all: bool, dry_run: bool) -> Result<()> {
    let gone = cluster::prune_bundles(&app.work()?, &own_keys()?, all, dry_run)?;
    let (verb, sum) = match dry_run {
        true => ("would go", "would be freed"),
        false => ("is removed", "are freed"),
    };
    for one in &gone {
        app.ui.info(&format!(
            "{} {} {verb} ({})",
            one.kind,
            one.key,
            megabytes(one.bytes)
        ));
    }
    app.ui.info(&match gone.is_empty() {
        true => "there is nothing to remove".to_owned(),
        false => format!("{} {sum}", megabytes(gone.iter().map(|one| one.bytes).sum())),
    });
    Ok(())
}

fn list(app: &App, output: TableFormat) -> Result<()> {
    let layout = app.layout()?;
    let (entries, own) = (bundle::list(&layout)?, own_keys()?);
    match output {
        TableFormat::Json => {
            let values: Vec<Value> = entries
                .iter()
                .map(|entry| as_json(&layout, entry, own.contains(&entry.key)))
                .collect();
            app.ui.json(&values);
        }
        TableFormat::Table if entries.is_empty() => {
            app.ui
                .info("there are no bundles; the first `sampan start`, `sampan bundle build` or `sampan bundle import FILE` brings one");
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
                let mark = if own.contains(&entry.key) { "*" } else { "" };
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

fn as_json(layout: &Layout, entry: &Entry, is_own: bool) -> Value {
    json!({
        "key": entry.key,
        "path": layout.bundles().join(&entry.key),
        "kubernetes": entry.state.as_ref().map(|manifest| manifest.kubernetes.clone()).ok(),
        "created": entry.state.as_ref().map(|manifest| manifest.created.clone()).ok(),
        "damage": entry.state.as_ref().err(),
        "diskUsage": entry.disk_usage,
        "current": is_own,
    })
}

fn show(app: &App, key: Option<&str>, verify: bool, output: Format) -> Result<()> {
    let ctx = app.context()?;
    let key = match key {
        Some(key) => complete(&ctx.layout, key)?,
        None => own(&ctx.layout)?,
    };
    let entry = entry(&ctx, &key)?;
    let damaged = |damage: &str| self::damaged(&key, damage);
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
    // What was fetched was not compiled here.
    let with = match manifest.toolchain.as_str() {
        "" => String::new(),
        toolchain => format!(" with {toolchain}"),
    };
    ui.line(&format!("created: {}{with}", manifest.created));
    ui.line(&format!(
        "source: {}, base {}",
        manifest.source.title(),
        manifest.base
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
            .hint("`sampan bundle build` makes it, `sampan bundle import FILE` takes it from a file, `sampan bundle list` shows which there are")
    })
}

fn remove(app: &App, keys: &[String], force: bool) -> Result<()> {
    let ctx = app.work()?;
    for key in keys {
        let key = complete(&ctx.layout, key)?;
        let users = users(&ctx.layout, &key)?;
        if !users.is_empty() && !force {
            let error = Error::new(
                Kind::Usage,
                format!("bundle {key} is in use by {}", users.join(", ")),
            );
            return Err(error.hint(if users[0].starts_with("snapshot ") {
                "delete the snapshot first (see `sampan snapshot list`), or use --force".to_owned()
            } else {
                format!(
                    "delete the cluster first (`sampan delete -p {}`), or use --force",
                    users[0]
                )
            }));
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

/// Names of the profiles that stand on a bundle, and snapshots of others that do. A profile that cannot be read counts for none.
fn users(layout: &Layout, key: &str) -> Result<Vec<String>> {
    let mut users = cluster::list(layout)?;
    users.retain(|name| cluster::load(layout, name).is_ok_and(|profile| profile.stands_on(key)));
    let snapshots = cluster::snapshot::on_bundle(layout, key)?.into_iter();
    let others = snapshots.filter(|(profile, _)| !users.contains(profile));
    let others: Vec<String> = others
        .map(|(profile, name)| format!("snapshot {name} of {profile}"))
        .collect();
    users.extend(others);
    Ok(users)
}

pub(super) fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}
