//! `start`.

use std::time::Duration;

use crate::bundle;
use crate::cli::StartArgs;
use crate::cluster::{self, Context, StartRequest, Started};
use crate::error::{Kind, Result};
use crate::progress::Reporter;
use crate::settings::{self, ClusterSpec};

use super::{App, docker_env, host, source};

pub(super) fn run(app: &App, args: &StartArgs) -> Result<u8> {
    let settings = app.settings(args.settings())?;
    let name = app.profile()?;
    let layout = app.layout()?;
    let existing = match cluster::load(&layout, &name) {
        Ok(profile) => Some(profile.spec),
        Err(error) if error.kind() == Kind::NotFound => None,
        Err(error) => return Err(error),
    };
    let source = source::of(&layout, &settings)?;
    let mut choices = app.choices()?;
    match bundle::version_of(&source, settings.text("kubernetes-version", "")) {
        Ok(Some(version)) => choices.kubernetes.insert(0, version),
        // A cluster that stays what it is needs no source.
        Err(error) if existing.is_none() => return Err(error),
        _ => {}
    }
    let mut resolved = settings::resolve(&name, &settings, existing.as_ref(), &choices)?;
    if existing.is_none() && settings.get("driver").is_none() {
        let (driver, why) = cluster::select(&layout, &host::drivers()?)?;
        app.ui.info(&why);
        resolved.spec.driver = driver;
    }
    for warning in &resolved.warnings {
        app.ui.warn(warning);
    }
    let spec = resolved.spec;
    let registries = registries(&spec, existing.as_ref());
    if args.dry_run == Some(true) {
        return dry_run(app, existing.as_ref(), &spec, registries);
    }
    let (wait, wait_timeout) = settings::wait(&settings)?;
    let mut upstream = super::upstream::options(&settings);
    upstream.insecure_registries.clone_from(&spec.insecure_registries);
    let request = StartRequest {
        spec,
        wait,
        wait_timeout,
        keep_context: settings.flag("keep-context"),
        source,
        upstream,
        download_only: args.download_only == Some(true),
        fresh: args.fresh == Some(true),
        place: None,
        addons: args.addons.clone(),
    };
    let ctx = app.work()?;
    if let Some(line) = describe(existing.as_ref(), &request.spec) {
        app.ui.info(&line);
    }
    if existing.is_none() {
        let driver = cluster::open_driver(&request.spec.driver, &ctx.layout, &ctx.drivers)?;
        for limit in cluster::limits(driver.name(), &driver.features()) {
            app.ui.info(&limit);
        }
    }
    if let Some(line) = registries {
        app.ui.info(&line);
    }
    match cluster::start(&ctx, &request) {
        Ok(started) => {
            tell(app, &request, &started);
            if let Err(error) = docker_env::renew_context(app, &name) {
                app.ui
                    .warn(&format!("the cluster's Docker context stays as it was: {error}"));
            }
            Ok(0)
        }
        Err(error) => {
            if settings.flag("delete-on-failure") && existing.is_none() {
                delete_failed(&ctx, app, &name);
            }
            Err(error)
        }
    }
}

/// What a start makes of a cluster, where that is something new.
fn describe(existing: Option<&ClusterSpec>, spec: &ClusterSpec) -> Option<String> {
    let (name, version) = (&spec.name, &spec.kubernetes_version);
    match existing {
        None => Some(format!(
            "making cluster \"{name}\": {}, {} CPUs, {} MiB memory, {} MiB disk, Kubernetes {version}",
            spec.driver, spec.cpus, spec.memory_mib, spec.disk_mib
        )),
        Some(before) if before.kubernetes_version == *version => None,
        Some(before) => Some(format!(
            "upgrading cluster \"{name}\" from Kubernetes {} to {version}",
            before.kubernetes_version
        )),
    }
}

/// What a start makes of the cluster's registries, where that is not what they are.
fn registries(spec: &ClusterSpec, existing: Option<&ClusterSpec>) -> Option<String> {
    let of = |spec: &ClusterSpec| (spec.insecure_registries.clone(), spec.registry_mirrors.clone());
    let (insecure, mirrors) = of(spec);
    if existing.map(of).unwrap_or_default() == (insecure.clone(), mirrors.clone()) {
        return None;
    }
    let words = |all: &[String]| match all {
        [] => "none".to_owned(),
        all => all.join(", "),
    };
    Some(format!(
        "registries without TLS: {}; mirrors of Docker Hub: {}",
        words(&insecure),
        words(&mirrors)
    ))
}

/// Checks what can be checked without changing anything of the cluster.
fn dry_run(
    app: &App,
    existing: Option<&ClusterSpec>,
    spec: &ClusterSpec,
    registries: Option<String>,
) -> Result<u8> {
    let ctx = app.context()?;
    let made = describe(existing, spec);
    if made.is_none() && registries.is_none() {
        app.ui
            .info(&format!("cluster \"{}\" stays what it is", spec.name));
    }
    for line in [made, registries].into_iter().flatten() {
        app.ui.info(&line);
    }
    let health = cluster::open_driver(&spec.driver, &ctx.layout, &ctx.drivers)?.check()?;
    let words = [
        spec.driver.as_str(),
        health.version.as_str(),
        health.accelerator.as_str(),
    ];
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    app.ui.info(&format!("driver: {}", words.join(" ")));
    app.ui.info("dry run: everything is fine, nothing was changed");
    Ok(0)
}

/// Takes away what a failed first start left. That it failed is told by its own error.
fn delete_failed(ctx: &Context, app: &App, name: &str) {
    let ctx = Context {
        cancel: crate::progress::Cancel::default(),
        ..ctx.clone()
    };
    match cluster::delete(&ctx, name) {
        Ok(_) => app
            .ui
            .warn(&format!("deleted cluster \"{name}\", as its start failed")),
        Err(error) => app.ui.warn(&format!(
            "cluster \"{name}\" could not be deleted after its start failed: {error}"
        )),
    }
}

/// What came of it, and what to type next.
fn tell(app: &App, request: &StartRequest, started: &Started) {
    let name = &request.spec.name;
    if request.download_only {
        app.ui.info("everything that a start needs is here");
        return;
    }
    if started.already_running {
        app.ui.info(&format!("cluster \"{name}\" is running already"));
    } else {
        app.ui.info(&format!(
            "cluster \"{name}\" is ready after {}",
            rounded(started.elapsed)
        ));
    }
    tell_kubectl(app, name, request.keep_context);
}

/// How kubectl reaches the cluster.
pub(super) fn tell_kubectl(app: &App, name: &str, keep_context: bool) {
    if host::find_program("kubectl").is_none() {
        app.ui.info(&format!(
            "there is no kubectl in PATH; sampan brings one: sampan -p {name} kubectl -- get nodes"
        ));
    } else if keep_context {
        app.ui.info(&format!(
            "kubectl keeps its context; for this cluster: kubectl --context {name} get nodes"
        ));
    } else {
        app.ui
            .info(&format!("kubectl uses \"{name}\" now: kubectl get nodes"));
    }
}

fn rounded(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1}s", time.as_secs_f64()),
        whole @ 10..60 => format!("{whole}s"),
        whole => format!("{}m {:02}s", whole / 60, whole % 60),
    }
}
