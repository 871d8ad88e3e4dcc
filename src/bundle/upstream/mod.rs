//! The source `upstream`: programs, a cloud image and container images from where their makers publish them, put together to the same
//! bundle as a build makes. Which they are and where they stand is data (`images/upstream.toml`); what was really fetched is written
//! into the bundle's lock. See docs/decisions/0025.

mod assemble;
mod catalog;
mod extract;
mod lock;
mod plan;
mod template;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use lock::{BundleLock, LockedImage, LockedObject, LockedTrust};

use super::{Wanted, arch, tree};
use crate::error::{Error, Kind, Result};
use crate::fetch::{Fetcher, Settings};
use crate::layout::Layout;
use crate::progress::{Cancel, Reporter};
use crate::store::hash;
use catalog::{BINARY_MIRROR, Catalog};
use plan::Plan;

/// The catalog's name in the images tree.
const CATALOG: &str = "upstream.toml";

/// How to reach upstream. Only the catalog decides what is in a bundle: else it is the same bits wherever they come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Proxies, certificates, and a mirror of everything.
    pub fetch: Settings,
    /// Where the programs of Kubernetes are instead of on its release server.
    pub binary_mirror: Option<String>,
    /// The repository that all images are pulled from, by the last part of their names; empty for their own places.
    pub image_repository: String,
    /// Registries that may speak HTTP or show any certificate.
    pub insecure_registries: Vec<String>,
    /// The directory of the user's docker client, for logins to registries.
    pub docker_config: Option<PathBuf>,
    /// A catalog of the user's instead of this sampan's own: other versions, other places.
    pub catalog: Option<PathBuf>,
}

impl Options {
    /// What is to be said of other places where nothing is fetched: "; nothing is fetched, so …", or nothing.
    pub fn unused(&self) -> String {
        let flags = [
            ("--image-repository", !self.image_repository.is_empty()),
            ("--binary-mirror", self.binary_mirror.is_some()),
        ];
        let said: Vec<&str> = flags
            .iter()
            .filter(|(_, said)| *said)
            .map(|(name, _)| *name)
            .collect();
        match said.len() {
            0 => String::new(),
            1 => format!("; nothing is fetched, so {} changes nothing", said[0]),
            _ => format!("; nothing is fetched, so {} change nothing", said.join(" and ")),
        }
    }

    /// What replaces beginnings of addresses.
    fn places(&self) -> BTreeMap<String, String> {
        let mirror = self.binary_mirror.iter();
        mirror
            .map(|url| (BINARY_MIRROR.to_owned(), url.clone()))
            .collect()
    }
}

/// Releases of Kubernetes that upstream's bundles can have, newest first.
///
/// # Errors
/// [`Kind::Bundle`] for a catalog that cannot be used.
pub fn versions(options: &Options) -> Result<Vec<String>> {
    Ok(catalog_of(options)?.versions())
}

/// The key of the bundle of a release; empty means the one that a build has. None when there is no such release.
///
/// It is known before anything is fetched: a hash of what the catalog says, not of what comes. Addons are part of it, as a bundle
/// brings them.
pub(super) fn current_key(wanted: &Wanted) -> Result<Option<String>> {
    let catalog = catalog_of(&wanted.upstream)?;
    let kubernetes = release(&wanted.kubernetes)?;
    if catalog.release(&kubernetes).is_none() {
        return Ok(None);
    }
    let key = hash::Key::new("upstream bundle 1")
        .with("upstream", tree::upstream_hash())
        .with("catalog", text_of(&wanted.upstream)?.as_ref())
        .with("addons", tree::hash_of("addons"))
        .with("image-mirror", tree::hash_of("components/image-mirror"))
        .with("kubernetes", kubernetes)
        .with("arch", arch());
    Ok(Some(key.short()))
}

/// Whether upstream, or the mirror that stands for it, answers right now; else why not, in words that follow "as".
pub(super) fn answers(layout: &Layout, wanted: &Wanted, within: Duration) -> Result<(), String> {
    let plan = plan(wanted).map_err(|error| error.to_string())?;
    let fetcher = Fetcher::new(&layout.downloads(), wanted.upstream.fetch.clone())
        .map_err(|error| error.to_string())?;
    let Some(part) = plan.programs.first() else {
        return Err("upstream has nothing".to_owned());
    };
    if fetcher.reachable(&part.url, within) {
        return Ok(());
    }
    Err(match &wanted.upstream.fetch.mirror {
        Some(mirror) => format!("{mirror} does not answer"),
        None => "upstream does not answer".to_owned(),
    })
}

