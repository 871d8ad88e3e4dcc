//! `bundle.lock`: what was really fetched for a bundle, from where, and what each part was known to be right from.

use std::fs;

use serde::{Deserialize, Serialize};

use super::plan::{Image, Part, Plan};
use crate::error::{Error, Kind, Result};
use crate::fetch::{Fetched, Trust};
use crate::layout::BundleLayout;
use crate::registry::Pulled;
use crate::store::atomic;

/// The version of the file's format.
const FORMAT: u32 = 1;

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleLock {
    /// 1.
    pub format: u32,
    /// The release of Kubernetes, with leading "v".
    pub kubernetes: String,
    /// As Go spells it.
    pub arch: String,
    /// Files.
    #[serde(rename = "object", default)]
    pub objects: Vec<LockedObject>,
    /// Container images.
    #[serde(rename = "image", default)]
    pub images: Vec<LockedImage>,
}

/// A file that was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedObject {
    /// Our name for it.
    pub name: String,
    /// Its version, as upstream writes it.
    pub version: String,
    /// Where upstream has it; a mirror may have been asked instead. Empty for what was made here.
    pub url: String,
    /// In bytes.
    pub size: u64,
    /// In hex.
    pub sha256: String,
    /// What it was known to be right from.
    pub trust: LockedTrust,
    /// Where its sum was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<String>,
}

/// What a sum was known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockedTrust {
    /// From this sampan.
    Pinned,
    /// From a file of upstream's.
    Published,
    /// From nowhere: upstream publishes none. Later fetches get the same or fail.
    FirstUse,
    /// Compiled on this host from this sampan's own source.
    Built,
}

/// An image that was pulled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedImage {
    /// What the node knows it by, without tag.
    pub name: String,
    /// Tag.
    pub tag: String,
    /// What was pulled.
    pub from: String,
    /// Digest of its manifest for the architecture.
    pub digest: String,
    /// Digest of the index that led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
}

impl BundleLock {
    /// The lock of a plan; parts and images are to be added.
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            format: FORMAT,
            kubernetes: plan.kubernetes.clone(),
            arch: plan.arch.clone(),
            objects: Vec::new(),
            images: Vec::new(),
        }
    }

    /// Adds what was fetched.
    pub(super) fn add(&mut self, part: &Part, fetched: &Fetched) {
        let (trust, published) = match &fetched.trust {
            Trust::Pinned => (LockedTrust::Pinned, None),
            Trust::Published { url } => (LockedTrust::Published, Some(url.clone())),
            Trust::FirstUse => (LockedTrust::FirstUse, None),
        };
        self.objects.push(LockedObject {
            name: part.name.clone(),
            version: part.version.clone(),
            url: fetched.url.clone(),
            size: fetched.size,
            sha256: fetched.sha256.clone(),
            trust,
            published,
        });
    }

    /// Adds what was made here.
    pub(super) fn add_built(&mut self, part: &Part, size: u64, sha256: String) {
        self.objects.push(LockedObject {
            name: part.name.clone(),
            version: part.version.clone(),
            url: String::new(),
            size,
            sha256,
            trust: LockedTrust::Built,
            published: None,
        });
    }

    /// Adds what was pulled.
    pub(super) fn add_image(&mut self, image: &Image, from: &str, pulled: &Pulled) {
        self.images.push(LockedImage {
            name: image.name.clone(),
            tag: image.tag.clone(),
            from: from.to_owned(),
            digest: pulled.digest.clone(),
            index: pulled.index.clone(),
        });
    }

    /// Names and versions of what nobody publishes a sum of.
    pub fn on_first_use(&self) -> Vec<String> {
        let objects = self.objects.iter();
        let objects = objects.filter(|object| object.trust == LockedTrust::FirstUse);
        objects
            .map(|object| format!("{} {}", object.name, object.version))
            .collect()
    }

    /// Writes it into a bundle.
    pub(super) fn write(&self, bundle: &BundleLayout) -> Result<()> {
        let text = toml::to_string(self)
            .map_err(|error| Error::new(Kind::Internal, "bundle.lock cannot be written").because(error))?;
        atomic::write(&bundle.lock(), 0o644, text.as_bytes())
    }

    /// Reads it; a bundle that was built has none.
    ///
    /// # Errors
    /// [`Kind::Bundle`] when it cannot be used, or the I/O error with the path.
    pub fn read(bundle: &BundleLayout) -> Result<Option<Self>> {
        let path = bundle.lock();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(&path)(error)),
        };
        toml::from_str(&text).map(Some).map_err(|error| {
            let what = format!("{}: {}", path.display(), error.message());
            Error::new(Kind::Bundle, what).because(error)
        })
    }
}
