//! `start`: a list of steps. Each says whether it is done already, so starting again goes on where it stopped, and starting a
//! running cluster changes nothing.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sampan_driver::{Driver, DriverError, MachineSpec, MachineState, Runner};

use super::events::{self, Transient};
use super::layer::Layer;
use super::profile::Place;
use super::steps::{self, Step};
use super::{Context, Profile, drivers, kubeconfig, last_words, machine, profile, status, upgrade, verdict};
use crate::bundle::upstream::Options;
use crate::bundle::{Bundle, Source};
use crate::error::{Error, Kind, Result};
use crate::layout::ProfileLayout;
use crate::progress::{StepEnd, StepInfo};
use crate::provision::readiness::Component;
use crate::provision::{self, Api};
use crate::settings::{self, ClusterSpec};
use crate::supervisor;

/// How long `start` waits for another verb on the same profile: longer than a cold start takes.
const LOCK_DEADLINE: Duration = Duration::from_secs(900);

/// How long a guest may take to write its caches out before a failed start kills it.
const SYNC_DEADLINE: Duration = Duration::from_secs(10);

/// What `start` does, in order.
const STEPS: &[&dyn Step] = &[
    &steps::Driver,
    &steps::Bundle,
    &steps::Upgrade,
    &steps::Profile,
    &steps::Ready,
    &steps::Identity,
    &steps::Machine,
    &steps::Connect,
    &steps::Wake,
    &steps::Guest("Preparing Kubernetes", provision::BASE),
    &steps::Guest("Starting Runtime", provision::RUNTIME),
    &steps::Guest("Loading Images", provision::IMAGES),
    &steps::Guest("Starting Runtime", provision::CRI),
    &steps::Guest("Booting control plane", provision::CONTROL_PLANE),
    &steps::Guest("Configuring CNI", provision::NETWORK),
    &steps::DefaultAddons,
    &steps::Guest("Configuring Registries", provision::REGISTRIES),
    &steps::Guest("Configuring Docker", provision::DOCKER),
    &steps::Guest("Configuring RBAC rules", provision::LABELS),
    &steps::Verify,
    &steps::Addons,
];

/// What `--download-only` does: no driver is needed for it.
const DOWNLOAD: &[&dyn Step] = &[&steps::Bundle];

/// What it takes for a machine that is held to go on.
const UNPAUSE: &[&dyn Step] = &[&steps::Bundle, &steps::Machine, &steps::Connect, &steps::Wake];

/// What is to be started, and how long to wait for what.
#[derive(Debug, Clone)]
pub struct StartRequest {
    /// The cluster, validated.
    pub spec: ClusterSpec,
    /// Which components must be healthy before `start` returns.
    pub wait: Vec<Component>,
    /// How long they may take.
    pub wait_timeout: Duration,
    /// Leaves the kubeconfig's current context alone.
    pub keep_context: bool,
    /// Where the bundle of a cluster that has none comes from.
    pub source: Source,
    /// How upstream is reached.
    pub upstream: Options,
    /// Stops after the bundle is there.
    pub download_only: bool,
    /// Boots and initialises the machine instead of forking it from the ready snapshot.
    pub fresh: bool,
    /// Where the host is to reach the cluster, instead of choosing.
    pub place: Option<Place>,
    /// Addons to be enabled.
    pub addons: Vec<String>,
}

impl StartRequest {
    /// A cluster as it is, up to full health.
    pub fn of(spec: ClusterSpec, wait_timeout: Duration) -> Self {
        Self {
            spec,
            wait: Component::ALL.to_vec(),
            wait_timeout,
            keep_context: true,
            source: Source::Auto,
            upstream: Options::default(),
            download_only: false,
            fresh: false,
            place: None,
            addons: Vec::new(),
        }
    }
}

/// What came of a start.
#[derive(Debug, Clone)]
pub struct Started {
    /// The profile as it is now; none after `--download-only`.
    pub profile: Option<Profile>,
    /// Whether the cluster was running and healthy already.
    pub already_running: bool,
    /// How long it took.
    pub elapsed: Duration,
}

