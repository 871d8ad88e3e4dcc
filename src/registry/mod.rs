//! Container images on the host: pulled from registries, checked, kept by digest, and written into one archive for a node.
//!
//! A [`Puller`] resolves a name to the image of one architecture and fetches what the store lacks. The store is shared with all other
//! downloads: whatever is in it was checked against its digest. See docs/decisions/0026.

mod archive;
mod blobs;
mod http;
mod login;
mod manifest;
mod problem;
mod remote;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tree;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use oci_client::Reference;

pub use archive::write_archive;
pub use login::Login;

use crate::error::{Error, Kind, Result};
use crate::fetch;
use crate::images::name;
use crate::progress::{Cancel, Reporter};
use blobs::{Blobs, Fetch};
use manifest::{Descriptor, Document};
use remote::Session;
use tree::Tree;

/// How often an index may lead to another one.
const INDEXES: usize = 3;

/// Layers that are fetched at a time.
const PARALLEL: usize = 4;

/// Who asks for the credentials of a registry, such as "docker.io" or "registry.example:5000".
pub type Credentials<'a> = &'a dyn Fn(&str) -> Result<Option<Login>>;

/// Pulls images.
pub struct Puller<'a> {
    settings: &'a fetch::Settings,
    credentials: Credentials<'a>,
    blobs: Blobs,
    insecure: Vec<String>,
    runtime: tokio::runtime::Runtime,
    /// By registry and repository: a token opens one repository.
    sessions: RefCell<BTreeMap<(String, String), Rc<Session>>>,
}

/// Something in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// "sha256:HEX".
    pub digest: String,
    /// In bytes.
    pub size: u64,
    /// What it is.
    pub media_type: String,
    /// Where it is.
    pub path: PathBuf,
}

/// An image that is in the store as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// What the image is to be called in an archive: the name it was asked for by, made full, without a digest. Whoever pulled it from
    /// elsewhere may put another one here.
    pub name: String,
    /// The architecture, as Go spells it.
    pub arch: String,
    /// Digest of this architecture's manifest.
    pub digest: String,
    /// Digest of the index that led to it; none for an image of one architecture.
    pub index: Option<String>,
    /// The manifest.
    pub manifest: Blob,
    /// The configuration.
    pub config: Blob,
    /// The layers, from the bottom up.
    pub layers: Vec<Blob>,
}

impl<'a> Puller<'a> {
    /// A puller into a store of blobs: a directory with a file for each, called by its sha256 in hex.
    ///
    /// # Errors
    /// [`Kind::Internal`].
    pub fn new(settings: &'a fetch::Settings, credentials: Credentials<'a>, blobs: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::new(Kind::Internal, "cannot wait for the network").because(error))?;
        Ok(Self {
            settings,
            credentials,
            blobs: Blobs::new(blobs),
            insecure: Vec::new(),
            runtime,
            sessions: RefCell::default(),
        })
    }

    /// Registries that may speak HTTP, or show any certificate: hosts, with their port where they name one. Those on this machine may
    /// anyway.
    #[must_use]
    pub fn insecure(mut self, registries: &[String]) -> Self {
        self.insecure = registries.to_vec();
        self
    }

    /// Makes an image be in the store as a whole. A `reference` may name a digest besides its tag; what the tag leads to does not matter
    /// then.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a name that cannot be one; [`Kind::Internet`] when the registry does not answer, does not have it or does not
    /// give it, when it is not what its digest says, and when there is none for the architecture; [`Kind::Storage`] when the disk is
    /// full; [`Kind::Interrupted`].
    pub fn pull(
        &self,
        reference: &str,
        arch: &str,
        reporter: &dyn Reporter,
        cancel: &Cancel,
    ) -> Result<Pulled> {
        self.runtime
            .block_on(self.pull_async(reference, arch, reporter, cancel))
    }

    async fn pull_async(
        &self,
        text: &str,
        arch: &str,
        reporter: &dyn Reporter,
        cancel: &Cancel,
    ) -> Result<Pulled> {
        let reference = parse(text)?;
        let image = called(&reference);
        reporter.detail(&format!("looking for {image}"));
        let fetch = Fetch {
            retries: self.settings.retries,
            reporter,
            cancel,
        };
        let source = Source::of(self, &reference).await?;
        let (index, manifest, document) = self.resolve(&source, &reference, arch, &fetch).await?;
        let (config, layers) = document.parts(&image)?;
        let blob = |part: Descriptor| Blob {
            path: self.blobs.path(part.hex()),
            size: part.size,
            media_type: part.media_type,
            digest: part.digest,
        };
        let pulled = Pulled {
            name: name_of(&reference),
            arch: arch.to_owned(),
            digest: manifest.digest.clone(),
            index,
            manifest,
            config: blob(config),
            layers: layers.into_iter().map(blob).collect(),
        };
        self.fetch_all(&source, &reference, &pulled, &fetch).await?;
        manifest::check_arch(&image, &pulled.config, arch)?;
        Ok(pulled)
    }

    /// The manifest for the architecture, and the index that led to it.
    async fn resolve(
        &self,
        source: &Source<'_>,
        reference: &Reference,
        arch: &str,
        fetch: &Fetch<'_>,
    ) -> Result<(Option<String>, Blob, Document)> {
        let image = called(reference);
        let mut wanted = reference.clone();
        let mut index = None;
        for _ in 0..INDEXES {
            let (bytes, digest) = self.manifest(source, &wanted, fetch).await?;
            let document = Document::parse(&image, &bytes)?;
            let Some(entry) = document.choose(&image, arch)? else {
                let manifest = self.blobs.put(&digest, &document.media_type(), &bytes)?;
                return Ok((index, manifest, document));
            };
            self.blobs.put(&digest, &document.media_type(), &bytes)?;
            index.get_or_insert(digest);
            wanted = reference.clone_with_digest(entry);
        }
        Err(problem::odd(
            &image,
            "its index leads to another index again and again",
        ))
    }

    /// A manifest or an index, and its digest: from the store where the digest is known and it is there.
    async fn manifest(
        &self,
        source: &Source<'_>,
        reference: &Reference,
        fetch: &Fetch<'_>,
    ) -> Result<(Vec<u8>, String)> {
        if let Some(digest) = reference.digest()
            && let Some(bytes) = self.blobs.read(digest)?
        {
            return Ok((bytes, digest.to_owned()));
        }
        let bytes = match source {
            Source::Remote(session) => session.manifest(reference, fetch).await?,
            Source::Tree(tree) => tree.manifest(reference)?,
        };
        let found = blobs::digest_of(&bytes);
        match reference.digest() {
            Some(wanted) if wanted != found => {
                Err(problem::wrong_digest(&source.place(reference), wanted, &found))
            }
            _ => Ok((bytes, found)),
        }
    }

    /// Fetches what of an image is not there: each blob once, some side by side.
    async fn fetch_all(
        &self,
        source: &Source<'_>,
        reference: &Reference,
        image: &Pulled,
        fetch: &Fetch<'_>,
    ) -> Result<()> {
        let mut parts: BTreeMap<&str, &Blob> = BTreeMap::new();
        let all = std::iter::once(&image.config).chain(&image.layers);
        parts.extend(all.map(|part| (part.digest.as_str(), part)));
        let short = image.name.rsplit('/').next().unwrap_or_default();
        let layer = |digest: &str| image.layers.iter().position(|layer| layer.digest == digest);
        let titled = parts.into_values().map(|part| {
            let title = match layer(&part.digest) {
                Some(at) => format!("{short} {}/{}", at + 1, image.layers.len()),
                None => short.to_owned(),
            };
            (part, title)
        });
        let parallel = self.settings.parallel.clamp(1, PARALLEL);
        stream::iter(titled)
            .map(async |(part, title)| match source {
                Source::Remote(session) => session.blob(&self.blobs, reference, part, &title, fetch).await,
                Source::Tree(tree) => tree.blob(&self.blobs, reference, part, fetch).await,
            })
            .buffer_unordered(parallel)
            .try_collect()
            .await
    }
}

