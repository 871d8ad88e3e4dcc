//! `images/catalog.toml`: what a node is made of. Parsed strictly and checked, so that a mistake is found before anything is built.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::manifest::Archive;
use super::wheels::Wheel;
use crate::error::{Error, Kind, Result};

/// The whole catalog.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    /// What the bundle is as a whole.
    pub bundle: Head,
    /// Programs made from Go modules.
    #[serde(rename = "component")]
    pub components: Vec<Component>,
    /// Programs out of wheels of the Python Package Index.
    #[serde(rename = "wheel", default)]
    pub wheels: Vec<Wheel>,
    /// Layers of container images.
    #[serde(rename = "layer")]
    pub layers: Vec<Layer>,
    /// Container images.
    #[serde(rename = "image")]
    pub images: Vec<Image>,
}

/// What the bundle is as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Kubernetes version with leading "v".
    pub kubernetes: String,
    /// Name of the base system.
    pub base: String,
}

/// A Go module of ours that pins an upstream module, and the programs made in it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// Our name for it.
    pub name: String,
    /// Upstream's module path.
    pub module: String,
    /// Upstream's version.
    pub version: String,
    /// Its directory in the images tree.
    pub dir: String,
    /// Modules of ours that it takes from beside itself: directories in the images tree.
    #[serde(default)]
    pub uses: Vec<String>,
    /// Whether it needs a C compiler.
    pub cgo: bool,
    /// Build tags.
    pub tags: Vec<String>,
    /// Linker flags, as `go build -ldflags` takes them.
    pub ldflags: String,
    /// What is built.
    pub programs: Vec<Program>,
}

/// One program of a component.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Go package, "." for the module's own.
    pub package: String,
    /// File name; unique in the catalog.
    pub name: String,
    /// Where the node finds it; none when it is only part of images.
    #[serde(default)]
    pub dest: Option<Dest>,
}

/// A folder of the parts disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dest {
    /// Programs of the node.
    Bin,
    /// Network plugins.
    Cni,
}

impl Dest {
    /// The folder's name.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Bin => "bin",
            Self::Cni => "cni",
        }
    }
}

/// A layer: programs and links, or what a script leaves in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// Our name for it.
    pub name: String,
    /// Programs in it.
    #[serde(default)]
    pub files: Vec<LayerFile>,
    /// Symbolic links in it.
    #[serde(default)]
    pub links: Vec<LayerLink>,
    /// A script of the images tree that makes it: `sh SCRIPT ROOTFS_TAR OUTDIR`.
    #[serde(default)]
    pub script: Option<String>,
}

/// A program in a layer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerFile {
    /// Name of a program of some component or wheel.
    pub program: String,
    /// Absolute path in the image.
    pub path: String,
}

/// A symbolic link in a layer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerLink {
    /// Absolute path in the image.
    pub path: String,
    /// What it points to.
    pub target: String,
}

/// A container image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Full name with registry, without tag.
    pub name: String,
    /// Tag.
    pub tag: String,
    /// Where on the parts disk it is.
    #[serde(default)]
    pub archive: Archive,
    /// Names of layers, from the bottom up.
    pub layers: Vec<String>,
    /// The command.
    pub entrypoint: Vec<String>,
    /// `NAME=VALUE`.
    #[serde(default)]
    pub env: Vec<String>,
    /// `uid:gid`; empty for root.
    #[serde(default)]
    pub user: String,
    /// Working directory.
    #[serde(default)]
    pub workdir: String,
}

impl Catalog {
    /// Parses and checks a catalog.
    ///
    /// # Errors
    /// [`Kind::Bundle`] with the first mistake.
    pub fn parse(text: &str) -> Result<Self> {
        let catalog: Self = toml::from_str(text).map_err(|error| {
            Error::new(Kind::Bundle, format!("images/catalog.toml: {}", error.message())).because(error)
        })?;
        match catalog.mistake() {
            Some(mistake) => Err(Error::new(
                Kind::Bundle,
                format!("images/catalog.toml: {mistake}"),
            )),
            None => Ok(catalog),
        }
    }

    /// Names of all programs that a layer may have.
    fn program_names(&self) -> impl Iterator<Item = &str> + Clone {
        let of_wheels = self.wheels.iter().flat_map(|wheel| &wheel.programs);
        let of_components = self.programs().map(|(_, program)| program.name.as_str());
        of_components.chain(of_wheels.map(|program| program.name.as_str()))
    }

    /// All programs of components.
    pub fn programs(&self) -> impl Iterator<Item = (&Component, &Program)> + Clone {
        let components = self.components.iter();
        components.flat_map(|component| component.programs.iter().map(move |program| (component, program)))
    }

    fn mistake(&self) -> Option<String> {
        let components = || {
            let wheels = self.wheels.iter().map(|wheel| wheel.name.as_str());
            let components = self.components.iter().map(|component| component.name.as_str());
            components.chain(wheels)
        };
        let layers = || self.layers.iter().map(|layer| layer.name.as_str());
        let images: Vec<String> = self
            .images
            .iter()
            .map(|image| format!("{}:{}", image.name, image.tag))
            .collect();
        bad_name(components(), "component")
            .or_else(|| bad_name(self.program_names(), "program"))
            .or_else(|| bad_name(layers(), "layer"))
            .or_else(|| twice(images.iter().map(String::as_str), "image"))
            .or_else(|| self.wheels.iter().find_map(Wheel::mistake))
            .or_else(|| self.layers.iter().find_map(|layer| self.layer_mistake(layer)))
            .or_else(|| self.images.iter().find_map(|image| self.image_mistake(image)))
            .or_else(|| {
                let kubernetes = self
                    .components
                    .iter()
                    .find(|component| component.name == "kubernetes")?;
                (kubernetes.version != self.bundle.kubernetes).then(|| {
                    format!(
                        "kubernetes is {} and {} at once",
                        self.bundle.kubernetes, kubernetes.version
                    )
                })
            })
    }

