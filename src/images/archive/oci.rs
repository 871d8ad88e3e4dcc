//! OCI layouts: index.json names manifests by digest, and every piece is a file named by its own.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Archive, Blob, Entries, Image, Place, incomplete, other_arch};
use crate::error::Result;
use crate::images::{full_name, unpacked};
use crate::store::hash;

/// Indexes within indexes; nobody makes more.
const DEEPEST: usize = 4;

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

/// What an image is for and what it is made of.
struct Walk<'a> {
    entries: &'a Entries,
    arch: &'a str,
    blobs: BTreeMap<String, Blob>,
    /// Platforms that are there and not the node's.
    others: Vec<String>,
    found: bool,
}

pub(super) fn describe(entries: Entries, arch: &str) -> Result<Archive> {
    let text = entries.bytes("index.json")?;
    let index: Index = entries.parse("index.json", &text)?;
    if index.manifests.is_empty() {
        return Err(incomplete(&entries.place, "an image"));
    }
    let mut images = Vec::new();
    let mut blobs = BTreeMap::new();
    for descriptor in &index.manifests {
        let name = name(descriptor);
        let mut walk = Walk {
            entries: &entries,
            arch,
            blobs: BTreeMap::new(),
            others: Vec::new(),
            found: false,
        };
        walk.descend(descriptor, 0)?;
        if !walk.found {
            return Err(match walk.others.as_slice() {
                [] => incomplete(&entries.place, &descriptor.digest),
                others => other_arch(&entries.place, name.as_deref(), &others.join(", "), arch),
            });
        }
        blobs.append(&mut walk.blobs);
        images.push(Image {
            name,
            digest: descriptor.digest.clone(),
        });
    }
    Ok(entries.done(arch, text, images, blobs))
}

/// The name Docker writes, else the one that the standard has, if it is more than a tag.
fn name(descriptor: &Descriptor) -> Option<String> {
    let annotation = |key: &str| descriptor.annotations.get(key);
    annotation("io.containerd.image.name")
        .or_else(|| annotation("org.opencontainers.image.ref.name").filter(|name| name.contains([':', '/'])))
        .map(|name| full_name(name))
}

impl Walk<'_> {
    fn descend(&mut self, descriptor: &Descriptor, depth: usize) -> Result<()> {
        if depth > DEEPEST {
            return Err(unpacked::damaged(
                &self.entries.place,
                "indexes within indexes without end",
            ));
        }
        if let Some(platform) = &descriptor.platform
            && !self.is_ours(&platform.os, &platform.architecture)
        {
            return Ok(());
        }
        let path = path(&descriptor.digest, self.entries)?;
        // An archive need not have every platform that its index names.
        if self.entries.find(&path).is_none() && depth > 0 {
            return Ok(());
        }
        let text = self.described(descriptor)?;
        if descriptor.media_type.ends_with("index.v1+json")
            || descriptor.media_type.ends_with("manifest.list.v2+json")
        {
            let index: Index = self.entries.parse(&path, &text)?;
            return index
                .manifests
                .iter()
                .try_for_each(|child| self.descend(child, depth + 1));
        }
        let manifest: Manifest = self.entries.parse(&path, &text)?;
        let config = self.described(&manifest.config)?;
        if let Ok(platform) = serde_json::from_slice::<Platform>(&config)
            && !self.is_ours(&platform.os, &platform.architecture)
        {
            return Ok(());
        }
        for layer in &manifest.layers {
            self.add(layer)?;
        }
        self.found = true;
        Ok(())
    }

    fn is_ours(&mut self, os: &str, arch: &str) -> bool {
        let ours = os == "linux" && arch == self.arch;
        // What goes along with an image, such as how it was built, is for no platform.
        if !ours && os != "unknown" {
            self.others.push(format!("{os}/{arch}"));
        }
        ours
    }

    /// A description: it must be there, and be what its digest says.
    fn described(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let path = path(&descriptor.digest, self.entries)?;
        let text = self.entries.bytes(&path)?;
        if format!("sha256:{}", hash::bytes(&text)) != descriptor.digest {
            return Err(unpacked::damaged(
                &self.entries.place,
                format!("{path} is not what its name says"),
            ));
        }
        self.add(descriptor)?;
        Ok(text)
    }

    fn add(&mut self, descriptor: &Descriptor) -> Result<()> {
        let path = path(&descriptor.digest, self.entries)?;
        let at = match self.entries.find(&path) {
            None => Place::Nowhere,
            Some((at, size)) if size == descriptor.size => Place::File(at),
            Some(_) => {
                return Err(unpacked::damaged(
                    &self.entries.place,
                    format!("{path} has another size than it should"),
                ));
            }
        };
        let blob = Blob {
            size: descriptor.size,
            at,
        };
        self.blobs.insert(descriptor.digest.clone(), blob);
        Ok(())
    }
}

/// The file of a digest.
fn path(digest: &str, entries: &Entries) -> Result<String> {
    match digest.strip_prefix("sha256:") {
        Some(hex) if hex.len() == 64 && hex.bytes().all(|c| c.is_ascii_hexdigit()) => {
            Ok(format!("blobs/sha256/{hex}"))
        }
        _ => Err(unpacked::damaged(
            &entries.place,
            format!("{digest:?} is not a digest"),
        )),
    }
}
