//! Where the bits of a node come from, and which source it is when nobody says.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::elsewhere::{self, Held};
use super::{Bundle, Found, Origin, build_here, current_key, find, look, upstream};
use crate::error::{Error, Kind, Result};
use crate::fetch::Mirror;
use crate::layout::Layout;
use crate::progress::{Cancel, Reporter};

/// Where a bundle comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Source {
    /// A bundle that is here; else upstream when it answers; else a build.
    #[default]
    Auto,
    /// Released programs and images, from where their makers publish them.
    Upstream,
    /// Debian packages and programs compiled here.
    Build,
    /// A bundle file, a directory with bundle files or with a bundle in it, or a mirror of upstream.
    Dir(PathBuf),
    /// A bundle file, or a mirror of upstream.
    Url(String),
}

impl Source {
    /// The words that are sources.
    pub const WORDS: [&str; 3] = ["auto", "upstream", "build"];

    /// Reads a source as users write it: one of [`Self::WORDS`], a URL, or a path.
    pub fn parse(text: &str) -> Self {
        match text {
            "auto" => Self::Auto,
            "upstream" => Self::Upstream,
            "build" => Self::Build,
            _ if text.starts_with("https://") || text.starts_with("http://") => Self::Url(text.to_owned()),
            _ => Self::Dir(PathBuf::from(text.strip_prefix("file://").unwrap_or(text))),
        }
    }
}

impl fmt::Display for Source {
    /// As users write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Upstream => f.write_str("upstream"),
            Self::Build => f.write_str("build"),
            Self::Dir(path) => path.display().fmt(f),
            Self::Url(url) => f.write_str(url),
        }
    }
}

/// Which bundle is wanted, and where it may come from.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Where from.
    pub source: Source,
    /// The version of Kubernetes, with leading "v"; empty for whatever the source has.
    pub kubernetes: String,
    /// How upstream is reached.
    pub upstream: upstream::Options,
    /// Whether pods are to run on Docker itself, which takes a bundle with a [cri-dockerd](CRI_DOCKERD).
    pub cri_dockerd: bool,
}

const OF_UPSTREAM: &str = "or take a bundle of upstream's releases, which can have one: --source upstream";

/// The component by which pods run on Docker. Only bundles of upstream's releases can have it.
const CRI_DOCKERD: &str = "cri-dockerd";

impl Wanted {
    /// Whether a bundle has what is asked of it besides its version.
    ///
    /// # Errors
    /// [`Kind::CriDockerd`].
    pub fn check(&self, bundle: &Bundle) -> Result<()> {
        let mut parts = bundle.manifest.components.iter();
        if !self.cri_dockerd || parts.any(|part| part.name == CRI_DOCKERD) {
            return Ok(());
        }
        let key = &bundle.key;
        let error = no_cri_dockerd(&format!("bundle {key} has none"));
        Err(match bundle.manifest.source {
            // Under its key there may be one with it.
            Origin::Upstream => error.hint(format!(
                "or fetch it again from where cri-dockerd can be had: sampan bundle remove {key}, then sampan bundle fetch"
            )),
            Origin::Build => error.hint(OF_UPSTREAM),
        })
    }
}

fn no_cri_dockerd(why: &str) -> Error {
    Error::new(
        Kind::CriDockerd,
        format!("pods run on Docker itself by way of a cri-dockerd, and {why}"),
    )
    .hint("leave out --container-runtime: pods run on the containerd that the cluster's Docker runs on, so what `docker build` makes after `eval $(sampan docker-env)` is there for them")
}

/// How long `auto` waits for upstream to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// The bundle that is wanted, if it is here. Fetches nothing and takes milliseconds.
///
/// # Errors
/// The I/O error with the path, or [`Kind::Bundle`] for what is no bundle.
pub fn locate(layout: &Layout, wanted: &Wanted) -> Result<Option<Bundle>> {
    match &wanted.source {
        Source::Auto | Source::Build | Source::Upstream => {
            for key in keys_of(wanted)? {
                if let Some(bundle) = find(layout, &key)? {
                    return Ok(Some(bundle));
                }
            }
            Ok(None)
        }
        Source::Dir(path) => match own_place(layout, path) {
            Some(key) => find(layout, &key),
            None => elsewhere::locate(layout, path, wanted),
        },
        Source::Url(url) if elsewhere::is_file(url) => Ok(None),
        // A mirror: what it has is upstream's bundle.
        Source::Url(_) => locate(layout, &of_upstream(wanted)),
    }
}

