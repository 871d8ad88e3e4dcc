//! What a bundle of a release is made of: addresses, sums, and what goes where. All that there is to know before anything is fetched.

use std::collections::BTreeMap;

use super::super::catalog::Dest;
use super::super::manifest::Archive;
use super::catalog::Catalog;
use super::template::{Values, fill};
use crate::error::{Error, Kind, Result};

/// A MiB in bytes.
const MIB: u64 = 1 << 20;
/// Bytes that a Debian package may have.
const PACKAGE_MOST: u64 = 16 * MIB;

/// All parts of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// The release, with leading "v".
    pub(super) kubernetes: String,
    /// As Go spells it.
    pub(super) arch: String,
    /// What the manifest calls the base.
    pub(super) base_name: String,
    /// The cloud image.
    pub(super) base: Part,
    /// Debian packages for it.
    pub(super) packages: Vec<Part>,
    /// Files with programs.
    pub(super) programs: Vec<Part>,
    /// Container images.
    pub(super) images: Vec<Image>,
}

/// A file that is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) url: String,
    /// Where its sum stands, if anywhere.
    pub(super) published: Option<String>,
    /// Its sha256 in hex, where this sampan knows it.
    pub(super) pinned: Option<String>,
    /// Bytes that it may have.
    pub(super) most: u64,
    /// What it is used for.
    pub(super) takes: Vec<Take>,
    /// The component of ours that it is, for when it cannot be fetched.
    pub(super) component: Option<String>,
    /// A bundle is made without it where it is not to be found.
    pub(super) optional: bool,
}

/// A program of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Take {
    /// Path in the archive; none when the fetched file is the program.
    pub(super) path: Option<String>,
    pub(super) dest: Dest,
    pub(super) name: String,
}

/// A container image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    /// What is pulled.
    pub(super) from: String,
    /// What the node knows it by.
    pub(super) name: String,
    pub(super) tag: String,
    pub(super) archive: Archive,
}

impl Plan {
    /// The plan for a release and an architecture; `places` replace beginnings of addresses.
    ///
    /// # Errors
    /// [`Kind::KubernetesUnsupported`] for a release that there is not; [`Kind::Bundle`] for an architecture without bundles.
    pub(super) fn new(
        catalog: &Catalog,
        kubernetes: &str,
        arch: &str,
        places: &BTreeMap<String, String>,
    ) -> Result<Self> {
        if catalog.release(kubernetes).is_none() {
            return Err(no_release(catalog, kubernetes));
        }
        let values = catalog.values(kubernetes, arch, places).ok_or_else(|| {
            Error::new(
                Kind::Bundle,
                format!("upstream has no bundles for the architecture {arch}"),
            )
            .hint("sampan runs on amd64 and arm64")
        })?;
        let base = &catalog.base;
        let programs = catalog.programs.iter().map(|program| {
            let own = program.dest.map(|dest| Take {
                path: None,
                dest,
                name: program.name.clone(),
            });
            let taken = program.files.iter().map(|file| Take {
                path: Some(file.path.clone()),
                dest: file.dest,
                name: file.name().to_owned(),
            });
            let takes = own.into_iter().chain(taken).collect();
            let published = program.published.as_deref();
            let mut part = part(&values, &program.name, &program.version, &program.url, published)?;
            part.most = program.most * MIB;
            part.takes = takes;
            part.component.clone_from(&program.component);
            part.optional = program.optional;
            Ok(part)
        });
        let mut image_base = part(
            &values,
            &base.name,
            &base.version,
            &base.url,
            Some(&base.published),
        )?;
        image_base.most = base.most * MIB;
        Ok(Self {
            kubernetes: kubernetes.to_owned(),
            arch: arch.to_owned(),
            base_name: base.name.clone(),
            base: image_base,
            packages: packages(catalog, &values, arch)?,
            programs: programs.collect::<Result<_>>()?,
            images: images(catalog, &values)?,
        })
    }

    /// All files.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        let of_base = std::iter::once(&self.base).chain(&self.packages);
        of_base.chain(&self.programs)
    }
}

fn part(values: &Values<'_>, name: &str, version: &str, url: &str, published: Option<&str>) -> Result<Part> {
    // What has no version of its own has that of Kubernetes.
    let of_kubernetes = values.get("kubernetes").copied().unwrap_or_default();
    let version = if version.is_empty() {
        of_kubernetes
    } else {
        version
    };
    let mut values = values.clone();
    values.insert("version", version);
    Ok(Part {
        name: name.to_owned(),
        version: version.to_owned(),
        url: filled(url, &values)?,
        published: published.map(|url| filled(url, &values)).transpose()?,
        pinned: None,
        most: 0,
        takes: Vec::new(),
        component: None,
        optional: false,
    })
}

fn packages(catalog: &Catalog, values: &Values<'_>, arch: &str) -> Result<Vec<Part>> {
    let packages = catalog.packages.iter().map(|package| {
        let url = filled(&package.url, values)?;
        // conntrack_1.4.8-2_amd64.deb
        let version = url.rsplit('/').next().and_then(|file| file.split('_').nth(1));
        let version = version.unwrap_or_default().to_owned();
        Ok(Part {
            name: package.name.clone(),
            version,
            url,
            published: None,
            pinned: package.sha256.get(arch).cloned(),
            most: PACKAGE_MOST,
            takes: Vec::new(),
            component: None,
            optional: false,
        })
    });
    packages.collect()
}

