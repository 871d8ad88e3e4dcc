//! `addons`: list, enable, disable, configure, images, open.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::addons::{Open, Options, Origin};
use crate::cli::addons::{AddonsArgs, AddonsVerb};
use crate::cli::service::{ListFormat, ReachArgs};
use crate::cluster::Context;
use crate::cluster::addons::{self, Done, Row};
use crate::error::{Error, Kind, Result};
use crate::progress::Reporter;
use crate::ui::Table;

use super::{App, service};

pub(super) fn run(app: &App, args: &AddonsArgs) -> Result<u8> {
    match &args.verb {
        AddonsVerb::List { output, docs } => list(app, *output, *docs),
        AddonsVerb::Enable {
            names,
            images,
            registries,
            ..
        } => {
            let given = [("--images", images), ("--registries", registries)];
            if let Some((flag, _)) = given.iter().find(|(_, value)| value.is_some()) {
                let message = format!("`{flag}` of minikube is not there yet");
                return Err(Error::new(Kind::Unimplemented, message)
                    .hint("leave it out, or make an addon of your own: docs/addons.md"));
            }
            names.iter().try_for_each(|name| enable(app, name))
        }
        AddonsVerb::Disable { names } => names.iter().try_for_each(|name| disable(app, name)),
        AddonsVerb::Configure { name, options, file } => configure(app, name, options, file.as_deref()),
        AddonsVerb::Images { name } => images(app, name),
        AddonsVerb::Open { name, reach } => open(app, name, reach),
    }?;
    Ok(0)
}

fn list(app: &App, output: ListFormat, docs: bool) -> Result<()> {
    let profile = app.profile()?;
    let listing = addons::list(&app.context()?, &profile)?;
    for trouble in &listing.troubles {
        app.ui.warn(trouble);
    }
    if output == ListFormat::Json {
        let row = |row: &Row| {
            let mut value =
                json!({ "Profile": profile, "Status": if row.enabled { "enabled" } else { "disabled" } });
            if row.addon.about.coming {
                value["Coming"] = json!(true);
            }
            if let Some(wish) = row.wish {
                value["AtNextStart"] = json!(if wish { "enabled" } else { "disabled" });
            }
            (row.addon.name.clone(), value)
        };
        app.ui
            .json(&listing.rows.iter().map(row).collect::<Map<String, Value>>());
        return Ok(());
    }
    let mut columns = vec!["ADDON NAME", "PROFILE", "STATUS", "DESCRIPTION"];
    columns.extend(docs.then_some("DOCS"));
    let mut table = Table::new(&columns);
    for row in &listing.rows {
        let about = &row.addon.about;
        let own = if row.addon.origin == Origin::User {
            " (yours)"
        } else {
            ""
        };
        let mut cells = vec![
            row.addon.name.clone(),
            profile.clone(),
            status(row),
            format!("{}{own}", about.description),
        ];
        cells.extend(docs.then(|| about.docs.clone().unwrap_or_default()));
        table.row(&cells);
    }
    app.ui.line(&table.to_string());
    Ok(())
}

fn status(row: &Row) -> String {
    match (row.enabled, row.wish) {
        _ if row.addon.about.coming => "coming".to_owned(),
        (false, Some(true)) => "enabled at next start".to_owned(),
        (true, Some(false)) => "disabled at next start".to_owned(),
        (true, _) => "enabled".to_owned(),
        (false, _) => "disabled".to_owned(),
    }
}

/// Failing to enable or disable has a status of its own; that there is no such addon is one way to fail.
fn failed(error: Error) -> Error {
    let own = [
        Kind::Interrupted,
        Kind::Locked,
        Kind::AddonPaused,
        Kind::NotFound,
        Kind::NotRunning,
        Kind::Unimplemented,
        Kind::HostConfig,
    ];
    if own.contains(&error.kind()) {
        return error;
    }
    error.with_kind(Kind::Addon)
}

/// Shows work as a step where there is work: for a stopped cluster a change is only noted.
fn step<T>(
    app: &App,
    ctx: &Context,
    name: &'static str,
    title: &'static str,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    if addons::is_running(ctx, &app.profile()?)? {
        return app.step(name, title, work);
    }
    work()
}

