//! `bundle.toml`: what a bundle holds, with sizes and sha256 sums; and the two checks against it, a cheap and a full one.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::layout::BundleLayout;
use crate::progress::{Cancel, Reporter};
use crate::store::atomic;
use crate::store::sums::{self, Sums};

/// The version of the file's format.
pub const FORMAT: u32 = 1;

/// What sampan relies on in a bundle: the guest's units and programs, and what is where in it. Goes up when a sampan needs what
/// earlier bundles do not have; a bundle of another number is used by the sampan that made it only.
pub const CONTRACT: u32 = 1;

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The bundle's key: the name of its directory.
    pub key: String,
    /// Architecture as Go spells it: "amd64", "arm64".
    pub arch: String,
    /// Kubernetes version with leading "v".
    pub kubernetes: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// What made the programs: "go1.26.8".
    pub toolchain: String,
    /// [`CONTRACT`] of the sampan that made it.
    #[serde(default = "first_contract")]
    pub contract: u32,
    /// Where its bits come from.
    #[serde(default)]
    pub source: Origin,
    /// What its base disk is: "debian-trixie", made here of packages, or "debian-cloud", Debian's own cloud image.
    #[serde(default = "made_base")]
    pub base: String,
    /// Components.
    #[serde(rename = "component")]
    pub components: Vec<ComponentRef>,
    /// Container images in the archives `images/*.tar` of the parts disk.
    #[serde(rename = "image")]
    pub images: Vec<ImageRef>,
    /// Files by path relative to the bundle.
    pub files: Sums,
}

/// Where the bits of a bundle come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Debian packages and programs compiled from source.
    #[default]
    Build,
    /// What its makers released.
    Upstream,
}

impl Origin {
    /// In words, behind "a bundle".
    pub fn title(self) -> &'static str {
        match self {
            Self::Build => "built from source",
            Self::Upstream => "of upstream's releases",
        }
    }
}

/// Bundles from before there were contracts.
fn first_contract() -> u32 {
    1
}

/// Bundles from before there was another.
fn made_base() -> String {
    "debian-trixie".to_owned()
}

/// A component of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentRef {
    /// Our name for it.
    pub name: String,
    /// Upstream's version.
    pub version: String,
}

/// A container image of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageRef {
    /// Full name with registry, without tag.
    pub name: String,
    /// Tag.
    pub tag: String,
    /// Digest of its manifest, "sha256:…".
    pub digest: String,
    /// Which archive it is in. Bundles from before there were several have one for nodes.
    #[serde(default)]
    pub archive: Archive,
}

/// An archive of images on the parts disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Archive {
    /// What every node needs.
    #[default]
    Node,
    /// What only addons need.
    Addons,
}

impl Archive {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Node, Self::Addons];

    /// The file's name in the folder `images` of the parts disk.
    pub fn file(self) -> &'static str {
        match self {
            Self::Node => "node.tar",
            Self::Addons => "addons.tar",
        }
    }
}

