//! `images/upstream.toml`: where upstream publishes what a node is made of, and which versions there are. Parsed strictly, and
//! checked for all versions and architectures, so that a mistake is found before anything is fetched.

use std::collections::BTreeMap;

use semver::Version;
use serde::Deserialize;

use super::super::catalog::{Dest, bad_name, twice};
use super::super::manifest::Archive;
use super::template::{Values, fill};
use crate::error::{Error, Kind, Result};

/// Architectures that there are bundles for, as Go spells them and as the kernel does.
pub(super) const ARCHES: [(&str, &str); 2] = [("amd64", "x86_64"), ("arm64", "aarch64")];

/// The place that `--binary-mirror` replaces.
pub(super) const BINARY_MIRROR: &str = "binary-mirror";

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Catalog {
    /// Beginnings of addresses, by the names that templates call them.
    pub(super) places: BTreeMap<String, String>,
    /// What the node's disk is made from.
    pub(super) base: Base,
    /// Debian packages that the cloud image lacks.
    #[serde(rename = "package", default)]
    pub(super) packages: Vec<Package>,
    /// Releases of Kubernetes, newest first.
    #[serde(rename = "kubernetes")]
    pub(super) releases: Vec<Releases>,
    /// Files with programs.
    #[serde(rename = "program")]
    pub(super) programs: Vec<Program>,
    /// Container images.
    #[serde(rename = "image")]
    pub(super) images: Vec<Image>,
}

/// The cloud image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Base {
    /// What the manifest calls it.
    pub(super) name: String,
    pub(super) version: String,
    pub(super) url: String,
    pub(super) published: String,
    /// MiB.
    pub(super) most: u64,
}

/// A Debian package.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) url: String,
    /// By architecture, in hex.
    #[serde(default)]
    pub(super) sha256: BTreeMap<String, String>,
}

/// Patch releases of one minor version of Kubernetes that the same images belong to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Releases {
    /// The oldest, with leading "v".
    pub(super) from: String,
    /// The newest.
    pub(super) to: String,
    /// Tags of images.
    pub(super) etcd: String,
    pub(super) coredns: String,
    pub(super) pause: String,
}

/// A file that upstream publishes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Program {
    pub(super) name: String,
    /// Empty for what has the version of Kubernetes.
    #[serde(default)]
    pub(super) version: String,
    pub(super) url: String,
    /// Where its sum stands, if anywhere.
    #[serde(default)]
    pub(super) published: Option<String>,
    /// MiB that it may have.
    pub(super) most: u64,
    /// Where it goes, when it is a program itself.
    #[serde(default)]
    pub(super) dest: Option<Dest>,
    /// What is taken out of it, when it is an archive.
    #[serde(default)]
    pub(super) files: Vec<Taken>,
    /// The component of ours that it is: made here where it cannot be fetched.
    #[serde(default)]
    pub(super) component: Option<String>,
    /// Nodes do without it: a bundle is made without what cannot be found.
    #[serde(default)]
    pub(super) optional: bool,
}

/// A program in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Taken {
    /// Its path there; the last part is its name.
    pub(super) path: String,
    pub(super) dest: Dest,
}

impl Taken {
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// A container image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Image {
    /// What the node knows it by.
    pub(super) name: String,
    pub(super) tag: String,
    /// What is pulled, when that is something else.
    #[serde(default)]
    pub(super) from: Option<String>,
    #[serde(default)]
    pub(super) archive: Archive,
}

impl Releases {
    /// All of them, newest first.
    fn versions(&self) -> Vec<String> {
        let (Some(from), Some(to)) = (parse(&self.from), parse(&self.to)) else {
            return Vec::new();
        };
        let patches = (from.patch..=to.patch).rev();
        patches
            .map(|patch| format!("v{}.{}.{patch}", to.major, to.minor))
            .collect()
    }

    fn has(&self, version: &str) -> bool {
        self.versions().iter().any(|own| own == version)
    }

    fn mistake(&self) -> Option<String> {
        let bad = || Some(format!("{} to {} are no releases", self.from, self.to));
        let (Some(from), Some(to)) = (parse(&self.from), parse(&self.to)) else {
            return bad();
        };
        let plain = from.pre.is_empty() && to.pre.is_empty();
        let fits = (from.major, from.minor) == (to.major, to.minor) && from.patch <= to.patch;
        if plain && fits { None } else { bad() }
    }
}