/// The key of the bundle whose directory this is, among those that are here.
fn own_place(layout: &Layout, path: &Path) -> Option<String> {
    let same = |a: &Path, b: &Path| {
        a == b
            || a.canonicalize()
                .ok()
                .is_some_and(|a| b.canonicalize().ok() == Some(a))
    };
    let (parent, name) = (path.parent()?, path.file_name()?.to_str()?);
    (same(parent, &layout.bundles()) && !name.starts_with('.')).then(|| name.to_owned())
}

/// The bundle that is wanted: the one that is here, or else fetched, imported or built. What is done and why is told in a line.
///
/// # Errors
/// [`Kind::HostTool`] when the host lacks tools, [`Kind::Bundle`] for what could not be made or is no bundle,
/// [`Kind::KubernetesUnsupported`] when the source has another version, [`Kind::Internet`], [`Kind::Interrupted`], or the I/O
/// error with the path.
pub fn ensure(layout: &Layout, wanted: &Wanted, reporter: &dyn Reporter, cancel: &Cancel) -> Result<Bundle> {
    if let Some(bundle) = locate(layout, wanted)? {
        return Ok(bundle);
    }
    match &wanted.source {
        Source::Auto => auto(layout, wanted, reporter, cancel),
        Source::Upstream => {
            let key = upstream::current_key(wanted)?.ok_or_else(|| upstream::no_release(wanted))?;
            reporter.info(&match &wanted.upstream.fetch.mirror {
                Some(mirror) => format!("fetching the bundle from the mirror {mirror}, as asked"),
                None => "fetching the bundle from upstream, as asked".to_owned(),
            });
            fetch(layout, &key, wanted, reporter, cancel)
        }
        Source::Build => {
            is_built(wanted)?;
            reporter.info(&format!(
                "building the bundle from source, as asked{}",
                wanted.upstream.unused()
            ));
            build_here(layout, reporter, cancel)
        }
        Source::Dir(path) => match elsewhere::look_at(path, wanted)? {
            Held::Bundle(path, _) => {
                reporter.info(&format!("importing the bundle from {}, as asked", path.display()));
                elsewhere::take(layout, &path, wanted, reporter, cancel)
            }
            Held::Tree(dir) => mirrored(layout, wanted, Mirror::Dir(dir), reporter, cancel),
        },
        Source::Url(url) if elsewhere::is_file(url) => {
            reporter.info(&format!("downloading the bundle from {url}, as asked"));
            elsewhere::download(layout, url, wanted, reporter, cancel)
        }
        Source::Url(url) => mirrored(layout, wanted, Mirror::Url(url.clone()), reporter, cancel),
    }
}

/// The same, of upstream's.
pub(super) fn of_upstream(wanted: &Wanted) -> Wanted {
    Wanted {
        source: Source::Upstream,
        ..wanted.clone()
    }
}

/// Upstream's bundle, from a mirror.
fn mirrored(
    layout: &Layout,
    wanted: &Wanted,
    mirror: Mirror,
    reporter: &dyn Reporter,
    cancel: &Cancel,
) -> Result<Bundle> {
    let mut wanted = of_upstream(wanted);
    wanted.upstream.fetch.mirror = Some(mirror);
    ensure(layout, &wanted, reporter, cancel)
}

fn auto(layout: &Layout, wanted: &Wanted, reporter: &dyn Reporter, cancel: &Cancel) -> Result<Bundle> {
    let why = match upstream::current_key(wanted)? {
        Some(key) => match upstream::answers(layout, wanted, ANSWER) {
            Ok(()) => {
                reporter.info("fetching the bundle from upstream, as there is none here");
                match fetch(layout, &key, wanted, reporter, cancel) {
                    Err(error) if is_built(wanted).is_ok() && !is_ours(error.kind()) => {
                        reporter.warn(&error.to_string());
                        "it could not be had from upstream".to_owned()
                    }
                    fetched => return fetched,
                }
            }
            Err(why) => why,
        },
        None => "there is none here".to_owned(),
    };
    is_built(wanted).map_err(|error| error.hint(format!("it is not fetched either, as {why}")))?;
    reporter.info(&format!(
        "building the bundle from source, as {why}{}",
        wanted.upstream.unused()
    ));
    build_here(layout, reporter, cancel)
}

/// Whether a failure has to do with this host or its user, so that a build would fail as well.
fn is_ours(kind: Kind) -> bool {
    matches!(kind, Kind::Interrupted | Kind::Storage | Kind::Locked)
}

