//! `config`: the settings file.

use crate::cli::{ConfigArgs, ConfigVerb, Format};
use crate::cluster;
use crate::error::{Error, Kind, Result};
use crate::progress::Reporter;
use crate::settings::{ConfigFile, KEYS, Key, Setting, Source, ValueKind, default_text, unset_anyway};

use super::{App, template};

pub(super) fn run(app: &App, args: &ConfigArgs) -> Result<u8> {
    match &args.verb {
        // The current profile is no setting of the file; scripts that know minikube set it here.
        ConfigVerb::Set { name, value } if name == "profile" => super::profile::choose(app, value)?,
        ConfigVerb::Get { name } if name == "profile" => match cluster::current(&app.layout()?) {
            Some(profile) => app.ui.line(&profile),
            None => return Err(not_set(name)),
        },
        ConfigVerb::Unset { name } if name == "profile" => super::profile::forget(app)?,
        ConfigVerb::Set { name, value } => set(app, name, value)?,
        ConfigVerb::Get { name } => get(app, name)?,
        ConfigVerb::Unset { name } => unset(app, name)?,
        ConfigVerb::View { format } => view(app, format)?,
        ConfigVerb::Defaults { name, output } => defaults(app, name.as_deref(), output.format)?,
    }
    Ok(0)
}

fn not_set(name: &str) -> Error {
    Error::new(
        Kind::Usage,
        format!("specified key could not be found in config: `{name}` is not set"),
    )
    .hint(format!("set it with `sampan config set {name} VALUE`"))
}

fn set(app: &App, name: &str, value: &str) -> Result<()> {
    let path = app.layout()?.config_file();
    let key = Key::find(name)?;
    key.check(value).map_err(|what| {
        let setting = Setting {
            key: key.name,
            text: value.to_owned(),
            source: Source::Flag,
        };
        // As it was typed: "memory 4x", not "--memory 4x".
        let (what, hint) = what.split_once("; ").unwrap_or((&what, key.help));
        Error::new(Kind::Usage, format!("`{} {}` {what}", setting.key, setting.text)).hint(hint)
    })?;
    if key.name == "driver" {
        let drivers = app.choices()?.drivers;
        if !drivers.iter().any(|driver| driver == value) {
            return Err(Error::new(Kind::Usage, format!("there is no driver `{value}`"))
                .hint(crate::settings::did_you_mean(value, &drivers)));
        }
    }
    let mut file = ConfigFile::read(&path)?;
    file.set(key, value);
    file.write()?;
    if cluster::list(&app.layout()?)?.is_empty() {
        return Ok(());
    }
    if key.fixed {
        app.ui
            .warn("this counts for new clusters: one that exists has to be deleted and started again");
    } else if matches!(key.kind, ValueKind::Registries | ValueKind::Mirrors) {
        app.ui.warn(&format!(
            "this counts for new clusters: one that exists changes with `sampan start --{} {value}`",
            key.name
        ));
    }
    Ok(())
}

fn get(app: &App, name: &str) -> Result<()> {
    let key = Key::find(name)?;
    let entries = ConfigFile::read(&app.layout()?.config_file())?.entries()?;
    let (_, text) = entries
        .into_iter()
        .find(|(entry, _)| entry.name == key.name)
        .ok_or_else(|| not_set(name))?;
    app.ui.line(&text);
    Ok(())
}

/// Takes a setting out; an unknown one too, as that is the way out of a file with a mistake.
fn unset(app: &App, name: &str) -> Result<()> {
    let path = app.layout()?.config_file();
    let found = match Key::find(name) {
        Ok(key) => unset_anyway(&path, key.name)? || (name != key.name && unset_anyway(&path, name)?),
        Err(error) => {
            if !unset_anyway(&path, name)? {
                return Err(error);
            }
            true
        }
    };
    if !found {
        app.ui.info(&format!("`{name}` was not set"));
    }
    Ok(())
}

fn view(app: &App, format: &str) -> Result<()> {
    // A template with a mistake is one also where nothing is set.
    template::render(format, &[("ConfigKey", ""), ("ConfigValue", "")])?;
    let mut entries = ConfigFile::read(&app.layout()?.config_file())?.entries()?;
    entries.sort_by_key(|(key, _)| KEYS.iter().position(|known| known.name == key.name));
    for (key, text) in entries {
        app.ui.line(&template::render(
            format,
            &[("ConfigKey", key.name), ("ConfigValue", &text)],
        )?);
    }
    Ok(())
}

fn defaults(app: &App, name: Option<&str>, output: Format) -> Result<()> {
    let choices = app.choices()?;
    let keys: Vec<&Key> = match name {
        Some(name) => vec![Key::find(name)?],
        None => KEYS.iter().collect(),
    };
    match output {
        Format::Text => {
            for key in keys {
                let text = format!("{} = {:?}", key.name, default_text(key, &choices));
                app.ui.line(&format!("{text:<52} # {}", key.help));
            }
        }
        Format::Json => {
            let object: serde_json::Map<_, _> = keys
                .iter()
                .map(|key| (key.name.to_owned(), default_text(key, &choices).into()))
                .collect();
            app.ui.json(&object);
        }
    }
    Ok(())
}
