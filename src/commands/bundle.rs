//! `bundle`.

use serde_json::{Value, json};

use crate::bundle;
use crate::cli::TableFormat;
use crate::cli::bundle::{BundleArgs, BundleVerb};
use crate::error::Result;
use crate::ui::Table;

use super::App;

pub(super) fn run(app: &App, args: &BundleArgs) -> Result<u8> {
    match args.verb {
        BundleVerb::Build => {
            let ctx = app.work()?;
            let bundle = bundle::ensure(&ctx.layout, &*ctx.reporter, &ctx.cancel)?;
            app.ui.line(&bundle.layout.0.display().to_string());
        }
        BundleVerb::List { output } => list(app, output)?,
    }
    Ok(0)
}

fn list(app: &App, output: TableFormat) -> Result<()> {
    let entries = bundle::list(&app.layout()?)?;
    if output == TableFormat::Json {
        let value: Vec<Value> = entries
            .iter()
            .map(|entry| json!({ "key": entry.key, "current": entry.current }))
            .collect();
        app.ui.json(&value);
        return Ok(());
    }
    let mut table = Table::new(&["Key", "Kubernetes", "Current"]);
    for entry in &entries {
        let version = entry
            .state
            .as_ref()
            .map_or_else(Clone::clone, |manifest| manifest.kubernetes.clone());
        table.row(&[
            entry.key.clone(),
            version,
            if entry.current {
                "*".to_owned()
            } else {
                String::new()
            },
        ]);
    }
    app.ui.line(&table.to_string());
    Ok(())
}