fn enable(app: &App, name: &str) -> Result<()> {
    let profile = app.profile()?;
    let ctx = app.work()?;
    // A wrong name is told before anything is shown as begun.
    addons::registry(&ctx, &profile)?.find(name).map_err(failed)?;
    let done = step(app, &ctx, "Enabling Addons", "enabling the addon", || {
        addons::enable(&ctx, &profile, name).map_err(failed)
    })?;
    match done {
        (Done::Now, services) => {
            app.ui.info(&format!("the addon {name} is enabled"));
            service::tell(app, &ctx, &profile, &services);
        }
        (Done::AtNextStart, _) => app
            .ui
            .info(&later(&profile, &format!("the addon {name} will be enabled"))),
    }
    Ok(())
}

fn disable(app: &App, name: &str) -> Result<()> {
    let profile = app.profile()?;
    let ctx = app.work()?;
    addons::registry(&ctx, &profile)?.find(name).map_err(failed)?;
    let done = step(app, &ctx, "Disabling Addons", "disabling the addon", || {
        addons::disable(&ctx, &profile, name).map_err(failed)
    })?;
    app.ui.info(&match done {
        Done::Now => format!("the addon {name} is disabled"),
        Done::AtNextStart => later(&profile, &format!("the addon {name} will be disabled")),
    });
    Ok(())
}

fn later(profile: &str, what: &str) -> String {
    format!("{what} when cluster \"{profile}\" starts: it is stopped now")
}

fn configure(app: &App, name: &str, words: &[String], file: Option<&Path>) -> Result<()> {
    let profile = app.profile()?;
    let mut given = match file {
        Some(path) => from_file(path)?,
        None => Options::new(),
    };
    for word in words {
        let (key, value) = word.split_once('=').ok_or_else(|| {
            Error::new(Kind::Usage, format!("`{word}` sets nothing")).hint("write options as KEY=VALUE")
        })?;
        given.insert(key.to_owned(), value.to_owned());
    }
    let ctx = app.work()?;
    if given.is_empty() {
        let options = addons::options(&ctx, &profile, name)?;
        if options.is_empty() {
            app.ui.info(&format!("the addon {name} has nothing to configure"));
        }
        for (key, value) in options {
            app.ui.line(&format!("{key}={value}"));
        }
        return Ok(());
    }
    let done = step(app, &ctx, "Configuring Addons", "configuring the addon", || {
        addons::configure(&ctx, &profile, name, &given)
    })?;
    app.ui.info(&match done {
        Done::Now => format!("the addon {name} is configured"),
        Done::AtNextStart => later(&profile, &format!("the addon {name} will be configured")),
    });
    Ok(())
}

/// A map of plain values, in YAML; JSON is YAML.
fn from_file(path: &Path) -> Result<Options> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let wrong = |what: &str| {
        Error::new(Kind::Usage, format!("{}: {what}", path.display())).hint("write KEY: VALUE, one a line")
    };
    let map: Map<String, Value> =
        yaml_serde::from_str(&text).map_err(|error| wrong(&format!("not a map of options: {error}")))?;
    let plain = |(key, value): (String, Value)| match value {
        Value::String(text) => Ok((key, text)),
        Value::Bool(_) | Value::Number(_) => Ok((key, value.to_string())),
        _ => Err(wrong(&format!("the value of {key} is neither text nor number"))),
    };
    map.into_iter().map(plain).collect()
}

fn images(app: &App, name: &str) -> Result<()> {
    let images = addons::images(&app.context()?, &app.profile()?, name)?;
    if images.is_empty() {
        app.ui
            .info(&format!("the addon {name} uses no images of its own"));
        return Ok(());
    }
    let mut table = Table::new(&["IMAGE NAME", "DEFAULT IMAGE"]);
    for (short, reference) in images {
        table.row(&[short, reference]);
    }
    app.ui.line(&table.to_string());
    Ok(())
}

fn open(app: &App, name: &str, reach: &ReachArgs) -> Result<()> {
    let profile = app.profile()?;
    let registry = addons::registry(&app.context()?, &profile)?;
    let Some(Open { namespace, service }) = &registry.find(name)?.about.open else {
        return Err(
            Error::new(Kind::Usage, format!("the addon {name} has nothing to open"))
                .hint("`sampan service list` tells what is published"),
        );
    };
    service::reach(app, namespace, std::slice::from_ref(service), reach)
}