impl Catalog {
    /// Parses and checks the file; `place` is what messages call it.
    ///
    /// # Errors
    /// [`Kind::Bundle`] with the first mistake.
    pub(super) fn parse(text: &str, place: &str) -> Result<Self> {
        let wrong = |what: &str| Error::new(Kind::Bundle, format!("{place}: {what}"));
        let catalog: Self = toml::from_str(text).map_err(|error| wrong(error.message()).because(error))?;
        match catalog.mistake() {
            Some(mistake) => Err(wrong(&mistake)),
            None => Ok(catalog),
        }
    }

    /// All releases of Kubernetes, newest first.
    pub(super) fn versions(&self) -> Vec<String> {
        self.releases.iter().flat_map(Releases::versions).collect()
    }

    /// What belongs to a release.
    pub(super) fn release(&self, version: &str) -> Option<&Releases> {
        self.releases.iter().find(|releases| releases.has(version))
    }

    /// What templates may name, for a release that there is; `places` replace the file's own.
    pub(super) fn values<'a>(
        &'a self,
        kubernetes: &'a str,
        arch: &'a str,
        places: &'a BTreeMap<String, String>,
    ) -> Option<Values<'a>> {
        let releases = self.release(kubernetes)?;
        let (arch, cpu) = ARCHES.into_iter().find(|(own, _)| *own == arch)?;
        let mut values = Values::from([
            ("kubernetes", kubernetes),
            ("arch", arch),
            ("cpu", cpu),
            ("etcd", &releases.etcd),
            ("coredns", &releases.coredns),
            ("pause", &releases.pause),
        ]);
        for (name, place) in self.places.iter().chain(places) {
            values.insert(name, place.trim_end_matches('/'));
        }
        Some(values)
    }

    fn mistake(&self) -> Option<String> {
        let versions = self.versions();
        let in_order = || {
            let parsed: Vec<_> = versions.iter().filter_map(|version| parse(version)).collect();
            let sorted = parsed.is_sorted_by(|a, b| a > b);
            (!sorted || parsed.is_empty())
                .then(|| "releases of Kubernetes go from the newest down".to_owned())
        };
        let targets = self.programs.iter().flat_map(Program::targets);
        let targets: Vec<String> = targets
            .map(|(dest, name)| format!("{}/{name}", dest.folder()))
            .collect();
        let images: Vec<String> = self.images.iter().map(|image| image.name.clone()).collect();
        let names = || self.programs.iter().map(|program| program.name.as_str());
        self.releases
            .iter()
            .find_map(Releases::mistake)
            .or_else(in_order)
            .or_else(|| bad_name(names(), "program"))
            .or_else(|| {
                bad_name(
                    self.packages.iter().map(|package| package.name.as_str()),
                    "package",
                )
            })
            .or_else(|| self.programs.iter().find_map(Program::mistake))
            .or_else(|| twice(targets.iter().map(String::as_str), "program"))
            .or_else(|| twice(images.iter().map(String::as_str), "image"))
            .or_else(|| self.bad_template(&versions))
    }

    /// The first template that does not come out as an address or a tag.
    fn bad_template(&self, versions: &[String]) -> Option<String> {
        let none = BTreeMap::new();
        for (version, (arch, _)) in versions
            .iter()
            .flat_map(|version| ARCHES.map(|arch| (version, arch)))
        {
            let values = self.values(version, arch, &none)?;
            if let Err(mistake) = self.try_templates(&values) {
                return Some(mistake);
            }
        }
        None
    }

    fn try_templates(&self, values: &Values<'_>) -> Result<(), String> {
        let address = |template: &str, version: &str| {
            let mut values = values.clone();
            values.insert("version", version);
            let url = fill(template, &values)?;
            if url.starts_with("https://") {
                return Ok(());
            }
            Err(format!("{url} does not begin with https://"))
        };
        address(&self.base.url, &self.base.version)?;
        address(&self.base.published, &self.base.version)?;
        for package in &self.packages {
            address(&package.url, "")?;
        }
        for program in &self.programs {
            address(&program.url, &program.version)?;
            if let Some(published) = &program.published {
                address(published, &program.version)?;
            }
        }
        self.images
            .iter()
            .try_for_each(|image| fill(&image.tag, values).map(drop))
    }
}

impl Program {
    /// What of it goes where: folder and name.
    pub(super) fn targets(&self) -> impl Iterator<Item = (Dest, &str)> {
        let own = self.dest.map(|dest| (dest, self.name.as_str()));
        own.into_iter()
            .chain(self.files.iter().map(|file| (file.dest, file.name())))
    }

    fn mistake(&self) -> Option<String> {
        let name = &self.name;
        if self.dest.is_some() != self.files.is_empty() {
            return Some(format!("program {name} needs either dest or files"));
        }
        let outside = |path: &str| path.split('/').any(|part| matches!(part, "" | "." | ".."));
        let outside = self.files.iter().find(|file| outside(&file.path));
        outside.map(|file| format!("program {name}: {} is not a path inside it", file.path))
    }
}

