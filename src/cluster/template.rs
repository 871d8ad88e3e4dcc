//! Ready layers: found by the hash of all they are made of, or made, by the steps of a fresh start on a machine of their own.
//!
//! The machine under construction is a profile in a data directory of its own below the cache, so an interrupted one goes on as
//! any start does. When its cluster is healthy, the driver freezes the machine, and what it leaves becomes the layer.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sampan_driver::{Driver, MachineState, Snapshot};

use super::access::access;
use super::layer::{self, Found, Layer, LayerKind, Manifest, copy_identity, look};
use super::machine::{self, Machine};
use super::profile;
use super::start::{StartRequest, start};
use super::{Context, Profile};
use crate::bundle::Source;
use crate::error::{Error, Kind, Result};
use crate::layout::{LAYER_STATE, LayerLayout, Layout, TEMPLATE_PREFIX};
use crate::progress::{Bar, Reporter, StepEnd, StepInfo, Unit};
use crate::provision;
use crate::store::lock::Lock;
use crate::store::{atomic, hash};

/// The node's name in every ready layer, and so in every profile that is forked from one.
const NODE: &str = "sampan";

/// How long a start waits for another one that makes the same layer.
const LOCK_DEADLINE: Duration = Duration::from_secs(1800);

/// How long a new cluster may take to become healthy: nobody may want to wait less for it than for a machine that is not theirs.
const HEALTHY_DEADLINE: Duration = Duration::from_secs(600);

/// The key of the ready layer for a profile: a hash of everything that the machine and the cluster in it are made of.
pub(super) fn key(ctx: &Context, snapshots: &dyn Snapshot, profile: &Profile) -> Result<String> {
    let spec = profile.spec.of_layer(NODE);
    let spec = toml::to_string(&spec)
        .map_err(|error| Error::new(Kind::Internal, "cannot describe a cluster").because(error))?;
    Ok(hash::Key::new("ready 1")
        .with("bundle", &profile.bundle)
        .with("base", &profile.base)
        .with("cluster", spec)
        .with("machine", snapshots.identity(&machine::spec(ctx, profile)?)?)
        .with("provisioner", env!("SAMPAN_PROVISIONER"))
        .short())
}

/// The ready layer for a profile: found, or made.
///
/// # Errors
/// Whatever keeps a cluster from coming up; [`Kind::Interrupted`].
pub(super) fn ensure(ctx: &Context, driver: &dyn Driver, profile: &Profile) -> Result<Layer> {
    let snapshots = driver
        .snapshots()
        .ok_or_else(|| Error::new(Kind::Internal, "the driver cannot save machines"))?;
    let key = key(ctx, snapshots, profile)?;
    if let Some(layer) = find(ctx, &key)? {
        return Ok(layer);
    }
    let what = format!("the ready snapshot {key}");
    let path = ctx.layout.layer_lock(&key);
    let _lock = Lock::acquire(&path, &what, LOCK_DEADLINE, &ctx.cancel, &*ctx.reporter)?;
    if let Some(layer) = find(ctx, &key)? {
        return Ok(layer);
    }
    ctx.reporter.info(&format!(
        "making the ready snapshot for {} CPUs and {} MiB memory: this is done once, later clusters of this kind start in seconds",
        profile.spec.cpus, profile.spec.memory_mib
    ));
    make(ctx, snapshots, profile, &key)?;
    find(ctx, &key)?.ok_or_else(|| {
        Error::new(
            Kind::Storage,
            format!("the ready snapshot {key} is not whole right after it was made"),
        )
        .hint("check the disk and the host's memory; `sampan start --fresh` does without")
    })
}

/// The layer of a key, if there is a whole one. Damaged ones are set aside.
fn find(ctx: &Context, key: &str) -> Result<Option<Layer>> {
    for name in layer::names(&ctx.layout.ready_layers())? {
        if name.split_once('-').is_none_or(|(of, _)| of != key) {
            continue;
        }
        let files = ctx.layout.ready_layer(&name);
        match look(&files)? {
            Found::Whole(layer) => return Ok(Some(*layer)),
            Found::Damaged(damage) => {
                layer::set_aside(&files)?;
                let place = files.0.display();
                ctx.reporter.warn(&format!(
                    "the ready snapshot {place} is damaged ({damage}) and is not used any more; `sampan cache prune` removes it"
                ));
            }
            Found::Nothing => {}
        }
    }
    Ok(None)
}

/// Makes a layer. The caller holds its lock.
fn make(ctx: &Context, snapshots: &dyn Snapshot, profile: &Profile, key: &str) -> Result<()> {
    let root = ctx.layout.template(key);
    let inner = context(ctx, &root);
    let dir = inner.layout.profile(NODE).dir;
    let state = dir.join(LAYER_STATE);
    if !has_memory(snapshots, &state) {
        atomic::remove(&state)?;
        let template = bring_up(&inner, profile)?;
        import_addon_images(&inner)?;
        freeze(&inner, template, &state)?;
    }
    let template = profile::load(&inner.layout, NODE)?;
    let made = LayerLayout(dir.clone());
    // Machines stand on a layer's files by their names: another layer must never get the names of one that is gone.
    let name = format!("{key}-{}", layer::new_id(key));
    Manifest::new(LayerKind::Ready, &name, &template, true).seal(&made, &ctx.cancel, &*ctx.reporter)?;
    let done = atomic::Dir::begin(&ctx.layout.ready_layer(&name).0)?;
    fs::set_permissions(done.path(), fs::Permissions::from_mode(0o700)).map_err(Error::io(done.path()))?;
    copy_identity(&dir, done.path())?;
    let layer = LayerLayout(done.path().to_owned());
    for (from, to) in [(state, layer.state()), (made.manifest(), layer.manifest())] {
        fs::rename(from, &to).map_err(Error::io(&to))?;
    }
    done.commit()?;
    atomic::remove(&root)
}