fn images(catalog: &Catalog, values: &Values<'_>) -> Result<Vec<Image>> {
    let images = catalog.images.iter().map(|image| {
        let tag = filled(&image.tag, values)?;
        let own = format!("{}:{tag}", image.name);
        Ok(Image {
            from: image.from.clone().unwrap_or(own),
            name: image.name.clone(),
            tag,
            archive: image.archive,
        })
    });
    images.collect()
}

fn filled(template: &str, values: &Values<'_>) -> Result<String> {
    fill(template, values)
        .map_err(|mistake| Error::new(Kind::Internal, format!("images/upstream.toml: {mistake}")))
}

/// The error of a release that there is not, with those that there are.
pub(super) fn no_release(catalog: &Catalog, kubernetes: &str) -> Error {
    let versions = catalog.versions();
    let (newest, oldest) = (versions.first(), versions.last());
    let (newest, oldest) = (
        newest.map_or("", String::as_str),
        oldest.map_or("", String::as_str),
    );
    Error::new(
        Kind::KubernetesUnsupported,
        format!("upstream's bundles have no Kubernetes {kubernetes}"),
    )
    .hint(format!("this sampan knows releases from {oldest} to {newest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::upstream::tests::own_catalog;

    fn plan(kubernetes: &str, arch: &str) -> Result<Plan> {
        Plan::new(&own_catalog(), kubernetes, arch, &BTreeMap::new())
    }

    /// Everything that is fetched, a line each.
    fn lines(plan: &Plan) -> String {
        let mut text = String::new();
        for part in plan.parts() {
            let published = part
                .published
                .as_deref()
                .or(part.pinned.as_deref())
                .unwrap_or("first use");
            text += &format!("{}\n  {published}\n", part.url);
        }
        for image in &plan.images {
            text += &format!("{} = {}:{}\n", image.from, image.name, image.tag);
        }
        text
    }

    #[test]
    fn addresses_for_amd64() {
        insta::assert_snapshot!(lines(&plan("v1.36.3", "amd64").unwrap()));
    }

    #[test]
    fn addresses_for_arm64() {
        insta::assert_snapshot!(lines(&plan("v1.34.1", "arm64").unwrap()));
    }

    #[test]
    fn a_binary_mirror_replaces_the_release_server_only() {
        let places = BTreeMap::from([("binary-mirror".to_owned(), "http://10.0.0.1/k8s/".to_owned())]);
        let plan = Plan::new(&own_catalog(), "v1.35.4", "arm64", &places).unwrap();
        let of_mirror: Vec<&str> = plan
            .parts()
            .filter(|part| part.url.starts_with("http://10.0.0.1/"))
            .map(|part| part.name.as_str())
            .collect();
        assert_eq!(of_mirror, ["kubelet", "kubeadm", "kubectl"]);
        assert_eq!(
            plan.programs[0].published.as_deref(),
            Some("http://10.0.0.1/k8s/v1.35.4/bin/linux/arm64/kubelet.sha256")
        );
    }

    #[test]
    fn a_release_that_is_not_there_is_told_with_those_that_are() {
        let error = plan("v1.33.9", "amd64").unwrap_err();
        assert_eq!(error.kind(), Kind::KubernetesUnsupported);
        assert!(error.hints()[0].ends_with("from v1.34.0 to v1.36.5"), "{error:?}");
        assert_eq!(plan("v1.36.3", "riscv64").unwrap_err().kind(), Kind::Bundle);
    }

    #[test]
    fn a_node_gets_the_same_programs_and_images_from_both_sources() {
        let built = crate::bundle::catalog().unwrap();
        let plan = plan(&built.bundle.kubernetes, "amd64").unwrap();
        let mut programs: Vec<String> = plan
            .programs
            .iter()
            .flat_map(|part| &part.takes)
            .map(|take| format!("{}/{}", take.dest.folder(), take.name))
            .collect();
        // What upstream has beyond a built bundle.
        programs.retain(|name| {
            !matches!(
                name.as_str(),
                "bin/kubelet" | "bin/kubeadm" | "bin/kubectl" | "bin/cri-dockerd"
            )
        });
        programs.push("bin/kubernetes".into());
        programs.sort();
        let mut of_built: Vec<String> = built
            .programs()
            .filter_map(|(_, program)| Some(format!("{}/{}", program.dest?.folder(), program.name)))
            .collect();
        of_built.sort();
        assert_eq!(programs, of_built);
        let named = |name: &str, tag: &str, archive: Archive| format!("{name}:{tag} {}", archive.file());
        let images: Vec<String> = plan
            .images
            .iter()
            .map(|image| named(&image.name, &image.tag, image.archive))
            .collect();
        let of_built: Vec<String> = built
            .images
            .iter()
            .map(|image| named(&image.name, &image.tag, image.archive))
            .collect();
        assert_eq!(images, of_built);
    }
}