/// The state that steps hand on. A field is there once the step that sets it has passed.
pub(super) struct Run<'a> {
    pub(super) ctx: &'a Context,
    pub(super) request: &'a StartRequest,
    pub(super) files: ProfileLayout,
    pub(super) driver: Box<dyn Driver>,
    pub(super) bundle: Option<Bundle>,
    pub(super) profile: Option<Profile>,
    /// What the machine is to be forked from; none for one that exists, or boots.
    pub(super) layer: Option<Layer>,
    /// The machine goes on for the first time since it was forked from another one.
    pub(super) is_fork: bool,
    pub(super) guest: Option<Arc<dyn Runner>>,
    /// Made when first asked for and kept: under emulation a TLS handshake costs a tenth of a second.
    api: OnceCell<Api>,
    /// This run started the machine, so this run ends it when it fails.
    pub(super) launched: bool,
    /// The guest has slept: this run let the machine go on where it was saved, or nobody has looked after it since.
    pub(super) woken: bool,
    /// The cluster was brought up completely since its machine started, and its API answers: nothing in the guest is to be done.
    pub(super) settled: bool,
    /// Some step did something.
    pub(super) changed: bool,
}

impl Run<'_> {
    /// The profile; set by the step of that name.
    pub(super) fn profile(&self) -> Result<&Profile> {
        self.profile
            .as_ref()
            .ok_or_else(|| Error::new(Kind::Internal, "start: no profile yet"))
    }

    /// The bundle; set by the step of that name.
    pub(super) fn bundle(&self) -> Result<&Bundle> {
        self.bundle
            .as_ref()
            .ok_or_else(|| Error::new(Kind::Internal, "start: no bundle yet"))
    }

    /// Whether the cluster is to run a newer version of Kubernetes than its profile says.
    pub(super) fn is_upgrade(&self) -> bool {
        let newer = |profile: &Profile| {
            settings::is_newer(
                &self.request.spec.kubernetes_version,
                &profile.spec.kubernetes_version,
            )
        };
        self.profile.as_ref().is_some_and(newer)
    }

    /// The cluster's API; it need not answer yet.
    pub(super) fn api(&self) -> Result<&Api> {
        match self.api.get() {
            Some(api) => Ok(api),
            None => {
                let api = status::api(self.ctx, self.profile()?)?;
                Ok(self.api.get_or_init(|| api))
            }
        }
    }

    /// Runs commands in the guest; set by the step that connects.
    pub(super) fn guest(&self) -> Result<&dyn Runner> {
        self.guest
            .as_deref()
            .ok_or_else(|| Error::new(Kind::Internal, "start: no connection yet"))
    }
}

/// Makes the cluster or brings it back up; a running healthy one is left as it is.
///
/// # Errors
/// Whatever step failed, with the guest's last words. A machine that this call started does not outlive its failure; all that was
/// written before is there for the next `start`.
pub fn start(ctx: &Context, request: &StartRequest) -> Result<Started> {
    let steps = if request.download_only { DOWNLOAD } else { STEPS };
    take(ctx, request, steps)
}

/// Lets a machine that is held go on.
///
/// # Errors
/// As [`start`].
pub(super) fn unpause(ctx: &Context, request: &StartRequest) -> Result<Started> {
    take(ctx, request, UNPAUSE)
}

