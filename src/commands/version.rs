//! `version`.

use serde_json::{Map, Value};

use crate::bundle;
use crate::cli::{VersionArgs, VersionFormat};
use crate::error::{Error, Kind, Result};

use super::App;

/// This sampan, with leading "v".
pub(super) const SAMPAN: &str = concat!("v", env!("CARGO_PKG_VERSION"));

pub(super) fn run(app: &App, args: &VersionArgs) -> Result<u8> {
    let mut versions = Map::new();
    let mut put =
        |key: &str, version: &str| versions.insert(key.to_owned(), Value::String(version.to_owned()));
    put("sampanVersion", SAMPAN);
    if !args.short {
        let catalog = bundle::catalog()?;
        put("commit", option_env!("SAMPAN_COMMIT").unwrap_or(""));
        put("kubernetesVersion", &catalog.bundle.kubernetes);
        if args.components {
            for component in &catalog.components {
                put(&component.name, &component.version);
            }
        }
    }
    match args.output {
        VersionFormat::Text if args.short => app.ui.line(SAMPAN),
        VersionFormat::Text => {
            for (key, version) in &versions {
                let version = version.as_str().unwrap_or_default();
                if !version.is_empty() {
                    let key = if key == "sampanVersion" {
                        "sampan version"
                    } else {
                        key
                    };
                    app.ui.line(&format!("{key}: {version}"));
                }
            }
        }
        VersionFormat::Json => app.ui.json(&versions),
        VersionFormat::Yaml => {
            let text = yaml_serde::to_string(&versions)
                .map_err(|error| Error::new(Kind::Internal, "cannot write YAML").because(error))?;
            app.ui.bytes(text.as_bytes());
        }
    }
    Ok(0)
}