/// A version with leading "v".
pub(super) fn parse(version: &str) -> Option<Version> {
    Version::parse(version.strip_prefix('v')?).ok()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{OWN, own_catalog};
    use super::*;

    #[test]
    fn our_own_catalog_has_what_is_built() {
        let catalog = own_catalog();
        let versions = catalog.versions();
        assert!(versions.contains(&crate::bundle::catalog().unwrap().bundle.kubernetes));
        for minor in ["v1.36.", "v1.35.", "v1.34."] {
            assert!(
                versions.iter().any(|version| version.starts_with(minor)),
                "{minor}"
            );
        }
        // kubeadm asks for these, and the node has nowhere to get others from.
        assert_eq!(catalog.release("v1.34.1").unwrap().etcd, "3.6.4-0");
        assert_eq!(catalog.release("v1.34.2").unwrap().etcd, "3.6.5-0");
        assert_eq!(catalog.release("v1.35.9"), None);
        assert_eq!(catalog.release("v1.36.3-rc.0"), None);
    }

    #[test]
    fn images_of_the_built_release_are_those_that_are_built() {
        let catalog = own_catalog();
        let built = crate::bundle::catalog().unwrap();
        let releases = catalog.release(&built.bundle.kubernetes).unwrap();
        for (name, tag) in [
            ("registry.k8s.io/etcd", &releases.etcd),
            ("registry.k8s.io/coredns/coredns", &releases.coredns),
            ("registry.k8s.io/pause", &releases.pause),
        ] {
            let image = built.images.iter().find(|image| image.name == name).unwrap();
            assert_eq!(image.tag, *tag, "{name}");
        }
    }

    #[test]
    fn packages_are_those_that_the_cloud_image_lacks() {
        let words = |list: &'static str| -> Vec<&'static str> {
            let lines = list.lines().map(|line| line.split('#').next().unwrap().trim());
            lines.filter(|word| !word.is_empty()).collect()
        };
        let catalog = own_catalog();
        // Each image has systemd and what it needs; busybox is in our own initrd only.
        let mut there = vec!["busybox-static", "kmod", "mount", "systemd", "systemd-sysv"];
        there.extend(words(include_str!("../../../tests/cloud/packages")));
        there.extend(catalog.packages.iter().map(|package| package.name.as_str()));
        for wanted in words(include_str!("../../../images/base/packages")) {
            assert!(there.contains(&wanted), "{wanted}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (from, to, expected) in [
            (
                "to = \"v1.36.5\"",
                "to = \"v1.35.5\"",
                "v1.36.0 to v1.35.5 are no releases",
            ),
            (
                "from = \"v1.36.0\"",
                "from = \"1.36.0\"",
                "1.36.0 to v1.36.5 are no releases",
            ),
            (
                "from = \"v1.35.0\"\nto = \"v1.35.8\"",
                "from = \"v1.37.0\"\nto = \"v1.37.8\"",
                "from the newest down",
            ),
            (
                "kubelet\"\npublished",
                "kublet\"\npublishd",
                "unknown field `publishd`",
            ),
            (
                "{binary-mirror}/{kubernetes}/bin/linux/{arch}/kubelet\"",
                "{binary_mirror}/x\"",
                "nothing called binary_mirror",
            ),
            ("tag = \"{etcd}\"", "tag = \"{etcd\"", "nothing closes"),
            (
                "https://download.docker.com",
                "http://download.docker.com",
                "does not begin with https://",
            ),
            (
                "path = \"docker/dockerd\"",
                "path = \"../dockerd\"",
                "../dockerd is not a path inside it",
            ),
            (
                "path = \"docker/docker-proxy\"",
                "path = \"docker/dockerd\"",
                "program bin/dockerd is there twice",
            ),
            (
                "name = \"runc\"",
                "name = \"kubelet\"",
                "program kubelet is there twice",
            ),
            (
                "name = \"runc\"",
                "name = \"../runc\"",
                "is no name for a program",
            ),
            (
                "component = \"image-mirror\"",
                "files = [{ path = \"x\", dest = \"bin\" }]",
                "needs either dest or files",
            ),
            (
                "name = \"registry.k8s.io/pause\"",
                "name = \"registry.k8s.io/etcd\"",
                "image registry.k8s.io/etcd is there twice",
            ),
        ] {
            assert!(OWN.contains(from), "{from}");
            let error = Catalog::parse(&OWN.replacen(from, to, 1), "own").unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
