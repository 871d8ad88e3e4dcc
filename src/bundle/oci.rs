//! An OCI archive with several images: uncompressed layers, a layer that several images have is in it once, and nothing in
//! it depends on when, where or by whom it was made.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::catalog::Image;
use super::layers::{Blob, Layer};
use super::manifest::ImageRef;
use crate::error::{Error, Kind, Result};
use crate::progress::Cancel;
use crate::store::hash;

/// The time that images say they were made: always the same.
const CREATED: &str = "2026-01-01T00:00:00Z";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Small blobs by digest: configurations and manifests.
type Blobs = BTreeMap<String, Vec<u8>>;

/// Writes the archive and returns the images with their digests. `layers` are by the names that images call them; those that no
/// image has are left out.
pub(super) fn write(
    path: &Path,
    arch: &str,
    images: &[&Image],
    layers: &BTreeMap<&str, &Layer>,
    cancel: &Cancel,
) -> Result<Vec<ImageRef>> {
    let mut large = BTreeMap::new();
    let used = |name: &str| {
        images
            .iter()
            .any(|image| image.layers.iter().any(|layer| layer == name))
    };
    for (name, layer) in layers.iter().filter(|(name, _)| used(name)) {
        cancel.check()?;
        large.insert(*name, (layer.blob().map_err(Error::io(path))?, *layer));
    }
    let mut small = Blobs::new();
    let mut refs = Vec::new();
    let mut entries = Vec::new();
    for image in images {
        let (digest, size) = add_image(image, arch, &large, &mut small)?;
        entries.push(index_entry(image, arch, &digest, size));
        refs.push(ImageRef {
            name: image.name.clone(),
            tag: image.tag.clone(),
            digest: format!("sha256:{digest}"),
            archive: image.archive,
        });
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });

    let file = File::create(path).map_err(Error::io(path))?;
    let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 18, file));
    put(
        &mut tar,
        "oci-layout",
        json!({ "imageLayoutVersion": "1.0.0" }).to_string().as_bytes(),
    )
    .map_err(Error::io(path))?;
    put(&mut tar, "index.json", index.to_string().as_bytes()).map_err(Error::io(path))?;
    for (digest, bytes) in &small {
        put(&mut tar, &blob_name(digest), bytes).map_err(Error::io(path))?;
    }
    let by_digest: BTreeMap<&str, (&Blob, &Layer)> = large
        .values()
        .map(|(blob, layer)| (blob.sha256.as_str(), (blob, *layer)))
        .collect();
    for (blob, layer) in by_digest.into_values() {
        cancel.check()?;
        put_layer(&mut tar, blob, layer, path)?;
    }
    tar.into_inner()
        .and_then(|mut inner| inner.flush())
        .map_err(Error::io(path))?;
    Ok(refs)
}

/// Adds configuration and manifest of an image; returns the manifest's digest and size.
fn add_image(
    image: &Image,
    arch: &str,
    layers: &BTreeMap<&str, (Blob, &Layer)>,
    blobs: &mut Blobs,
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

fn add(blobs: &mut Blobs, value: &Value) -> (String, usize) {
    let bytes = value.to_string().into_bytes();
    let digest = hash::bytes(&bytes);
    let size = bytes.len();
    blobs.insert(digest.clone(), bytes);
    (digest, size)
}

fn descriptor(media_type: &str, digest: &str, size: u64) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size })
}

fn index_entry(image: &Image, arch: &str, digest: &str, size: usize) -> Value {
    let mut entry = descriptor(MANIFEST, digest, size as u64);
    entry["annotations"] = json!({
        // The first is what containerd names the image by, the second is OCI's own.
        "io.containerd.image.name": format!("{}:{}", image.name, image.tag),
        "org.opencontainers.image.ref.name": image.tag,
    });
    entry["platform"] = json!({ "architecture": arch, "os": "linux" });
    entry
}

fn blob_name(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn put(tar: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    tar.append_data(&mut header(bytes.len() as u64), name, bytes)
}

/// A layer is written twice: once into a hash, here into the archive. Nothing of it is kept in memory or in a file between.
fn put_layer(tar: &mut tar::Builder<impl Write>, blob: &Blob, layer: &Layer, path: &Path) -> Result<()> {
    let mut header = header(blob.size);
    header
        .set_path(blob_name(&blob.sha256))
        .map_err(Error::io(path))?;
    header.set_cksum();
    // Only the header: the content follows from the layer's own writer, which ends on a multiple of a tar block.
    tar.append(&header, io::empty()).map_err(Error::io(path))?;
    layer.write(tar.get_mut()).map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::manifest::Archive;
    use super::*;

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