/// Fetches the bundle of a key to its place, which is free. The caller holds the lock of the bundle store.
///
/// # Errors
/// [`Kind::KubernetesUnsupported`] for a release that there is not, [`Kind::HostTool`] when the host lacks tools, those of
/// [`Fetcher::fetch`] and of [`crate::registry::Puller::pull`], [`Kind::Bundle`] for what cannot be used, [`Kind::Interrupted`], or the I/O error
/// with the path.
pub(super) fn fetch(
    layout: &Layout,
    key: &str,
    wanted: &Wanted,
    reporter: &dyn Reporter,
    cancel: &Cancel,
) -> Result<()> {
    let plan = plan(wanted)?;
    let assembly = assemble::Assembly {
        layout,
        key,
        plan: &plan,
        options: &wanted.upstream,
        reporter,
        cancel,
    };
    assembly.run()
}

/// The error of a release that there is no bundle of.
pub(super) fn no_release(wanted: &Wanted) -> Error {
    match catalog_of(&wanted.upstream) {
        Ok(catalog) => plan::no_release(&catalog, &wanted.kubernetes),
        Err(error) => error,
    }
}

fn plan(wanted: &Wanted) -> Result<Plan> {
    let kubernetes = release(&wanted.kubernetes)?;
    let catalog = catalog_of(&wanted.upstream)?;
    Plan::new(&catalog, &kubernetes, arch(), &wanted.upstream.places())
}

/// A release; that of a build when nothing is said.
fn release(kubernetes: &str) -> Result<String> {
    if kubernetes.is_empty() {
        return Ok(super::catalog()?.bundle.kubernetes);
    }
    Ok(kubernetes.to_owned())
}

/// The user's catalog, or the embedded one.
fn catalog_of(options: &Options) -> Result<Catalog> {
    let place = match &options.catalog {
        Some(path) => path.display().to_string(),
        None => format!("images/{CATALOG}"),
    };
    Catalog::parse(&text_of(options)?, &place)
}

fn text_of(options: &Options) -> Result<Cow<'static, str>> {
    if let Some(path) = &options.catalog {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        return Ok(text.into());
    }
    let text = tree::upstream_file(CATALOG);
    let text =
        text.ok_or_else(|| Error::new(Kind::Internal, format!("no {CATALOG} in this build of sampan")))?;
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const OWN: &str = include_str!("../../../images/upstream.toml");

    pub(super) fn own_catalog() -> Catalog {
        Catalog::parse(OWN, "own").unwrap()
    }

    #[test]
    fn each_release_has_a_bundle_of_its_own() {
        let key = |kubernetes: &str, catalog: Option<PathBuf>| {
            let upstream = Options {
                catalog,
                ..Options::default()
            };
            let wanted = Wanted {
                kubernetes: kubernetes.to_owned(),
                upstream,
                ..Wanted::default()
            };
            current_key(&wanted).unwrap()
        };
        let default = key("", None).unwrap();
        let built = super::super::catalog().unwrap().bundle.kubernetes;
        assert_eq!(key(&built, None).unwrap(), default);
        assert_ne!(key("v1.35.4", None).unwrap(), default);
        assert_ne!(super::super::current_key().unwrap(), default);
        assert_eq!(key("v1.2.3", None), None);
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own.toml");
        std::fs::write(&own, OWN.replace("to = \"v1.36.5\"", "to = \"v1.36.9\"")).unwrap();
        assert_ne!(key("", Some(own.clone())).unwrap(), default);
        assert!(key("v1.36.9", Some(own)).is_some() && key("v1.36.9", None).is_none());
    }

    #[test]
    fn a_mirror_on_a_disk_answers_and_a_dead_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::under(dir.path());
        let mirror = |text: &str| Wanted {
            upstream: Options {
                fetch: Settings {
                    mirror: Some(crate::fetch::Mirror::parse(text)),
                    ..Settings::default()
                },
                ..Options::default()
            },
            ..Wanted::default()
        };
        let within = Duration::from_secs(5);
        answers(&layout, &mirror(&dir.path().display().to_string()), within).unwrap();
        // Nobody listens on the port of discard.
        let why = answers(&layout, &mirror("http://127.0.0.1:9/x"), within).unwrap_err();
        assert_eq!(why, "http://127.0.0.1:9/x does not answer");
    }
}
