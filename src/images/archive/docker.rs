//! Docker's own archives, as it wrote them before it wrote OCI layouts and as other tools still do: manifest.json names the
//! configuration and the layers of each image. It is described as the OCI layout that it is worth.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Archive, Blob, Entries, Image, Place, incomplete, other_arch, sum};
use crate::error::Result;
use crate::images::{full_name, name, unpacked};
use crate::store::hash;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    rootfs: Rootfs,
}

#[derive(Deserialize)]
struct Rootfs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

pub(super) fn describe(entries: Entries, arch: &str) -> Result<Archive> {
    let saved: Vec<Saved> = entries.json("manifest.json")?;
    if saved.is_empty() {
        return Err(incomplete(&entries.place, "an image"));
    }
    let mut blobs = BTreeMap::new();
    let mut images = Vec::new();
    let mut manifests = Vec::new();
    for image in &saved {
        let (digest, size) = manifest(&entries, image, arch, &mut blobs)?;
        let descriptor = json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size });
        let tags = image.repo_tags.clone().unwrap_or_default();
        if tags.is_empty() {
            manifests.push(descriptor.clone());
            images.push(Image {
                name: None,
                digest: digest.clone(),
            });
        }
        for tag in tags {
            let full = full_name(&tag);
            let mut named = descriptor.clone();
            named["annotations"] = json!({
                "io.containerd.image.name": full,
                "org.opencontainers.image.ref.name": name::split(&full).1,
            });
            manifests.push(named);
            images.push(Image {
                name: Some(full),
                digest: digest.clone(),
            });
        }
    }
    let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests });
    Ok(entries.done(arch, index.to_string().into_bytes(), images, blobs))
}

/// Makes the manifest of one image, and notes all that it is made of.
fn manifest(
    entries: &Entries,
    image: &Saved,
    arch: &str,
    blobs: &mut BTreeMap<String, Blob>,
) -> Result<(String, usize)> {
    let text = entries.bytes(&image.config)?;
    let config: Config = entries.parse(&image.config, &text)?;
    if config.architecture != arch || config.os != "linux" {
        let first = image.repo_tags.as_ref().and_then(|tags| tags.first());
        let theirs = format!("{}/{}", config.os, config.architecture);
        return Err(other_arch(
            &entries.place,
            first.map(String::as_str),
            &theirs,
            arch,
        ));
    }
    if config.rootfs.diff_ids.len() != image.layers.len() {
        return Err(incomplete(&entries.place, "a layer"));
    }
    let mut layers = Vec::new();
    for (path, diff) in image.layers.iter().zip(&config.rootfs.diff_ids) {
        layers.push(layer(entries, path, diff, blobs)?);
    }
    let mut descriptor = |kind: &str, text: Vec<u8>| -> Value {
        let digest = format!("sha256:{}", hash::bytes(&text));
        let size = text.len();
        let blob = Blob {
            size: size as u64,
            at: Place::Memory(text),
        };
        blobs.insert(digest.clone(), blob);
        json!({ "mediaType": format!("application/vnd.oci.image.{kind}.v1+json"), "digest": digest, "size": size })
    };
    let config = descriptor("config", text);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": layers,
    });
    let text = manifest.to_string().into_bytes();
    let size = text.len();
    let made = descriptor("manifest", text);
    Ok((made["digest"].as_str().unwrap_or_default().to_owned(), size))
}

/// A layer that is not packed has the digest that the configuration says: the node looks whether that is true of what it gets, and
/// what it has already it need not get.
fn layer(entries: &Entries, path: &str, diff: &str, blobs: &mut BTreeMap<String, Blob>) -> Result<Value> {
    use std::os::unix::fs::FileExt;
    let (at, size) = entries
        .find(path)
        .ok_or_else(|| incomplete(&entries.place, path))?;
    let mut start = [0; 4];
    let count = entries
        .file
        .read_at(&mut start, at)
        .map_err(|error| unpacked::damaged(&entries.place, error))?;
    let start = &start[..count];
    let packed = if start.starts_with(&[0x1f, 0x8b]) {
        Some("+gzip")
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Some("+zstd")
    } else {
        None
    };
    let digest = match packed {
        Some(_) => sum(&entries.file, &entries.place, at, size)?,
        None => diff.to_owned(),
    };
    let blob = Blob {
        size,
        at: Place::File(at),
    };
    blobs.insert(digest.clone(), blob);
    let kind = format!(
        "application/vnd.oci.image.layer.v1.tar{}",
        packed.unwrap_or_default()
    );
    Ok(json!({ "mediaType": kind, "digest": digest, "size": size }))
}
