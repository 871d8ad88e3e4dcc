//! Layers on disk: a saved machine of the driver's, the identity its guest has, and `layer.toml`, which says what it is and
//! appears last. Ready layers are sampan's own and can be made again; layers made of users' machines cannot.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::error::{Error, Kind, Result};
use crate::layout::{IDENTITY, LAYER_STATE, LayerLayout};
use crate::progress::{Cancel, Reporter};
use crate::settings::ClusterSpec;
use crate::store::sums::{self, Sums};
use crate::store::{atomic, hash};

/// Changes when an older sampan would misunderstand the file.
const FORMAT: u32 = 2;

/// That of a layer whose programs are those of the bundle below its disk.
const FIRST_FORMAT: u32 = 1;

/// What a layer was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LayerKind {
    /// A healthy cluster that new profiles are forked from.
    Ready,
    /// `snapshot save`.
    Snapshot,
    /// `fork`.
    Fork,
}

/// `layer.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// Version of this file's format.
    pub format: u32,
    /// The name of its directory.
    pub key: String,
    /// What it was made for.
    pub kind: LayerKind,
    /// The profile it was made of; empty for a ready layer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub profile: String,
    /// The name that the user gave; empty when it has none (any more).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// Version of the sampan that made it.
    pub sampan: String,
    /// The node's name in the cluster.
    pub node: String,
    /// Key of the bundle below, and sha256 of its base disk.
    pub bundle: String,
    /// See `bundle`.
    pub base: String,
    /// Key of the bundle that programs and container images are from, where that is another one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub parts: String,
    /// Whether the cluster had come up completely.
    pub settled: bool,
    /// Whether it is the machine's disk alone, without memory.
    #[serde(default)]
    pub disk_only: bool,
    /// What the cluster is.
    pub spec: ClusterSpec,
    /// Files with their sums, by path relative to the layer.
    pub files: Sums,
}

/// A layer that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    /// Its files.
    pub files: LayerLayout,
    /// What it is.
    pub manifest: Manifest,
}

impl Manifest {
    /// A manifest of this format, of a layer made now; its files are not known yet.
    pub(super) fn new(kind: LayerKind, key: &str, profile: &super::Profile, settled: bool) -> Self {
        let upgraded = profile.parts() != profile.bundle;
        Self {
            format: if upgraded { FORMAT } else { FIRST_FORMAT },
            key: key.to_owned(),
            kind,
            profile: String::new(),
            name: String::new(),
            created: OffsetDateTime::now_utc(),
            sampan: env!("CARGO_PKG_VERSION").to_owned(),
            node: profile.node().to_owned(),
            bundle: profile.bundle.clone(),
            base: profile.base.clone(),
            parts: if upgraded {
                profile.parts().to_owned()
            } else {
                String::new()
            },
            settled,
            disk_only: false,
            spec: profile.spec.clone(),
            files: Sums::new(),
        }
    }

    /// Key of the bundle that programs and container images are from.
    pub(super) fn parts(&self) -> &str {
        if self.parts.is_empty() {
            &self.bundle
        } else {
            &self.parts
        }
    }

    /// Keys of the bundles that a machine of this layer stands on.
    pub(super) fn bundles(&self) -> Vec<String> {
        vec![self.bundle.clone(), self.parts().to_owned()]
    }

    /// Sums the driver's files and writes the manifest: the layer in `dir` is complete then.
    ///
    /// # Errors
    /// The I/O error with the path; [`Kind::Interrupted`].
    pub(super) fn seal(&mut self, dir: &LayerLayout, cancel: &Cancel, reporter: &dyn Reporter) -> Result<()> {
        let sums = sums::of_tree(&dir.state(), "sealing the snapshot", cancel, reporter)?;
        self.files = sums
            .into_iter()
            .map(|(name, sum)| (format!("{LAYER_STATE}/{name}"), sum))
            .collect();
        self.write(dir)
    }

