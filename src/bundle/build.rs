//! The source `build`: base from Debian packages, components compiled from their Go modules, container images from both. Whatever
//! was built before with the same inputs is taken from the cache; what is interrupted goes on there.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use sampan_driver::Command;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::cached::{self, Source};
use super::catalog::{Catalog, Component};
use super::components::{self, Built, Place, Toolchain};
use super::image_layers::{Layers, archives, layers};
use super::manifest::{CONTRACT, ComponentRef, FORMAT, ImageRef, Manifest, Origin};
use super::parts::Part;
use super::wheels::{self, Wheel};
use super::{arch, job, parts, tools, tree};
use crate::error::{Error, Kind, Result};
use crate::layout::{BundleLayout, Layout};
use crate::progress::{Cancel, Reporter, Unit};
use crate::store::{atomic, hash};

/// How many parts are built at a time. A Go build uses all cores by itself; a second one fills its gaps (downloads, linking).
const WORKERS: usize = 2;
const BASE_DEADLINE: Duration = Duration::from_secs(30 * 60);
/// The images of a parts disk.
const IMAGES: &str = "images.json";
const BASE_FILES: [&str; 6] = [
    "disk.raw",
    "vmlinuz",
    "bzimage",
    "initrd.img",
    "cmdline",
    "rootfs.tar",
];

/// A part that is built apart from the others.
enum Job {
    Base(PathBuf),
    Component(Component, PathBuf),
    Wheel(Wheel, PathBuf),
}

impl Job {
    fn title(&self) -> String {
        match self {
            Self::Base(_) => "base system".to_owned(),
            Self::Component(component, _) => format!("{} {}", component.name, component.version),
            Self::Wheel(wheel, _) => format!("{} {}", wheel.name, wheel.version),
        }
    }

    fn is_built(&self) -> bool {
        match self {
            Self::Base(target) | Self::Component(_, target) | Self::Wheel(_, target) => {
                cached::is_whole(target)
            }
        }
    }

    fn build(&self, place: &Place<'_>) -> Result<()> {
        match self {
            Self::Base(target) => build_base(place, target),
            Self::Component(component, target) => components::build(place, component, target),
            Self::Wheel(wheel, target) => wheels::build(place, wheel, target),
        }
    }

    /// The programs that it makes.
    fn built(&self) -> Option<Built> {
        let (dir, programs) = match self {
            Self::Base(_) => return None,
            Self::Component(component, dir) => (
                dir,
                component
                    .programs
                    .iter()
                    .map(|program| program.name.clone())
                    .collect(),
            ),
            Self::Wheel(wheel, dir) => (
                dir,
                wheel
                    .programs
                    .iter()
                    .map(|program| program.name.clone())
                    .collect(),
            ),
        };
        let dir = dir.clone();
        Some(Built { dir, programs })
    }
}

/// All parts of a bundle.
fn jobs(place: &Place<'_>, catalog: &Catalog, toolchain: &Toolchain, base: &Path) -> Result<Vec<Job>> {
    // The base and the wheels first: they mostly wait for the network and the disk.
    let mut jobs = vec![Job::Base(base.to_owned())];
    for wheel in &catalog.wheels {
        jobs.push(Job::Wheel(wheel.clone(), wheels::dir(place, wheel)?));
    }
    for component in &catalog.components {
        let dir = components::dir(place, component, toolchain);
        jobs.push(Job::Component(component.clone(), dir));
    }
    Ok(jobs)
}

/// What is built.
pub(super) struct Order<'a> {
    /// The bundle's key.
    pub(super) key: &'a str,
    /// What it is made of.
    pub(super) catalog: Catalog,
    /// Its directory, which is not there yet.
    pub(super) target: PathBuf,
    /// Whether what the cache holds for other inputs goes.
    pub(super) tidy: bool,
}