/// Where images come from.
enum Source<'a> {
    /// A registry, or a mirror that is reached over the network.
    Remote(Rc<Session>),
    /// A mirror on a disk.
    Tree(Tree<'a>),
}

impl<'a> Source<'a> {
    async fn of(puller: &'a Puller<'_>, reference: &Reference) -> Result<Self> {
        if let Some(fetch::Mirror::Dir(dir)) = &puller.settings.mirror {
            return Ok(Self::Tree(Tree::new(dir)));
        }
        let key = (reference.registry().to_owned(), reference.repository().to_owned());
        if let Some(session) = puller.sessions.borrow().get(&key) {
            return Ok(Self::Remote(Rc::clone(session)));
        }
        let session = Session::open(puller.settings, puller.credentials, &puller.insecure, reference).await?;
        let session = Rc::new(session);
        puller.sessions.borrow_mut().insert(key, Rc::clone(&session));
        Ok(Self::Remote(session))
    }

    /// What messages call it.
    fn place(&self, reference: &Reference) -> String {
        match self {
            Self::Remote(session) => session.place(reference),
            Self::Tree(tree) => tree.place(reference),
        }
    }
}

/// Reads a name as people write it.
fn parse(text: &str) -> Result<Reference> {
    let wrong = |why: String| {
        Error::new(Kind::Usage, format!("{text:?} is not a name of an image: {why}"))
            .hint("a name looks like app, app:1.2, or registry.example:5000/team/app:1.2@sha256:…")
    };
    let reference: Reference = name::full(text).parse().map_err(|why| wrong(format!("{why}")))?;
    match reference.digest() {
        Some(digest) if !digest.starts_with("sha256:") => Err(wrong("only sha256 digests are known".into())),
        _ => Ok(reference),
    }
}

/// What messages call an image.
fn called(reference: &Reference) -> String {
    reference.whole().replacen("docker.io/library/", "", 1)
}

/// An image's full name without a digest.
fn name_of(reference: &Reference) -> String {
    let tag = reference.tag().unwrap_or("latest");
    format!("{}/{}:{tag}", reference.registry(), reference.repository())
}

#[cfg(test)]
mod names {
    use super::*;

    #[test]
    fn names_are_read_as_people_write_them() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, name) in [
            ("app".to_owned(), "docker.io/library/app:latest"),
            (
                "registry.k8s.io/pause:3.10".to_owned(),
                "registry.k8s.io/pause:3.10",
            ),
            (format!("127.0.0.1:5000/a/b:1@{digest}"), "127.0.0.1:5000/a/b:1"),
            (format!("app@{digest}"), "docker.io/library/app:latest"),
        ] {
            assert_eq!(name_of(&parse(&text).unwrap()), name);
        }
        let wrong = [
            "",
            "A b",
            "app@sha256:00",
            "x/../y",
            &format!("app@sha512:{}", "a".repeat(128)),
        ];
        for wrong in wrong {
            let error = parse(wrong).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{wrong}");
        }
        assert_eq!(called(&parse("app:1").unwrap()), "app:1");
    }
}