    /// Writes the manifest.
    ///
    /// # Errors
    /// The I/O error with the path.
    pub(super) fn write(&self, dir: &LayerLayout) -> Result<()> {
        let text = toml::to_string(self)
            .map_err(|error| Error::new(Kind::Internal, "cannot describe a layer").because(error))?;
        atomic::write(&dir.manifest(), 0o600, text.as_bytes())
    }
}

/// What is found in the directory of a layer.
#[derive(Debug)]
pub(super) enum Found {
    /// A complete one that looks whole.
    Whole(Box<Layer>),
    /// One that cannot be used, and why.
    Damaged(String),
    /// None, or one that was never completed.
    Nothing,
}

/// Looks at a layer; takes milliseconds.
///
/// # Errors
/// The I/O error with the path.
pub(super) fn look(files: &LayerLayout) -> Result<Found> {
    let manifest = match read(files)? {
        Ok(Some(manifest)) => manifest,
        Ok(None) => return Ok(Found::Nothing),
        Err(damage) => return Ok(Found::Damaged(damage)),
    };
    if let Some(name) = IDENTITY.iter().find(|name| !files.0.join(name).exists()) {
        return Ok(Found::Damaged(format!("{name} is missing")));
    }
    Ok(
        match sums::damage(&files.0, &manifest.files, &files.manifest())? {
            Some(damage) => Found::Damaged(damage),
            None => Found::Whole(Box::new(Layer {
                files: files.clone(),
                manifest,
            })),
        },
    )
}

/// Reads every file of a layer and compares its sum; returns what is wrong.
///
/// # Errors
/// The I/O error with the path.
pub(super) fn verify(layer: &Layer, reporter: &dyn Reporter) -> Result<Option<String>> {
    let (files, sums) = (&layer.files, &layer.manifest.files);
    sums::verify(&files.0, sums, &files.manifest(), "checking a layer", reporter)
}

/// The manifest in a layer's directory, if there is one; the inner error says why it cannot be used.
///
/// # Errors
/// The I/O error with the path.
pub(super) fn read(files: &LayerLayout) -> Result<Result<Option<Manifest>, String>> {
    let path = files.manifest();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Ok(None)),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            return Ok(Err("layer.toml is no text".to_owned()));
        }
        Err(error) => return Err(Error::io(&path)(error)),
    };
    Ok(match toml::from_str::<Manifest>(&text) {
        Ok(manifest) if (FIRST_FORMAT..=FORMAT).contains(&manifest.format) => Ok(Some(manifest)),
        Ok(manifest) => Err(format!("layer.toml has the unknown format {}", manifest.format)),
        Err(error) => Err(format!("layer.toml: {}", error.message())),
    })
}

/// Names of what is in a directory of layers, sorted; hidden ones are under construction.
///
/// # Errors
/// The I/O error with the path.
pub(super) fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(dir)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(Error::io(dir))?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// A name for a layer that no other one has or had: of the moment and the process.
pub(super) fn new_id(what: &str) -> String {
    let mut id = hash::Key::new("layer")
        .with("what", what)
        .with(
            "time",
            OffsetDateTime::now_utc().unix_timestamp_nanos().to_le_bytes(),
        )
        .with("process", std::process::id().to_le_bytes())
        .finish();
    id.truncate(12);
    id
}

/// Sees to it that a layer is not used again. Its files stay where they are: machines may stand on them, by their names.
///
/// # Errors
/// The I/O error with the path.
pub(super) fn set_aside(files: &LayerLayout) -> Result<()> {
    fs::rename(files.manifest(), files.damaged()).map_err(Error::io(&files.manifest()))
}