/// Keys of the bundles that this sampan makes or fetches when nobody names a version, by its own catalog or that of the user.
///
/// # Errors
/// As [`current_key`].
pub fn own_keys(options: &upstream::Options) -> Result<Vec<String>> {
    keys_of(&Wanted {
        upstream: options.clone(),
        ..Wanted::default()
    })
}

/// Keys of the bundles of this sampan that would do, the best first.
fn keys_of(wanted: &Wanted) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    if wanted.source != Source::Upstream && is_built(wanted).is_ok() {
        keys.push(current_key()?);
    }
    if wanted.source != Source::Build {
        keys.extend(upstream::current_key(wanted)?);
    }
    Ok(keys)
}

/// Whether a build gives what is wanted.
fn is_built(wanted: &Wanted) -> Result<()> {
    let built = super::catalog()?.bundle.kubernetes;
    if wanted.cri_dockerd {
        return Err(no_cri_dockerd("bundles that are built have none").hint(OF_UPSTREAM));
    }
    if wanted.kubernetes.is_empty() || wanted.kubernetes == built {
        return Ok(());
    }
    Err(Error::new(
        Kind::KubernetesUnsupported,
        format!("Kubernetes {} cannot be built here", wanted.kubernetes),
    )
    .hint(format!(
        "what is built has {built}; fetch the other one with --source upstream"
    )))
}

/// Fetches a bundle of upstream's unless another process just did.
fn fetch(
    layout: &Layout,
    key: &str,
    wanted: &Wanted,
    reporter: &dyn Reporter,
    cancel: &Cancel,
) -> Result<Bundle> {
    let _lock = super::lock(layout, reporter, cancel)?;
    match look(layout, key)? {
        Found::Whole(bundle) => return Ok(*bundle),
        Found::Damaged(damage) => super::set_aside(layout, key, &damage, reporter)?,
        Found::Nothing => {}
    }
    upstream::fetch(layout, key, wanted, reporter, cancel)?;
    super::made(layout, key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_word_an_address_or_a_path() {
        for (text, source) in [
            ("auto", Source::Auto),
            ("upstream", Source::Upstream),
            ("build", Source::Build),
            ("https://x/y", Source::Url("https://x/y".into())),
            ("./build", Source::Dir("./build".into())),
            ("file:///media/x.sampan", Source::Dir("/media/x.sampan".into())),
        ] {
            assert_eq!(Source::parse(text), source);
            assert_eq!(Source::parse(&source.to_string()), source);
        }
    }

    #[test]
    fn another_version_is_not_built() {
        let wanted = Wanted {
            kubernetes: "v1.2.3".into(),
            source: Source::Build,
            ..Wanted::default()
        };
        let layout = Layout::under(std::path::Path::new("/nowhere"));
        let error = ensure(&layout, &wanted, &crate::progress::Silent, &Cancel::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::KubernetesUnsupported);
    }

    #[test]
    fn pods_run_on_docker_by_a_bundle_that_is_not_built() {
        let of = |source| Wanted {
            source,
            cri_dockerd: true,
            ..Wanted::default()
        };
        let layout = Layout::under(std::path::Path::new("/nowhere"));
        let build = ensure(
            &layout,
            &of(Source::Build),
            &crate::progress::Silent,
            &Cancel::default(),
        );
        assert_eq!(build.unwrap_err().kind(), Kind::CriDockerd);
        assert!(
            !keys_of(&of(Source::Auto))
                .unwrap()
                .contains(&current_key().unwrap())
        );
    }

    #[test]
    fn a_path_that_holds_no_bundle_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::under(&dir.path().join("home"));
        let path = dir.path().join("stick");
        std::fs::create_dir(&path).unwrap();
        let of = |path: &Path| {
            let wanted = Wanted {
                source: Source::Dir(path.to_owned()),
                ..Wanted::default()
            };
            ensure(&layout, &wanted, &crate::progress::Silent, &Cancel::default()).unwrap_err()
        };
        assert_eq!(of(&path.join("none")).kind(), Kind::HostPath);
        let error = of(&path);
        assert!(
            error
                .to_string()
                .ends_with("there is no bundle in this directory"),
            "{error}"
        );
        std::fs::write(path.join("x.sampan"), "something else").unwrap();
        let error = of(&path);
        assert!(
            error
                .to_string()
                .contains("no bundle file in this directory can be used here"),
            "{error}"
        );
        assert!(
            error.to_string().contains("x.sampan: it is no bundle file"),
            "{error}"
        );
    }
}
