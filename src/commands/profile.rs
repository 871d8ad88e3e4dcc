//! `profile`: which cluster is meant, and which there are.

use serde_json::{Value, json};

use crate::cli::{ProfileArgs, ProfileListArgs, ProfileVerb, TableFormat};
use crate::cluster::{self, Context, Profile};
use crate::error::{Error, Kind, Result};
use crate::kubeconfig::Files;
use crate::progress::Reporter;
use crate::settings;
use crate::ui::Table;

use super::App;
use super::status::Code;

pub(super) fn run(app: &App, args: &ProfileArgs) -> Result<u8> {
    match (&args.verb, &args.name) {
        (Some(ProfileVerb::List(list)), _) => return self::list(app, list),
        (None, Some(name)) => choose(app, name)?,
        (None, None) => app.ui.line(&app.profile()?),
    }
    Ok(0)
}

/// Makes a cluster the one that is meant. Naming one that is not there changes nothing and is no failure: minikube's contract.
pub(super) fn choose(app: &App, name: &str) -> Result<()> {
    settings::label(name).map_err(|what| settings::wrong_name(name, &what))?;
    let layout = app.layout()?;
    if !cluster::exists(&layout, name) {
        app.ui.warn(&format!(
            "there is no cluster \"{name}\"; `sampan start -p {name}` makes it"
        ));
        return Ok(());
    }
    cluster::set_current(&layout, name)?;
    app.ui.info(&format!("\"{name}\" is the current profile now"));
    Ok(())
}

/// Chooses none, so that the default name is meant.
pub(super) fn forget(app: &App) -> Result<()> {
    let path = app.layout()?.current_profile();
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&path)(error)),
        _ => Ok(()),
    }
}

/// A cluster in the list.
struct Row {
    name: String,
    profile: Result<Profile>,
    status: String,
    /// What the machine really holds, in bytes, while it has a process.
    memory: Option<u64>,
    active: bool,
    active_context: bool,
}

fn list(app: &App, args: &ProfileListArgs) -> Result<u8> {
    let ctx = app.context()?;
    let rows = rows(&ctx, app, args.light)?;
    match args.output.format {
        TableFormat::Json => app.ui.json(&as_json(&rows)),
        TableFormat::Table if rows.is_empty() => {
            return Err(
                Error::new(Kind::Usage, "there are no clusters").hint("run `sampan start` to make one")
            );
        }
        TableFormat::Table => {
            app.ui.line(&as_table(&rows, args.detailed).to_string());
            for row in &rows {
                if let Err(error) = &row.profile {
                    app.ui
                        .warn(&format!("profile \"{}\" cannot be read: {error}", row.name));
                }
            }
        }
    }
    Ok(0)
}

fn rows(ctx: &Context, app: &App, light: bool) -> Result<Vec<Row>> {
    let meant = app.profile()?;
    // A damaged kubeconfig is told by the verbs that need it.
    let context = Files::new(ctx.kubeconfig.clone())
        .current_context()
        .unwrap_or_default();
    let row = |name: String| {
        let (status, memory) = match light {
            true => ("Skipped", None),
            false => cluster::status(ctx, &name).map_or(("Unknown", None), |status| {
                (Code::of(&status).name(), status.resident)
            }),
        };
        Row {
            profile: cluster::load(&ctx.layout, &name),
            status: status.to_owned(),
            memory,
            active: name == meant,
            active_context: Some(&name) == context.as_ref(),
            name,
        }
    };
    Ok(cluster::list(&ctx.layout)?.into_iter().map(row).collect())
}

fn as_table(rows: &[Row], detailed: bool) -> Table {
    let mut columns = vec!["Profile", "Driver", "Runtime", "IP"];
    if detailed {
        columns.push("Port");
    }
    columns.extend([
        "Version",
        "Status",
        "Memory",
        "Nodes",
        "Active Profile",
        "Active Kubecontext",
    ]);
    let mut table = Table::new(&columns);
    let mark = |yes: bool| if yes { "*".to_owned() } else { String::new() };
    for row in rows {
        let Ok(profile) = &row.profile else { continue };
        let spec = &profile.spec;
        let mut cells = vec![
            row.name.clone(),
            spec.driver.clone(),
            "containerd".to_owned(),
            profile.address.to_string(),
        ];
        if detailed {
            cells.push(profile.api_port.to_string());
        }
        cells.extend([
            spec.kubernetes_version.clone(),
            row.status.clone(),
            row.memory
                .map_or_else(String::new, |bytes| format!("{} MiB", bytes >> 20)),
            "1".to_owned(),
        ]);
        cells.extend([mark(row.active), mark(row.active_context)]);
        table.row(&cells);
    }
    table
}

fn as_json(rows: &[Row]) -> Value {
    let entry = |row: &Row, config: Value| {
        let mut value = json!({
            "Name": row.name,
            "Status": row.status,
            "Config": config,
            "Active": row.active,
            "ActiveKubeContext": row.active_context,
        });
        if let Some(bytes) = row.memory {
            value["Memory"] = json!(bytes);
        }
        value
    };
    let valid: Vec<Value> = rows
        .iter()
        .filter_map(|row| Some(entry(row, config(row.profile.as_ref().ok()?))))
        .collect();
    let invalid: Vec<Value> = rows
        .iter()
        .filter(|row| row.profile.is_err())
        .map(|row| entry(row, Value::Null))
        .collect();
    json!({ "valid": valid, "invalid": invalid })
}

/// What minikube keeps of a cluster, as far as it means something here.
fn config(profile: &Profile) -> Value {
    let spec = &profile.spec;
    json!({
        "Name": spec.name,
        "Driver": spec.driver,
        "CPUs": spec.cpus,
        "Memory": spec.memory_mib,
        "DiskSize": spec.disk_mib,
        "InsecureRegistry": spec.insecure_registries,
        "RegistryMirror": spec.registry_mirrors,
        "KubernetesConfig": {
            "KubernetesVersion": spec.kubernetes_version,
            "ClusterName": spec.name,
            "APIServerNames": spec.apiserver_names,
            "DNSDomain": spec.dns_domain,
            "ContainerRuntime": spec.container_runtime.name(),
            "ServiceCIDR": spec.service_cidr,
            "FeatureGates": spec.feature_gates,
        },
        "Nodes": [{
            "Name": "",
            "IP": profile.address,
            "Port": profile.api_port,
            "KubernetesVersion": spec.kubernetes_version,
            "ContainerRuntime": spec.container_runtime.name(),
            "ControlPlane": true,
            "Worker": true,
        }],
        "Bundle": profile.parts(),
        "BaseBundle": profile.bundle,
    })
}
