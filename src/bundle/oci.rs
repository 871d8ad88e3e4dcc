//! Archives of the images that are put together here: uncompressed layers, a layer that several images have is in it once, and nothing
//! in it depends on when, where or by whom it was made.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::catalog::Image;
use super::layers::{Blob, Layer};
use super::manifest::ImageRef;
use crate::error::{Error, Kind, Result};
use crate::progress::Cancel;
use crate::store::hash;
use crate::store::oci::{self, Content, Large, Small, descriptor};

/// The time that images say they were made: always the same.
const CREATED: &str = "2026-01-01T00:00:00Z";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Writes the archive and returns the images with their digests. `layers` are by the names that images call them; those that no
/// image has are left out.
pub(super) fn write(
    path: &Path,
    arch: &str,
    images: &[&Image],
    layers: &BTreeMap<&str, &Layer>,
    cancel: &Cancel,
) -> Result<Vec<ImageRef>> {
    let mut known = BTreeMap::new();
    let used = |name: &str| {
        images
            .iter()
            .any(|image| image.layers.iter().any(|layer| layer == name))
    };
    for (name, layer) in layers.iter().filter(|(name, _)| used(name)) {
        cancel.check()?;
        known.insert(*name, (layer.blob().map_err(Error::io(path))?, *layer));
    }
    let mut small = Small::new();
    let mut refs = Vec::new();
    let mut entries = Vec::new();
    for image in images {
        let (digest, size) = add_image(image, arch, &known, &mut small)?;
        let manifest = descriptor(MANIFEST, &digest, size as u64);
        entries.push(oci::entry(manifest, &image.name, &image.tag, arch));
        refs.push(ImageRef {
            name: image.name.clone(),
            tag: image.tag.clone(),
            digest: format!("sha256:{digest}"),
            archive: image.archive,
        });
    }
    // A layer is written twice: once into a hash, here into the archive.
    let content = |(blob, layer): &(Blob, &Layer)| {
        let layer = (*layer).clone();
        let content = Content {
            size: blob.size,
            write: Box::new(move |to| layer.write(to).map_err(Error::io(path))),
        };
        (blob.sha256.clone(), content)
    };
    let large: Large<'_> = known.values().map(content).collect();
    oci::write(path, &entries, &small, &large, cancel)?;
    Ok(refs)
}

/// Adds configuration and manifest of an image; returns the manifest's digest and size.
fn add_image(
    image: &Image,
    arch: &str,
    layers: &BTreeMap<&str, (Blob, &Layer)>,
    blobs: &mut Small,
) -> Result<(String, usize)> {
    let mut own = Vec::new();
    for name in &image.layers {
        let (blob, _) = layers.get(name.as_str()).ok_or_else(|| {
            Error::new(
                Kind::Bundle,
                format!("image {} has an unknown layer: {name}", image.name),
            )
        })?;
        own.push(blob);
    }
    let mut config = json!({ "Entrypoint": image.entrypoint });
    for (key, value) in [
        ("Env", json!(image.env)),
        ("User", json!(image.user)),
        ("WorkingDir", json!(image.workdir)),
    ] {
        if value != json!("") && value != json!([]) {
            config[key] = value;
        }
    }
    let diff_ids: Vec<String> = own.iter().map(|blob| format!("sha256:{}", blob.sha256)).collect();
    let config = json!({
        "created": CREATED,
        "architecture": arch,
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": image.layers.iter().map(|name| json!({ "created": CREATED, "created_by": format!("sampan: layer {name}") })).collect::<Vec<_>>(),
    });
    let (digest, size) = add(blobs, &config);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &digest, size as u64),
        "layers": own.iter().map(|blob| descriptor(LAYER, &blob.sha256, blob.size)).collect::<Vec<_>>(),
    });
    Ok(add(blobs, &manifest))
}

fn add(blobs: &mut Small, value: &Value) -> (String, usize) {
    let bytes = value.to_string().into_bytes();
    let digest = hash::bytes(&bytes);
    let size = bytes.len();
    blobs.insert(digest.clone(), bytes);
    (digest, size)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::manifest::Archive;
    use super::*;
    use crate::store::oci::blob_name;

    fn image(name: &str, layers: &[&str]) -> Image {
        Image {
            name: name.into(),
            tag: "v1".into(),
            layers: layers.iter().map(|&layer| layer.into()).collect(),
            entrypoint: vec!["/p".into()],
            env: vec!["A=b".into()],
            user: String::new(),
            workdir: "/".into(),
            archive: Archive::Addons,
        }
    }

    /// An archive of two images that share a layer, and its bytes.
    fn archive(content: &str) -> (Vec<ImageRef>, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("p"), content).unwrap();
        std::fs::write(dir.path().join("q"), "q").unwrap();
        std::fs::write(dir.path().join("unused"), "u").unwrap();
        let mut layers = BTreeMap::new();
        for name in ["p", "q", "unused"] {
            let mut layer = Layer::default();
            layer.program(&format!("/{name}"), dir.path().join(name));
            layers.insert(name.to_owned(), layer);
        }
        let path = dir.path().join("node.tar");
        let images = [
            image("example.org/one", &["p"]),
            image("example.org/two", &["p", "q"]),
        ];
        let layers = layers
            .iter()
            .map(|(name, layer)| (name.as_str(), layer))
            .collect();
        let refs = write(&path, "amd64", &images.each_ref(), &layers, &Cancel::default()).unwrap();
        (refs, std::fs::read(path).unwrap())
    }

    fn entries(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(bytes);
        let mut entries = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let before = entries.insert(entry.path().unwrap().display().to_string(), content);
            assert_eq!(before, None);
        }
        entries
    }

    #[test]
    fn the_same_inputs_give_the_same_digests_and_bytes() {
        assert!(archive("x") == archive("x"));
        assert_ne!(archive("x").0, archive("y").0);
    }

    #[test]
    fn a_shared_layer_is_there_once_and_every_digest_is_right() {
        let (refs, bytes) = archive("x");
        let entries = entries(&bytes);
        // Two configurations, two manifests, two layers.
        assert_eq!(
            entries.keys().filter(|name| name.starts_with("blobs/")).count(),
            6
        );
        for (name, content) in &entries {
            if let Some(digest) = name.strip_prefix("blobs/sha256/") {
                assert_eq!(hash::bytes(content), digest);
            }
        }
        let index: Value = serde_json::from_slice(&entries["index.json"]).unwrap();
        assert_eq!(index["manifests"][1]["digest"], refs[1].digest);
        assert_eq!(
            index["manifests"][1]["annotations"]["io.containerd.image.name"],
            "example.org/two:v1"
        );
        let digest = refs[1].digest.strip_prefix("sha256:").unwrap();
        let manifest: Value = serde_json::from_slice(&entries[&blob_name(digest)]).unwrap();
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
        let config = manifest["config"]["digest"]
            .as_str()
            .unwrap()
            .strip_prefix("sha256:")
            .unwrap();
        let config: Value = serde_json::from_slice(&entries[&blob_name(config)]).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        assert_eq!(
            config["config"],
            json!({ "Entrypoint": ["/p"], "Env": ["A=b"], "WorkingDir": "/" })
        );
    }
}