/// Copies what a guest knows its host by from one directory to another, and nothing else stays there under these names.
///
/// # Errors
/// The I/O error with the path.
pub(super) fn copy_identity(from: &Path, to: &Path) -> Result<()> {
    for name in IDENTITY {
        atomic::remove(&to.join(name))?;
        copy(&from.join(name), &to.join(name))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        // Certificates and public keys are no secret, but nobody else needs them either.
        return atomic::write(to, 0o600, &fs::read(from).map_err(Error::io(from))?);
    }
    atomic::make_private_dir(to)?;
    for entry in fs::read_dir(from).map_err(Error::io(from))? {
        let name = entry.map_err(Error::io(from))?.file_name();
        copy(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    /// A sealed layer in a directory of its own.
    fn sealed() -> (tempfile::TempDir, LayerLayout) {
        let dir = tempfile::tempdir().unwrap();
        let files = LayerLayout(dir.path().join("key"));
        fs::create_dir_all(files.state()).unwrap();
        fs::write(files.state().join("ram.img"), "memory").unwrap();
        fs::create_dir(files.0.join("ssh")).unwrap();
        fs::write(files.0.join("ssh/id_ed25519"), "key").unwrap();
        fs::create_dir(files.0.join("pki")).unwrap();
        fs::create_dir(files.0.join("docker")).unwrap();
        fs::write(files.0.join("seed.img"), "seed").unwrap();
        let mut manifest = Manifest {
            format: FIRST_FORMAT,
            key: "key".into(),
            kind: LayerKind::Ready,
            profile: String::new(),
            name: String::new(),
            created: OffsetDateTime::UNIX_EPOCH,
            sampan: "0".into(),
            node: "sampan".into(),
            bundle: "b".into(),
            base: "s".into(),
            parts: String::new(),
            settled: true,
            disk_only: false,
            spec: crate::settings::ClusterSpec {
                name: "sampan".into(),
                driver: "fake".into(),
                cpus: 2,
                memory_mib: 2048,
                disk_mib: 8192,
                kubernetes_version: "v1".into(),
                container_runtime: crate::settings::ContainerRuntime::Containerd,
                dns_domain: "cluster.local".into(),
                service_cidr: "10.96.0.0/12".into(),
                pod_cidr: "10.244.0.0/16".into(),
                apiserver_names: Vec::new(),
                feature_gates: String::new(),
                insecure_registries: Vec::new(),
                registry_mirrors: Vec::new(),
                extra_config: Vec::new(),
            },
            files: Sums::new(),
        };
        manifest.seal(&files, &Cancel::default(), &Silent).unwrap();
        (dir, files)
    }

    #[test]
    fn a_sealed_layer_is_whole_and_says_what_it_is() {
        let (_dir, files) = sealed();
        let Found::Whole(layer) = look(&files).unwrap() else {
            panic!("not whole")
        };
        assert_eq!(layer.manifest.node, "sampan");
        assert_eq!(layer.manifest.files.keys().collect::<Vec<_>>(), ["state/ram.img"]);
        assert_eq!(verify(&layer, &Silent).unwrap(), None);
    }

    #[test]
    fn damage_is_found_and_an_incomplete_layer_is_none() {
        let (_dir, files) = sealed();
        fs::write(files.state().join("ram.img"), "shorter").unwrap();
        assert!(matches!(look(&files).unwrap(), Found::Damaged(why) if why.contains("ram.img")));
        let (_dir, files) = sealed();
        fs::remove_file(files.0.join("seed.img")).unwrap();
        assert!(matches!(look(&files).unwrap(), Found::Damaged(why) if why.contains("seed.img")));
        let (_dir, files) = sealed();
        fs::write(files.manifest(), "format = 99").unwrap();
        assert!(matches!(look(&files).unwrap(), Found::Damaged(_)));
        fs::remove_file(files.manifest()).unwrap();
        assert!(matches!(look(&files).unwrap(), Found::Nothing));
    }

    #[test]
    fn an_identity_replaces_another_whole_and_stays_private() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, files) = sealed();
        let profile = dir.path().join("profile");
        fs::create_dir_all(profile.join("ssh")).unwrap();
        fs::write(profile.join("ssh/other"), "old").unwrap();
        copy_identity(&files.0, &profile).unwrap();
        assert!(!profile.join("ssh/other").exists());
        let key = profile.join("ssh/id_ed25519");
        assert_eq!(fs::read(&key).unwrap(), b"key");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
