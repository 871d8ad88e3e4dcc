//! `bundle fetch`, and how upstream is reached: what settings and the environment say of proxies, certificates, mirrors and logins.

use std::path::PathBuf;

use crate::bundle::upstream::Options;
use crate::bundle::{self, Source, Wanted};
use crate::cli::Format;
use crate::cli::bundle::FetchArgs;
use crate::error::Result;
use crate::fetch::{self, Mirror};
use crate::progress::{Reporter, StepEnd, StepInfo};
use crate::settings::{self, Settings};

use super::{App, host};

/// What was said about it.
pub(super) fn options(settings: &Settings) -> Options {
    let text = |name: &str| settings.get(name).map(|setting| setting.text.clone());
    let reached = fetch::Settings {
        ca_file: text("ca-file").map(PathBuf::from),
        ..fetch::Settings::default()
    };
    Options {
        fetch: reached.with_proxies_of(&host::variable),
        binary_mirror: text("binary-mirror").filter(|url| !url.is_empty()),
        image_repository: settings::image_repository(settings),
        insecure_registries: settings::list(settings.text("insecure-registry", "")),
        // A user without a home has no logins there.
        docker_config: host::docker_config().ok(),
        catalog: catalog(),
    }
}

/// A catalog of upstream of the user's own.
fn catalog() -> Option<PathBuf> {
    host::variable("SAMPAN_UPSTREAM_CATALOG").map(PathBuf::from)
}

/// No more than that catalog: for what fetches nothing.
pub(super) fn own_catalog() -> Options {
    Options {
        catalog: catalog(),
        ..Options::default()
    }
}

/// Versions of Kubernetes to choose from.
///
/// # Errors
/// When a catalog cannot be used.
pub(super) fn versions() -> Result<Vec<String>> {
    bundle::versions(&own_catalog())
}

/// Fetches a bundle of upstream's releases, unless it is there.
pub(super) fn fetch(app: &App, args: &FetchArgs) -> Result<()> {
    let insecure = (!args.insecure_registry.is_empty()).then(|| args.insecure_registry.join(","));
    let settings = app.settings(vec![
        ("kubernetes-version", args.kubernetes_version.clone()),
        ("ca-file", args.ca_file.clone()),
        ("binary-mirror", args.binary_mirror.clone()),
        ("image-repository", args.image_repository.clone()),
        ("insecure-registry", insecure),
    ])?;
    let mut wanted = Wanted {
        source: Source::Upstream,
        kubernetes: settings::kubernetes_version(&settings, &versions()?)?,
        upstream: options(&settings),
        ..Wanted::default()
    };
    wanted.upstream.fetch.mirror = args.source.as_deref().map(Mirror::parse);
    let ctx = app.work()?;
    let step = StepInfo {
        number: 1,
        total: 1,
        name: "Downloading Artifacts",
        title: "fetching the bundle",
    };
    app.ui.step_begin(step);
    let there = bundle::locate(&ctx.layout, &wanted)?.is_some();
    let result = bundle::ensure(&ctx.layout, &wanted, &*ctx.reporter, &ctx.cancel);
    let end = match (&result, there) {
        (Err(_), _) => StepEnd::Failed,
        (Ok(_), true) => StepEnd::AlreadyDone,
        (Ok(_), false) => StepEnd::Done,
    };
    app.ui.step_end(step, end);
    let bundle = result?;
    if args.output.format == Format::Text {
        app.ui.line(&bundle.layout.0.display().to_string());
    }
    Ok(())
}