/// Builds a bundle and puts it at its place. The caller holds the lock of the build directory.
///
/// When a file of the cache turns out to be damaged, what it is part of is removed from the cache and the file is returned: the
/// caller may try once more.
pub(super) fn build(
    layout: &Layout,
    order: &Order<'_>,
    reporter: &dyn Reporter,
    cancel: &Cancel,
) -> Result<Option<PathBuf>> {
    reporter.detail("checking the tools on this host");
    tools::check(arch())?;
    let catalog = &order.catalog;
    let build = layout.build();
    atomic::make_dir(&build)?;
    let tree = tree::unpack(&build)?;
    let stop = Cancel::default();
    let place = Place {
        build: &build,
        tree: &tree,
        cancel,
        stop: &stop,
    };
    let toolchain = Toolchain::ask(&tree.join("components/kubernetes"))?;

    let base = build.join("base").join(
        hash::Key::new("base 2")
            .with("tree", tree::hash_of("base"))
            .with("arch", arch())
            .short(),
    );
    let jobs = jobs(&place, catalog, &toolchain, &base)?;
    let built: Vec<Built> = jobs.iter().filter_map(Job::built).collect();
    run_jobs(&place, jobs, reporter)?;

    let layers = layers(&place, catalog, &built, &base, reporter)?;
    let parts = parts_disk(&place, catalog, &built, &layers, reporter)?;
    let mut keep: Vec<PathBuf> = built.iter().map(|built| built.dir.clone()).collect();
    keep.extend(layers.values().filter_map(|layer| layer.dir.clone()));
    keep.extend([base.clone(), parts.clone()]);

    let dir = atomic::Dir::begin(&order.target)?;
    let bundle = BundleLayout(dir.path().to_owned());
    let sources = fill(&bundle, &built, &base, &parts, reporter)?;
    let manifest = Manifest {
        format: FORMAT,
        key: order.key.to_owned(),
        arch: arch().to_owned(),
        kubernetes: catalog.bundle.kubernetes.clone(),
        created: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
        toolchain: toolchain.go,
        contract: CONTRACT,
        source: Origin::Build,
        base: catalog.bundle.base.clone(),
        components: component_refs(catalog),
        images: read_images(&parts)?,
        files: Manifest::sums(&bundle.0, cancel, reporter)?,
    };
    if let Some(damaged) = sources.iter().find(|source| !source.is_right(&manifest)) {
        atomic::remove(&damaged.dir)?;
        return Ok(Some(damaged.dir.join(damaged.file)));
    }
    reporter.detail("writing the bundle to the disk");
    manifest.write(&bundle)?;
    dir.commit()?;
    // Only now: until here an interrupted build may go on with an older sampan.
    if order.tidy {
        remove_others(&build, &keep)?;
    }
    Ok(None)
}

/// Removes what the cache holds for other inputs than these.
fn remove_others(build: &Path, keep: &[PathBuf]) -> Result<()> {
    for folder in ["components", "wheels", "base", "layers", "parts"] {
        let Ok(entries) = fs::read_dir(build.join(folder)) else {
            continue;
        };
        for entry in entries.flatten().map(|entry| entry.path()) {
            if !keep.contains(&entry) {
                atomic::remove(&entry)?;
            }
        }
    }
    Ok(())
}

fn component_refs(catalog: &Catalog) -> Vec<ComponentRef> {
    let components = catalog.components.iter();
    let components = components.map(|component| (&component.name, component.version.clone()));
    // Versions as upstream writes them elsewhere: a package index has them without the letter.
    let wheels = catalog.wheels.iter();
    let wheels = wheels.map(|wheel| (&wheel.name, format!("v{}", wheel.version)));
    let refs = components.chain(wheels).map(|(name, version)| ComponentRef {
        name: name.clone(),
        version,
    });
    refs.collect()
}