    fn layer_mistake(&self, layer: &Layer) -> Option<String> {
        let name = &layer.name;
        let by_hand = !(layer.files.is_empty() && layer.links.is_empty());
        if by_hand == layer.script.is_some() {
            return Some(format!("layer {name} needs either files and links or a script"));
        }
        let unknown = |file: &&LayerFile| !self.program_names().any(|name| name == file.program);
        if let Some(file) = layer.files.iter().find(unknown) {
            return Some(format!(
                "layer {name} has a program that no component makes: {}",
                file.program
            ));
        }
        let mut paths = layer
            .files
            .iter()
            .map(|file| &file.path)
            .chain(layer.links.iter().map(|link| &link.path));
        paths
            .find(|path| !path.starts_with('/') || path.split('/').any(|part| part == ".."))
            .map(|path| format!("layer {name}: {path} is not an absolute path"))
    }

    fn image_mistake(&self, image: &Image) -> Option<String> {
        let unknown = |name: &&String| !self.layers.iter().any(|layer| layer.name == **name);
        image
            .layers
            .iter()
            .find(unknown)
            .map(|name| format!("image {} has an unknown layer: {name}", image.name))
    }
}

/// Names become file names: letters, digits, '-', '_' and '.', not at the beginning; each once.
pub(super) fn bad_name<'a>(names: impl Iterator<Item = &'a str> + Clone, what: &str) -> Option<String> {
    let good = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let bad = names
        .clone()
        .find(|name| !good(name))
        .map(|name| format!("\"{name}\" is no name for a {what}"));
    bad.or_else(|| twice(names, what))
}

pub(super) fn twice<'a>(names: impl Iterator<Item = &'a str>, what: &str) -> Option<String> {
    let mut seen = BTreeSet::new();
    names
        .into_iter()
        .find(|name| !seen.insert(*name))
        .map(|name| format!("{what} {name} is there twice"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[bundle]
kubernetes = "v1"
base = "b"
[[component]]
name = "kubernetes"
module = "m"
version = "v1"
dir = "components/kubernetes"
cgo = false
tags = []
ldflags = ""
programs = [{ package = ".", name = "kubernetes", dest = "bin" }]
[[wheel]]
name = "w"
package = "p"
version = "1"
files = [{ arch = "amd64", platform = "linux", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }]
programs = [{ path = "p/w", name = "w" }]
[[layer]]
name = "l"
files = [{ program = "kubernetes", path = "/bin/k" }, { program = "w", path = "/bin/w" }]
[[image]]
name = "i"
tag = "t"
archive = "addons"
layers = ["l"]
entrypoint = ["/bin/k"]
"#;

    #[test]
    fn our_own_catalog_is_right() {
        let catalog = super::super::tree::catalog().unwrap();
        assert!(catalog.programs().any(|(_, program)| program.name == "runc"));
        let envoy = catalog.wheels.iter().find(|wheel| wheel.name == "envoy").unwrap();
        for arch in ["amd64", "arm64"] {
            assert!(envoy.file(arch).is_some(), "{arch}");
        }
        assert!(
            catalog
                .images
                .iter()
                .any(|image| image.name.ends_with("/kube-proxy"))
        );
    }

    #[test]
    fn mistakes_are_named() {
        assert!(Catalog::parse(GOOD).is_ok());
        for (from, to, expected) in [
            (
                "program = \"kubernetes\"",
                "program = \"kubelet\"",
                "no component makes: kubelet",
            ),
            ("layers = [\"l\"]", "layers = [\"m\"]", "unknown layer: m"),
            ("path = \"/bin/k\"", "path = \"/../k\"", "is not an absolute path"),
            ("name = \"l\"", "name = \"../l\"", "is no name for a layer"),
            (
                "kubernetes = \"v1\"",
                "kubernetes = \"v2\"",
                "kubernetes is v2 and v1 at once",
            ),
            ("cgo = false", "cgo = false\ncolour = 1", "unknown field `colour`"),
            (
                "[[image]]",
                "[[layer]]\nname = \"l\"\nscript = \"s\"\n[[image]]",
                "layer l is there twice",
            ),
            (
                "[[image]]",
                "[[layer]]\nname = \"n\"\n[[image]]",
                "layer n needs either",
            ),
            (
                "name = \"w\"\np",
                "name = \"kubernetes\"\np",
                "component kubernetes is there twice",
            ),
            (
                "name = \"w\" }",
                "name = \"kubernetes\" }",
                "program kubernetes is there twice",
            ),
            ("sha256 = \"00", "sha256 = \"0g", "is no sha256 sum"),
            (
                "path = \"p/w\"",
                "path = \"../w\"",
                "../w is not a path inside it",
            ),
            (
                "programs = [{ path = \"p/w\", name = \"w\" }]",
                "programs = []",
                "wheel w needs files and programs",
            ),
            (
                "archive = \"addons\"",
                "archive = \"other\"",
                "unknown variant `other`",
            ),
        ] {
            assert!(GOOD.contains(from));
            let error = Catalog::parse(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
