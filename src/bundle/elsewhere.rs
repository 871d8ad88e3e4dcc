//! Bundles that come from a path or an address that the user names.

use std::fs;
use std::path::{Path, PathBuf};

use super::archive::{self, EXTENSION, Input};
use super::manifest::Manifest;
use super::source::of_upstream;
use super::{Bundle, Source, Wanted, current_key, find};
use crate::error::{Error, Kind, Result};
use crate::fetch::{Expect, Fetcher, Object, Settings};
use crate::layout::{BundleLayout, Layout};
use crate::progress::{Cancel, Reporter};

/// What a path leads to.
#[derive(Debug)]
pub(super) enum Held {
    /// A bundle: a file, or a directory that it is unpacked in.
    Bundle(PathBuf, Box<Manifest>),
    /// Something else: perhaps a tree laid out as upstream's hosts.
    Tree(PathBuf),
}

/// Looks at a path; of several bundle files in a directory it takes the one that is wanted.
///
/// # Errors
/// [`Kind::Bundle`] for what is no bundle or none that can be used here, or the I/O error with the path.
pub(super) fn look_at(path: &Path, wanted: &Wanted) -> Result<Held> {
    let meta = fs::metadata(path).map_err(Error::io(path))?;
    if !meta.is_dir() || BundleLayout(path.to_owned()).manifest().exists() {
        return Ok(Held::Bundle(path.to_owned(), Box::new(archive::peek(path)?)));
    }
    let mut files = Vec::new();
    let mut any = false;
    for entry in fs::read_dir(path).map_err(Error::io(path))? {
        let file = entry.map_err(Error::io(path))?.path();
        any = true;
        let hidden = file
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && file.extension().is_some_and(|extension| extension == EXTENSION) {
            files.push(file);
        }
    }
    files.sort();
    match (files.is_empty(), any) {
        (false, _) => choose(path, &files, wanted),
        (true, true) => Ok(Held::Tree(path.to_owned())),
        (true, false) => Err(Error::new(
            Kind::Bundle,
            format!("{}: there is no bundle in this directory", path.display()),
        )
        .hint("`sampan bundle export FILE.sampan` writes one, on a host that has it")),
    }
}

/// The one of several files that fits best: this sampan's own, else the newest.
fn choose(dir: &Path, files: &[PathBuf], wanted: &Wanted) -> Result<Held> {
    let mut fitting = Vec::new();
    let mut others = Vec::new();
    for file in files {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        match archive::peek(file) {
            Ok(manifest) if fits(&manifest, wanted) => fitting.push((file, manifest)),
            Ok(manifest) => others.push(format!("{name}: Kubernetes {}", manifest.kubernetes)),
            Err(error) => {
                let text = error.to_string();
                others.push(
                    text.strip_prefix(&format!("{}/", dir.display()))
                        .unwrap_or(&text)
                        .to_owned(),
                );
            }
        }
    }
    let own = current_key()?;
    let best = fitting
        .into_iter()
        .max_by(|(_, a), (_, b)| (a.key == own, &a.created, &a.key).cmp(&(b.key == own, &b.created, &b.key)));
    match best {
        Some((file, manifest)) => Ok(Held::Bundle(file.clone(), Box::new(manifest))),
        None => Err(Error::new(
            Kind::Bundle,
            format!(
                "{}: no bundle file in this directory can be used here",
                dir.display()
            ),
        )
        .detail("there are", &others)
        .hint("name a version that is there with --kubernetes-version, or export the bundle that is wanted")),
    }
}

fn fits(manifest: &Manifest, wanted: &Wanted) -> bool {
    wanted.kubernetes.is_empty() || wanted.kubernetes == manifest.kubernetes
}

/// The bundle that a path leads to, if it is here already.
///
/// # Errors
/// As [`look_at`]; [`Kind::KubernetesUnsupported`] when it has another version.
pub(super) fn locate(layout: &Layout, path: &Path, wanted: &Wanted) -> Result<Option<Bundle>> {
    match look_at(path, wanted)? {
        Held::Bundle(path, manifest) => {
            same_version(&path.display().to_string(), &manifest, wanted)?;
            find(layout, &manifest.key)
        }
        Held::Tree(_) => super::locate(layout, &of_upstream(wanted)),
    }
}

/// The version of Kubernetes that a source has, where it has one only and that can be told without fetching anything: bundles that are
/// named by their path. `wanted` chooses among several files in a directory; empty for any.
///
/// # Errors
/// As [`ensure`](super::ensure).
pub fn version_of(source: &Source, wanted: &str) -> Result<Option<String>> {
    let Source::Dir(path) = source else {
        return Ok(None);
    };
    let full = wanted.trim_start_matches('v').split('.').count() == 3;
    let wanted = Wanted {
        kubernetes: if full {
            format!("v{}", wanted.trim_start_matches('v'))
        } else {
            String::new()
        },
        ..Wanted::default()
    };
    Ok(match look_at(path, &wanted)? {
        Held::Bundle(_, manifest) => Some(manifest.kubernetes),
        Held::Tree(_) => None,
    })
}

/// Takes the bundle from a file or a directory.
///
/// # Errors
/// As [`archive::import`]; [`Kind::KubernetesUnsupported`] when it has another version.
pub(super) fn take(
    layout: &Layout,
    path: &Path,
    wanted: &Wanted,
    reporter: &dyn Reporter,
    cancel: &Cancel,
) -> Result<Bundle> {
    same_version(&path.display().to_string(), &archive::peek(path)?, wanted)?;
    let imported = if path.is_dir() {
        archive::import_dir(layout, path, reporter, cancel)?
    } else {
        archive::import(layout, Input::File(path), reporter, cancel)?
    };
    Ok(imported.bundle)
}

/// Whether an address is that of a bundle file; else it may be a mirror's.
pub(super) fn is_file(url: &str) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    path.ends_with(&format!(".{EXTENSION}"))
}

/// Downloads a bundle file, or goes on with it, and takes the bundle from it. The first one that came from an address is believed,
/// and from then on it must be the same; what is in it is checked as that of any other.
///
/// # Errors
/// As [`take`] and [`Fetcher::fetch`].
pub(super) fn download(
    layout: &Layout,
    url: &str,
    wanted: &Wanted,
    reporter: &dyn Reporter,
    cancel: &Cancel,
) -> Result<Bundle> {
    let settings = Settings {
        // The address is not one of upstream's.
        mirror: None,
        ..wanted.upstream.fetch.clone()
    };
    let fetcher = Fetcher::new(&layout.downloads(), settings)?;
    let name = url.rsplit('/').next().unwrap_or(url);
    let object = Object {
        name: name.to_owned(),
        url: url.to_owned(),
        expect: Expect::FirstUse,
        most: None,
    };
    let fetched = fetcher.fetch(&[object], reporter, cancel)?;
    let file = fetched
        .first()
        .ok_or_else(|| Error::new(Kind::Internal, format!("nothing came of fetching {url}")))?;
    take(layout, &file.path, wanted, reporter, cancel)
}

/// Whether a bundle has the version that is wanted.
fn same_version(place: &str, manifest: &Manifest, wanted: &Wanted) -> Result<()> {
    if fits(manifest, wanted) {
        return Ok(());
    }
    let has = &manifest.kubernetes;
    Err(Error::new(
        Kind::KubernetesUnsupported,
        format!(
            "{place} has Kubernetes {has}, and {} is wanted",
            wanted.kubernetes
        ),
    )
    .hint(format!("take what it has with --kubernetes-version {has}")))
}
