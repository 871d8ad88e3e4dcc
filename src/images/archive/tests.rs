use std::io::Write;

use serde_json::json;

use super::*;
use crate::images::Parts;

fn tar_of(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut parts = Parts::default();
    for (name, bytes) in entries {
        parts.entry(name, bytes.clone()).unwrap();
    }
    parts.close();
    let mut bytes = Vec::new();
    parts.read_to_end(&mut bytes).unwrap();
    bytes
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hash::bytes(bytes))
}

fn config(arch: &str, layer: &[u8]) -> Vec<u8> {
    let config = json!({ "architecture": arch, "os": "linux", "rootfs": { "type": "layers", "diff_ids": [digest(layer)] } });
    config.to_string().into_bytes()
}

/// As `docker save` wrote it before it wrote OCI layouts.
fn docker_archive(arch: &str) -> Vec<u8> {
    let layer = b"layer".to_vec();
    let manifest = json!([{ "Config": "c.json", "RepoTags": ["app:1", "app:2"], "Layers": ["l/layer.tar"] }]);
    tar_of(&[
        ("c.json", config(arch, &layer)),
        ("l/layer.tar", layer),
        ("manifest.json", manifest.to_string().into_bytes()),
    ])
}

fn oci_archive(arch: &str, with_layer: bool, size: u64) -> Vec<u8> {
    let layer = b"layer".to_vec();
    let config = config(arch, &layer);
    let describe = |kind: &str, bytes: &[u8], size: u64| json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest(bytes), "size": size });
    let manifest = json!({
        "schemaVersion": 2,
        "config": describe("config.v1+json", &config, config.len() as u64),
        "layers": [describe("layer.v1.tar", &layer, size)],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut named = describe("manifest.v1+json", &manifest, manifest.len() as u64);
    named["annotations"] = json!({ "io.containerd.image.name": "docker.io/library/app:1" });
    let index = json!({ "schemaVersion": 2, "manifests": [named] })
        .to_string()
        .into_bytes();
    let path = |bytes: &[u8]| format!("blobs/sha256/{}", hash::bytes(bytes));
    let paths = [path(&config), path(&manifest), path(&layer)];
    let mut entries = vec![("index.json", index), (&paths[0], config), (&paths[1], manifest)];
    if with_layer {
        entries.push((&paths[2], layer));
    }
    tar_of(&entries)
}

fn read(bytes: &[u8]) -> Result<Archive> {
    Archive::read(&mut &*bytes, "x.tar", "amd64")
}

fn refusal(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

fn names(archive: &Archive) -> Vec<&str> {
    archive
        .images
        .iter()
        .filter_map(|image| image.name.as_deref())
        .collect()
}

#[test]
fn dockers_own_archive_is_described_as_an_oci_layout() {
    let archive = read(&docker_archive("amd64")).unwrap();
    assert_eq!(
        names(&archive),
        ["docker.io/library/app:1", "docker.io/library/app:2"]
    );
    assert_eq!(archive.images[0].digest, archive.images[1].digest);
    assert!(archive.blobs.contains_key(&digest(b"layer")));
    let index: serde_json::Value = serde_json::from_slice(&archive.index).unwrap();
    assert_eq!(index["manifests"][0]["digest"], archive.images[0].digest);
    assert!(archive.blobs.contains_key(&archive.images[0].digest));
}

#[test]
fn an_oci_archive_may_be_packed_and_may_lack_what_the_node_has() {
    let plain = oci_archive("amd64", true, 5);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let zstd = zstd::encode_all(&*plain, 1).unwrap();
    for bytes in [&plain, &gzip.finish().unwrap(), &zstd] {
        let archive = read(bytes).unwrap();
        assert_eq!(names(&archive), ["docker.io/library/app:1"]);
        assert_eq!(archive.blobs.len(), 3);
    }
    let archive = read(&oci_archive("amd64", false, 5)).unwrap();
    assert!(matches!(archive.blobs[&digest(b"layer")].at, Place::Nowhere));
}

#[test]
fn what_is_for_another_machine_is_refused() {
    let told = "x.tar: image docker.io/library/app:1 is for linux/arm64, and the node is linux/amd64";
    assert_eq!(refusal(&oci_archive("arm64", true, 5)), told);
    assert_eq!(
        refusal(&docker_archive("arm64")),
        told.replace("docker.io/library/", "")
    );
}

#[test]
fn damaged_archives_are_told_and_never_a_panic() {
    assert!(refusal(b"").contains("is empty"));
    assert!(refusal(&b"this is no archive at all ".repeat(100)).contains("is not an archive of images"));
    assert!(refusal(&tar_of(&[("etc/passwd", b"x".to_vec())])).contains("is not an archive of images"));
    assert!(refusal(b"BZh91AY").contains("does not unpack bzip2"));
    assert!(refusal(&oci_archive("amd64", true, 6)).contains("damaged"));
    for whole in [docker_archive("amd64"), oci_archive("amd64", true, 5)] {
        for length in (0..whole.len() - 1024).step_by(256) {
            // Cut between two entries it may be one without the last layer, which the node may have.
            // Within the fill of the last block nothing is lost.
            if let Ok(archive) = read(&whole[..length]) {
                let lacks = |blob: &Blob| matches!(blob.at, Place::Nowhere);
                let is_whole = length + 1024 + 512 > whole.len();
                assert!(is_whole || archive.blobs.values().any(lacks), "{length}");
            }
        }
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&whole).unwrap();
        let packed = gzip.finish().unwrap();
        assert!(refusal(&packed[..packed.len() / 2]).contains("damaged or cut off"));
    }
    let broken = json!([{ "Config": "c.json", "Layers": ["gone.tar"] }]);
    let bytes = tar_of(&[
        ("c.json", config("amd64", b"x")),
        ("manifest.json", broken.to_string().into_bytes()),
    ]);
    assert!(refusal(&bytes).contains("gone.tar is missing"));
}

#[test]
fn nothing_climbs_out() {
    let climbing = |name: &str| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = crate::images::parts::file_header(1);
        // The safe way to set a name refuses it.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, &b"x"[..]).unwrap();
        builder.into_inner().unwrap()
    };
    for name in ["../../etc/passwd", "/etc/passwd", "a/../../b"] {
        assert!(
            refusal(&climbing(name)).contains("climbs out of the archive"),
            "{name}"
        );
    }
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder
        .append_link(&mut header, "l/layer.tar", "../../etc/passwd")
        .unwrap();
    assert!(refusal(&builder.into_inner().unwrap()).contains("climbs out"));
}