/// Takes a profile through these steps.
fn take(ctx: &Context, request: &StartRequest, steps: &[&dyn Step]) -> Result<Started> {
    let began = Instant::now();
    let name = &request.spec.name;
    let files = ctx.layout.profile(name);
    let lock = profile::lock(ctx, name, LOCK_DEADLINE)?;
    // Somebody else's entry of this name, or a damaged file, is better known now than after minutes of work.
    kubeconfig::check(ctx, name)?;
    // One whose first start was interrupted still has to be told.
    let is_fork = verdict::is_fork(&files);
    let mut run = Run {
        ctx,
        request,
        driver: drivers::open_driver(&request.spec.driver, &ctx.layout, &ctx.drivers)?,
        bundle: None,
        profile: profile_if_any(ctx, name)?,
        layer: None,
        is_fork,
        guest: None,
        api: OnceCell::new(),
        launched: false,
        woken: is_fork,
        settled: false,
        changed: false,
        files,
    };
    let result = walk(&mut run, steps).and_then(|()| match &run.profile {
        Some(profile) if !request.download_only => {
            kubeconfig::write(ctx, profile, request.keep_context).map(drop)
        }
        _ => Ok(()),
    });
    let result = result
        .and_then(|()| upgrade::finish(&run))
        .map_err(|error| upgrade::explain(&run, clean_up(&run, error)));
    events::clear(&run.files);
    drop(lock);
    result?;
    // A machine that becomes a layer has a place of somebody else's, and publishes nothing.
    if run.profile.is_some() && request.place.is_none() && run.driver.features().publishing {
        supervisor::nudge(ctx, name, run.woken);
    }
    Ok(Started {
        profile: run.profile,
        already_running: !run.changed,
        elapsed: began.elapsed(),
    })
}

fn profile_if_any(ctx: &Context, name: &str) -> Result<Option<Profile>> {
    match profile::load(&ctx.layout, name) {
        Ok(profile) => Ok(Some(profile)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn walk(run: &mut Run<'_>, steps: &[&dyn Step]) -> Result<()> {
    for (index, step) in steps.iter().enumerate() {
        run.ctx.cancel.check()?;
        let (name, title) = step.names();
        let info = StepInfo {
            number: index + 1,
            total: steps.len(),
            name,
            title,
        };
        if run.files.dir.exists() {
            events::write(&run.files, Transient::Starting, name)?;
        }
        if step.is_done(run)? {
            run.ctx.reporter.step_end(info, StepEnd::AlreadyDone);
            continue;
        }
        run.ctx.reporter.step_begin(info);
        let result = step.run(run);
        run.changed |= step.changes();
        let end = if result.is_ok() {
            StepEnd::Done
        } else {
            StepEnd::Failed
        };
        run.ctx.reporter.step_end(info, end);
        result?;
    }
    Ok(())
}

/// Ends the machine that a failed start began and puts the guest's last words on the error.
fn clean_up(run: &Run<'_>, error: Error) -> Error {
    let Some(profile) = run.profile.as_ref().filter(|_| run.launched) else {
        return error;
    };
    let Ok(spec) = machine::spec(run.ctx, profile) else {
        return error;
    };
    let serial = run
        .driver
        .endpoint(&spec)
        .ok()
        .and_then(|endpoint| endpoint.serial_log);
    let ended = put_back(run, &spec);
    if ended.is_ok()
        && let Err(error) = supervisor::end(&run.files)
    {
        run.ctx.reporter.warn(&error.to_string());
    }
    if let Err(kill) = ended {
        run.ctx
            .reporter
            .warn(&format!("the machine is still running: {kill}"));
    }
    match serial.map(|path| last_words::tail(&path, 15)) {
        // Nobody who pressed Ctrl-C wants to read a log.
        Some(lines) if error.kind() != Kind::Interrupted && !lines.is_empty() => {
            error.detail("end of the machine's serial log", &lines)
        }
        _ => error,
    }
}

/// Leaves a machine as it was before this run launched it, as far as that goes.
fn put_back(run: &Run<'_>, spec: &MachineSpec) -> Result<(), DriverError> {
    if let Some(guest) = &run.guest {
        // What the guest still holds in memory would be lost, and done again by the next start.
        let sync = sampan_driver::Command::new("sync").deadline(SYNC_DEADLINE);
        let _ = guest.run(&sync);
    }
    match run.driver.snapshots() {
        // Nothing of the user's is in it yet, and the next start forks it again.
        _ if run.layer.is_some() => run.driver.remove(spec),
        Some(snapshots) if run.woken && snapshots.save(spec).is_ok() => Ok(()),
        _ => run.driver.kill(spec),
    }
}

/// Whether the profile's machine runs.
pub(super) fn is_running(run: &Run<'_>) -> Result<bool> {
    let Some(profile) = &run.profile else {
        return Ok(false);
    };
    Ok(run.driver.state(&machine::spec(run.ctx, profile)?)? == MachineState::Running)
}
