//! What the built bundle holds, as upstream's hosts would have it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::mirror::Content;

/// A bundle in pieces, and a cloud image with packages.
pub(crate) struct Built {
    /// The parts disk: bin, cni; and the blobs of both archives of images.
    dir: PathBuf,
    cloud: PathBuf,
    /// Digests of manifests by the names of images.
    images: BTreeMap<String, String>,
}

fn run(program: &str, args: &[&str]) {
    let script = "PATH=\"$PATH:/usr/sbin:/sbin\"; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    let output = command.args(["-c", script, program]).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

/// Without the algorithm.
fn hex(part: &Value) -> &str {
    part["digest"].as_str().unwrap().trim_start_matches("sha256:")
}

impl Built {
    /// Takes a bundle apart below `scratch`.
    pub(crate) fn unpack(bundle: &Path, cloud: &Path, scratch: &Path) -> Self {
        let dir = scratch.join("parts");
        fs::create_dir(&dir).unwrap();
        let to = dir.display().to_string();
        let parts = bundle.join("parts.img").display().to_string();
        run("debugfs", &["-R", &format!("rdump / \"{to}\""), &parts]);
        let mut images = BTreeMap::new();
        for archive in ["node.tar", "addons.tar"] {
            let archive = dir.join("images").join(archive);
            run("tar", &["-C", &to, "-xf", archive.to_str().unwrap()]);
            fs::remove_file(archive).unwrap();
            let index = fs::read(dir.join("index.json")).unwrap();
            let index: Value = serde_json::from_slice(&index).unwrap();
            for entry in index["manifests"].as_array().unwrap() {
                let name = entry["annotations"]["io.containerd.image.name"].as_str().unwrap();
                images.insert(name.to_owned(), hex(entry).to_owned());
            }
        }
        Self {
            dir,
            cloud: cloud.to_owned(),
            images,
        }
    }

    /// Adds a program.
    pub(crate) fn add(&self, program: &Path) {
        let name = program.file_name().unwrap();
        fs::copy(program, self.dir.join("bin").join(name)).unwrap();
    }

    /// Gives its room on the disk back.
    pub(crate) fn remove(self) {
        fs::remove_dir_all(self.dir).unwrap();
    }

    fn blob(&self, digest: &str) -> Vec<u8> {
        fs::read(self.dir.join("blobs/sha256").join(digest)).unwrap()
    }
}

impl Content for Built {
    fn program(&self, path: &str) -> Option<Vec<u8>> {
        let name = match path.rsplit('/').next().unwrap() {
            // One program that looks at the name it is called by.
            "kubelet" | "kubeadm" | "kubectl" => "kubernetes",
            name => name,
        };
        let places = ["bin", "cni"].map(|folder| self.dir.join(folder).join(name));
        let place = places.iter().find(|place| place.is_file())?;
        Some(fs::read(place).unwrap())
    }

    /// The one of that name, in whatever version Debian has today.
    fn package(&self, file: &str) -> Vec<u8> {
        let name = file.split('_').next().unwrap();
        let dir = self.cloud.join("upstream");
        let mut paths = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        let begins = |path: &PathBuf| {
            let file = path.file_name().unwrap().to_string_lossy();
            file.split('_').next() == Some(name)
        };
        let path = paths.find(begins);
        let path = path.unwrap_or_else(|| panic!("no {name} in {}", dir.display()));
        fs::read(path).unwrap()
    }

    fn cloud_image(&self, to: &Path) {
        fs::copy(self.cloud.join("disk.qcow2"), to).unwrap();
    }

    fn image(&self, reference: &str, arch: &str) -> Option<(Value, Vec<Vec<u8>>)> {
        if arch != sampan::bundle::arch() {
            return None;
        }
        let name = match reference {
            "docker.io/library/busybox:1.37.0" => "sampan.local/helper:v1",
            name => name,
        };
        let digest = self.images.get(name);
        let digest = digest.unwrap_or_else(|| panic!("the bundle has no {name}"));
        let manifest: Value = serde_json::from_slice(&self.blob(digest)).unwrap();
        let config = serde_json::from_slice(&self.blob(hex(&manifest["config"]))).unwrap();
        let layers = manifest["layers"].as_array().unwrap();
        let layers = layers.iter().map(|layer| self.blob(hex(layer)));
        Some((config, layers.collect()))
    }
}