/// Builds what is not built yet, [`WORKERS`] at a time. The first failure ends the others.
fn run_jobs(place: &Place<'_>, jobs: Vec<Job>, reporter: &dyn Reporter) -> Result<()> {
    let jobs: VecDeque<Job> = jobs.into_iter().filter(|job| !job.is_built()).collect();
    if jobs.is_empty() {
        return Ok(());
    }
    let bar = reporter.bar("building components", Some(jobs.len() as u64), Unit::Items);
    let queue = Mutex::new(jobs);
    let running = Mutex::new(Vec::new());
    let failure = Mutex::new(None);
    let worker = || {
        while let Some(job) = next(&queue) {
            let title = job.title();
            show(reporter, &running, |running| running.push(title.clone()));
            let begun = Instant::now();
            let result = place.stop.check().and_then(|()| job.build(place));
            show(reporter, &running, |running| {
                running.retain(|other| *other != title)
            });
            match result {
                Ok(()) => {
                    bar.advance(1);
                    reporter.info(&format!("{title}: built in {} s", begun.elapsed().as_secs()));
                }
                Err(error) => {
                    // What fails after the first failure was ended by us.
                    if !place.stop.flag().swap(true, Ordering::Relaxed) {
                        *lock(&failure) = Some(error);
                    }
                    return;
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(worker);
        }
    });
    let failure = lock(&failure).take();
    failure.map_or(Ok(()), Err)
}

fn next(queue: &Mutex<VecDeque<Job>>) -> Option<Job> {
    lock(queue).pop_front()
}

/// Changes the list of what is being built, and shows it.
fn show(reporter: &dyn Reporter, running: &Mutex<Vec<String>>, change: impl FnOnce(&mut Vec<String>)) {
    let mut running = lock(running);
    change(&mut running);
    if !running.is_empty() {
        reporter.detail(&format!("building {}", running.join(", ")));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn build_base(place: &Place<'_>, target: &Path) -> Result<()> {
    let dir = atomic::Dir::begin(target)?;
    let command = Command::new("sh")
        .path(&place.tree.join("base/build.sh"))
        .path(dir.path())
        .deadline(BASE_DEADLINE);
    job::run(
        "the base system",
        &command,
        &place.log("base"),
        place.cancel,
        place.stop,
    )?;
    if let Some(file) = BASE_FILES.iter().find(|file| !dir.path().join(file).is_file()) {
        return Err(
            Error::new(Kind::Bundle, format!("images/base/build.sh left no {file}"))
                .hint(format!("its log: {}", place.log("base").display())),
        );
    }
    cached::seal(dir, target, place.cancel)
}

/// Makes the parts disk unless it was made from the same parts before; returns its directory in the cache.
fn parts_disk(
    place: &Place<'_>,
    catalog: &Catalog,
    built: &[Built],
    layers: &Layers,
    reporter: &dyn Reporter,
) -> Result<PathBuf> {
    let mut key = hash::Key::new("parts 2").with("catalog", tree::hash_of("catalog.toml"));
    for dir in built
        .iter()
        .map(|built| &built.dir)
        .chain(layers.values().filter_map(|layer| layer.dir.as_ref()))
    {
        key = key.with(&dir.file_name().unwrap_or_default().to_string_lossy(), "");
    }
    let target = place.build.join("parts").join(key.short());
    if cached::is_whole(&target) {
        return Ok(target);
    }
    let staging = atomic::Dir::begin(&place.build.join("staging"))?;
    let dir = atomic::Dir::begin(&target)?;
    let (images, mut files) = archives(place, catalog, layers, staging.path(), reporter)?;
    let text = serde_json::to_vec(&images)
        .map_err(|error| Error::new(Kind::Internal, "the list of images cannot be written").because(error))?;
    atomic::write(&dir.path().join(IMAGES), 0o644, &text)?;

    reporter.detail("making the parts disk");
    for (_, program) in catalog.programs() {
        if let Some(dest) = program.dest {
            files.push(Part {
                folder: dest.folder().to_owned(),
                name: program.name.clone(),
                from: components::program(built, &program.name)?,
                executable: true,
            });
        }
    }
    parts::make(&dir.path().join("parts.img"), files)?;
    place.cancel.check()?;
    cached::seal(dir, &target, place.cancel)?;
    Ok(target)
}

fn read_images(parts: &Path) -> Result<Vec<ImageRef>> {
    let path = parts.join(IMAGES);
    let text = fs::read(&path).map_err(Error::io(&path))?;
    serde_json::from_slice(&text).map_err(|error| {
        Error::new(Kind::Bundle, format!("{} cannot be read", path.display())).because(error)
    })
}

/// Puts everything but the manifest into the bundle.
fn fill(
    bundle: &BundleLayout,
    built: &[Built],
    base: &Path,
    parts: &Path,
    reporter: &dyn Reporter,
) -> Result<Vec<Source>> {
    reporter.detail("putting the bundle together");
    let programs = components::program(built, "kubernetes")?;
    let programs = programs.parent().unwrap_or(&programs);
    atomic::make_dir(&bundle.0.join("bin"))?;
    // No two bases are the same to the byte (Debian moves on), and disks of profiles are layers over this one.
    let of_base = |file: &&'static str| Source {
        name: file,
        dir: base.to_owned(),
        file,
        share: false,
    };
    let mut sources: Vec<Source> = BASE_FILES
        .iter()
        .filter(|file| **file != "rootfs.tar")
        .map(of_base)
        .collect();
    sources.extend([
        Source {
            name: "parts.img",
            dir: parts.to_owned(),
            file: "parts.img",
            share: true,
        },
        Source {
            name: "bin/kubectl",
            dir: programs.to_owned(),
            file: "kubernetes",
            share: true,
        },
    ]);
    for source in &sources {
        source.place(bundle)?;
    }
    tree::write_addons(&bundle.addons())?;
    Ok(sources)
}