impl Manifest {
    /// Reads the manifest of a bundle; nothing there is `None`.
    ///
    /// # Errors
    /// [`Kind::Bundle`] when it cannot be used, or the I/O error.
    pub fn read(bundle: &BundleLayout) -> Result<Option<Self>> {
        let path = bundle.manifest();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(&path)(error)),
        };
        let place = path.display().to_string();
        Self::parse(&text, &place, "`sampan bundle build` makes it again").map(Some)
    }

    /// Reads the manifest's text; `place` is where it is from, and `way_out` what to do when it is damaged.
    ///
    /// # Errors
    /// [`Kind::Bundle`] when it cannot be used.
    pub fn parse(text: &str, place: &str, way_out: &str) -> Result<Self> {
        let bad = |why: &str| Error::new(Kind::Bundle, format!("{place}: {why}")).hint(way_out);
        // The format first: a newer one may have fields that we do not know.
        let table: toml::Table = toml::from_str(text).map_err(|error| bad(error.message()))?;
        match table.get("format").and_then(toml::Value::as_integer) {
            Some(format) if format == i64::from(FORMAT) => {}
            Some(format) => {
                return Err(Error::new(
                    Kind::Bundle,
                    format!("{place}: format {format} is from another sampan"),
                )
                .hint(format!(
                    "this one reads format {FORMAT}: use the sampan that wrote it"
                )));
            }
            None => return Err(bad("no format")),
        }
        table
            .try_into()
            .map_err(|error: toml::de::Error| bad(error.message()))
    }

    /// Writes it into the bundle, last of all its files.
    ///
    /// # Errors
    /// The I/O error with the path.
    pub fn write(&self, bundle: &BundleLayout) -> Result<()> {
        let text = toml::to_string(self)
            .map_err(|error| Error::new(Kind::Internal, "bundle.toml cannot be written").because(error))?;
        atomic::write(&bundle.manifest(), 0o644, text.as_bytes())
    }

    /// Sums of all files of a bundle; two files at a time.
    ///
    /// # Errors
    /// The I/O error with the path, or [`Kind::Interrupted`].
    pub fn sums(dir: &Path, cancel: &Cancel, reporter: &dyn Reporter) -> Result<Sums> {
        sums::of_tree(dir, "sealing the bundle", cancel, reporter)
    }

    /// Whether the files look whole: all there, of the right size, and none written to after the manifest was. The last kind is
    /// read and its sum compared. Takes a millisecond where nothing was touched. Returns what is wrong.
    ///
    /// # Errors
    /// The I/O error with the path.
    pub fn damage(&self, bundle: &BundleLayout) -> Result<Option<String>> {
        sums::damage(&bundle.0, &self.files, &bundle.manifest())
    }

    /// Reads every file and compares its sum. Returns what is wrong.
    ///
    /// # Errors
    /// The I/O error with the path.
    pub fn verify(&self, bundle: &BundleLayout, reporter: &dyn Reporter) -> Result<Option<String>> {
        sums::verify(
            &bundle.0,
            &self.files,
            &bundle.manifest(),
            "checking the bundle",
            reporter,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::SystemTime;

    use super::*;
    use crate::progress::Silent;

    fn sealed() -> (tempfile::TempDir, BundleLayout, Manifest) {
        let dir = tempfile::tempdir().unwrap();
        let bundle = BundleLayout(dir.path().join("key"));
        fs::create_dir_all(bundle.0.join("bin")).unwrap();
        fs::write(bundle.disk(), "disk").unwrap();
        fs::write(bundle.kubectl(), "kubectl").unwrap();
        let manifest = Manifest {
            format: FORMAT,
            key: "key".into(),
            arch: "amd64".into(),
            kubernetes: "v1".into(),
            created: "2026-01-01T00:00:00Z".into(),
            toolchain: "go1".into(),
            contract: CONTRACT,
            source: Origin::Upstream,
            base: made_base(),
            components: vec![ComponentRef {
                name: "c".into(),
                version: "v1".into(),
            }],
            images: vec![ImageRef {
                name: "i".into(),
                tag: "t".into(),
                digest: "sha256:0".into(),
                archive: Archive::Addons,
            }],
            files: Manifest::sums(&bundle.0, &Cancel::default(), &Silent).unwrap(),
        };
        manifest.write(&bundle).unwrap();
        (dir, bundle, manifest)
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        let (_dir, bundle, manifest) = sealed();
        assert_eq!(Manifest::read(&bundle).unwrap(), Some(manifest.clone()));
        assert_eq!(
            manifest.files.keys().collect::<Vec<_>>(),
            ["bin/kubectl", "disk.raw"]
        );
        assert_eq!(manifest.damage(&bundle).unwrap(), None);
        assert_eq!(manifest.verify(&bundle, &Silent).unwrap(), None);
    }

    #[test]
    fn an_older_bundle_was_built_here() {
        let (_dir, bundle, _) = sealed();
        let text = fs::read_to_string(bundle.manifest()).unwrap();
        let mut table: toml::Table = toml::from_str(&text).unwrap();
        for key in ["contract", "source", "base"] {
            assert!(table.remove(key).is_some(), "{key}");
        }
        fs::write(bundle.manifest(), toml::to_string(&table).unwrap()).unwrap();
        let manifest = Manifest::read(&bundle).unwrap().unwrap();
        assert_eq!(
            (manifest.contract, manifest.source, manifest.base.as_str()),
            (1, Origin::Build, "debian-trixie")
        );
    }

    #[test]
    fn images_of_an_older_bundle_are_the_nodes() {
        let (_dir, bundle, _) = sealed();
        let text = fs::read_to_string(bundle.manifest()).unwrap();
        let line = "archive = \"addons\"\n";
        assert!(text.contains(line), "{text}");
        fs::write(bundle.manifest(), text.replace(line, "")).unwrap();
        let manifest = Manifest::read(&bundle).unwrap().unwrap();
        assert_eq!(manifest.images[0].archive, Archive::Node);
    }

    #[test]
    fn files_that_are_gone_short_or_changed_are_found() {
        let (_dir, bundle, manifest) = sealed();
        fs::remove_file(bundle.kubectl()).unwrap();
        assert_eq!(
            manifest.damage(&bundle).unwrap().unwrap(),
            "bin/kubectl is missing"
        );
        fs::write(bundle.kubectl(), "kube").unwrap();
        assert_eq!(
            manifest.damage(&bundle).unwrap().unwrap(),
            "bin/kubectl has 4 bytes instead of 7"
        );
        fs::write(bundle.kubectl(), "kubectL").unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(5);
        let touch = |path: &Path| {
            File::options()
                .append(true)
                .open(path)
                .unwrap()
                .set_modified(later)
                .unwrap()
        };
        touch(&bundle.kubectl());
        assert!(
            manifest
                .damage(&bundle)
                .unwrap()
                .unwrap()
                .contains("another content")
        );
        fs::write(bundle.kubectl(), "kubectl").unwrap();
        touch(&bundle.kubectl());
        assert_eq!(manifest.damage(&bundle).unwrap(), None);
    }

    #[test]
    fn a_manifest_of_another_format_or_cut_short_is_refused() {
        let (_dir, bundle, _) = sealed();
        let text = fs::read_to_string(bundle.manifest()).unwrap();
        fs::write(bundle.manifest(), text.replacen("format = 1", "format = 2", 1)).unwrap();
        assert!(
            Manifest::read(&bundle)
                .unwrap_err()
                .to_string()
                .contains("format 2 is from another sampan")
        );
        fs::write(bundle.manifest(), &text[..text.len() / 2]).unwrap();
        assert_eq!(Manifest::read(&bundle).unwrap_err().kind(), Kind::Bundle);
    }
}