/// Whether a machine was saved here with its memory: a disk alone is what is left of one that ended before it was saved.
fn has_memory(snapshots: &dyn Snapshot, state: &Path) -> bool {
    matches!(snapshots.saved(state), Ok(Some(files)) if files.len() > 1)
}

/// The library as the machine under construction sees it: nothing of the user's is touched.
fn context(ctx: &Context, root: &Path) -> Context {
    Context {
        layout: Layout {
            data: root.to_owned(),
            ..ctx.layout.clone()
        },
        kubeconfig: vec![root.join("kubeconfig")],
        reporter: Arc::new(Inside {
            outer: Arc::clone(&ctx.reporter),
            began: Mutex::new(Instant::now()),
        }),
        ..ctx.clone()
    }
}

/// Reports the steps of the machine under construction as what the one step is doing that it is made in.
struct Inside {
    outer: Arc<dyn Reporter>,
    began: Mutex<Instant>,
}

impl Reporter for Inside {
    fn step_begin(&self, step: StepInfo) {
        if let Ok(mut began) = self.began.lock() {
            *began = Instant::now();
        }
        self.outer.detail(step.title);
    }

    fn step_end(&self, step: StepInfo, end: StepEnd) {
        let seconds = self
            .began
            .lock()
            .map_or(0.0, |began| began.elapsed().as_secs_f64());
        if end == StepEnd::Done {
            self.outer.info(&format!("  {} ({seconds:.1}s)", step.title));
        }
    }

    fn detail(&self, message: &str) {
        self.outer.detail(message);
    }

    fn info(&self, message: &str) {
        self.outer.info(&format!("  {message}"));
    }

    fn warn(&self, message: &str) {
        self.outer.warn(message);
    }

    fn bar(&self, title: &str, total: Option<u64>, unit: Unit) -> Box<dyn Bar> {
        self.outer.bar(title, total, unit)
    }
}

/// Starts the cluster as any other, up to full health.
fn bring_up(inner: &Context, profile: &Profile) -> Result<Profile> {
    let spec = profile.spec.of_layer(NODE);
    let request = StartRequest {
        fresh: true,
        place: Some(profile.place()),
        source: Source::Dir(inner.layout.bundles().join(&profile.bundle)),
        ..StartRequest::of(spec, HEALTHY_DEADLINE)
    };
    let started = start(inner, &request)?;
    started
        .profile
        .ok_or_else(|| Error::new(Kind::Internal, "a start without a profile"))
}

/// Images of addons are in every fork then: enabling one there imports nothing, and what was just unpacked is still in the guest's
/// memory.
fn import_addon_images(inner: &Context) -> Result<()> {
    let step = provision::ADDON_IMAGES;
    inner.reporter.detail(step.title);
    let began = Instant::now();
    access(inner, NODE)?.with_node(|node| {
        if !(step.is_done)(node)? {
            (step.apply)(node)?;
        }
        Ok(())
    })?;
    let seconds = began.elapsed().as_secs_f64();
    inner.reporter.info(&format!("{} ({seconds:.1}s)", step.title));
    Ok(())
}

fn freeze(inner: &Context, template: Profile, state: &Path) -> Result<()> {
    let machine = Machine::of(inner, template)?;
    let snapshots = machine.snapshots()?;
    inner.reporter.detail("saving the machine");
    machine.sync()?;
    snapshots.freeze(&machine.spec, state)?;
    if has_memory(snapshots, state) {
        return Ok(());
    }
    Err(Error::new(
        Kind::Driver,
        "the machine of the ready snapshot ended while it was saved",
    )
    .hint("run the same command again"))
}

/// Ends machines of layers under construction that nobody works on any more: their sampan was killed. Their disks stay, and the
/// next start that needs the layer goes on with them.
///
/// # Errors
/// When a machine cannot be ended.
pub(super) fn end_abandoned(ctx: &Context) -> Result<()> {
    let Ok(entries) = fs::read_dir(ctx.layout.ready_layers()) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(key) = name.strip_prefix(TEMPLATE_PREFIX) else {
            continue;
        };
        let path = ctx.layout.layer_lock(key);
        let lock = Lock::acquire(&path, "a layer", Duration::ZERO, &ctx.cancel, &*ctx.reporter);
        if let Err(error) = &lock
            && error.kind() == Kind::Locked
        {
            continue;
        }
        let inner = context(ctx, &entry.path());
        let Ok(template) = profile::load(&inner.layout, NODE) else {
            continue;
        };
        let machine = Machine::of(&inner, template)?;
        if machine.state()? != MachineState::Stopped {
            machine.driver.kill(&machine.spec)?;
        }
    }
    Ok(())
}
