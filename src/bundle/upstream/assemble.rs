//! From a plan to a bundle: fetches all parts, takes the programs out of them, and puts them together as a build does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sampan_driver::Host;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::catalog::Dest;
use super::super::components::{self, Place, Toolchain};
use super::super::manifest::{Archive, CONTRACT, ComponentRef, FORMAT, ImageRef, Manifest, Origin};
use super::super::parts::{self, Part as Placed};
use super::super::{cached, cloud, tools, tree};
use super::lock::BundleLock;
use super::plan::{Part, Plan};
use super::{Options, extract};
use crate::error::{Error, Kind, Result};
use crate::fetch::{Expect, Fetched, Fetcher, Object};
use crate::layout::{BundleLayout, Layout};
use crate::progress::{Cancel, Reporter};
use crate::registry::{self, Puller};
use crate::store::{atomic, hash};

/// What calls Kubernetes' programs by the names that a built bundle has links of.
const DISPATCHER: &str = "upstream/kubernetes";

/// The programs of Kubernetes: one component in a manifest, as in a built bundle.
const OF_KUBERNETES: [&str; 3] = ["kubelet", "kubeadm", "kubectl"];

/// A bundle under construction.
pub(super) struct Assembly<'a> {
    pub(super) layout: &'a Layout,
    pub(super) key: &'a str,
    pub(super) plan: &'a Plan,
    pub(super) options: &'a Options,
    pub(super) reporter: &'a dyn Reporter,
    pub(super) cancel: &'a Cancel,
}

/// A part that is here.
struct Here<'a> {
    part: &'a Part,
    path: PathBuf,
}

impl Assembly<'_> {
    /// Makes the bundle at its place.
    pub(super) fn run(&self) -> Result<()> {
        tools::check_for_fetch()?;
        let mut lock = BundleLock::new(self.plan);
        let here = self.files(&mut lock)?;
        let pulled = self.images(&mut lock)?;
        self.tell_first_use(&lock);

        // What leads to the parts disk is beside the bundle: on the same, large enough file system.
        let staging = atomic::Dir::begin(&self.layout.bundles().join(format!(".parts-{}", self.key)))?;
        let mut placed = self.archives(&pulled, staging.path())?;
        placed.extend(self.programs(&here, staging.path())?);
        placed.extend(self.packages(&here));
        let dir = atomic::Dir::begin(&self.layout.bundles().join(self.key))?;
        let bundle = BundleLayout(dir.path().to_owned());
        self.reporter.detail("making the parts disk");
        parts::make(&bundle.parts(), placed)?;
        self.cancel.check()?;
        let image = path_of(&here, &self.plan.base.name)?;
        cloud::place(image, &bundle, self.reporter, self.cancel)?;
        atomic::make_dir(&bundle.0.join("bin"))?;
        let kubectl = path_of(&here, "kubectl")?;
        fs::copy(kubectl, bundle.kubectl()).map_err(Error::io(&bundle.kubectl()))?;
        // Machines only read them: whoever would write to them is told so by the system.
        for (path, mode) in [
            (bundle.parts(), 0o444),
            (bundle.disk(), 0o444),
            (bundle.kubectl(), 0o555),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(Error::io(&path))?;
        }
        tree::write_addons(&bundle.addons())?;
        lock.write(&bundle)?;
        let manifest = self.manifest(&lock, Manifest::sums(&bundle.0, self.cancel, self.reporter)?);
        self.reporter.detail("writing the bundle to the disk");
        manifest.write(&bundle)?;
        dir.commit()
    }

    /// Fetches all files, and makes those of ours that nobody publishes.
    fn files(&self, lock: &mut BundleLock) -> Result<Vec<Here<'_>>> {
        let is_built = |part: &&Part| part.component.is_some() && self.options.fetch.mirror.is_none();
        let (built, fetched): (Vec<&Part>, Vec<&Part>) = self.plan.parts().partition(is_built);
        let (optional, needed): (Vec<&Part>, Vec<&Part>) =
            fetched.into_iter().partition(|part| part.optional);
        let objects: Vec<Object> = needed.iter().map(|part| object(part)).collect();
        let fetcher = Fetcher::new(&self.layout.downloads(), self.options.fetch.clone())?;
        let results: Vec<Fetched> = fetcher.fetch(&objects, self.reporter, self.cancel)?;
        let mut fetched: Vec<(&Part, Fetched)> = needed.into_iter().zip(results).collect();
        for part in optional {
            let result = fetcher.fetch(&[object(part)], self.reporter, self.cancel);
            fetched.extend(
                self.if_there(part, result)?
                    .into_iter()
                    .map(|result| (part, result)),
            );
        }
        let mut here = Vec::new();
        for (part, result) in fetched {
            lock.add(part, &result);
            here.push(Here {
                part,
                path: result.path,
            });
        }
        for part in built {
            let path = self.build(part)?;
            let size = path.metadata().map_err(Error::io(&path))?.len();
            lock.add_built(part, size, hash::file(&path, &mut |_| ())?);
            here.push(Here { part, path });
        }
        Ok(here)
    }

    /// What came of a part that nodes do without: nothing, and a word about it, where there is no such file.
    fn if_there(&self, part: &Part, result: Result<Vec<Fetched>>) -> Result<Option<Fetched>> {
        match result {
            Err(error) if error.kind() == Kind::Missing => {
                let (name, version) = (&part.name, &part.version);
                self.reporter
                    .info(&format!("the bundle is made without {name} {version}: {error}"));
                Ok(None)
            }
            result => Ok(result?.pop()),
        }
    }

    /// Compiles a component of ours, unless it is in the build cache.
    fn build(&self, part: &Part) -> Result<PathBuf> {
        let name = part.component.as_deref().unwrap_or(&part.name);
        tools::check_for_component(name)?;
        let catalog = super::super::catalog()?;
        let component = catalog.components.iter().find(|component| component.name == name);
        let component = component.ok_or_else(|| {
            Error::new(
                Kind::Internal,
                format!("images/upstream.toml: there is no component {name}"),
            )
        })?;
        self.reporter.detail(&format!("compiling {name}"));
        let build = self.layout.build();
        atomic::make_dir(&build)?;
        let unpacked = tree::unpack(&build)?;
        let place = Place {
            build: &build,
            tree: &unpacked,
            cancel: self.cancel,
            stop: &Cancel::default(),
        };
        let target = components::dir(
            &place,
            component,
            &Toolchain::ask_go(&unpacked.join(&component.dir))?,
        );
        if !cached::is_whole(&target) {
            components::build(&place, component, &target)?;
        }
        Ok(target.join(&part.name))
    }

    /// Pulls all images, under the names that the node knows them by.
    fn images(&self, lock: &mut BundleLock) -> Result<Vec<(Archive, registry::Pulled)>> {
        let credentials = |registry: &str| match &self.options.docker_config {
            Some(dir) => crate::images::login_to(dir, registry, &Host),
            None => Ok(None),
        };
        let store = self.layout.downloads().join("sha256");
        let puller = Puller::new(&self.options.fetch, &credentials, &store)?
            .insecure(&self.options.insecure_registries);
        let mut all = Vec::new();
        for image in &self.plan.images {
            let from = in_repository(&image.from, &self.options.image_repository);
            let mut pulled = puller.pull(&from, &self.plan.arch, self.reporter, self.cancel)?;
            pulled.name = format!("{}:{}", image.name, image.tag);
            lock.add_image(image, &from, &pulled);
            all.push((image.archive, pulled));
        }
        Ok(all)
    }

    fn tell_first_use(&self, lock: &BundleLock) {
        let names = lock.on_first_use();
        if !names.is_empty() {
            self.reporter.info(&format!(
                "no checksum is published of {}: taken as it came, and remembered",
                names.join(", ")
            ));
        }
    }

    /// The archives of images, as files of the parts disk.
    fn archives(&self, pulled: &[(Archive, registry::Pulled)], staging: &Path) -> Result<Vec<Placed>> {
        self.reporter.detail("writing the container images");
        let mut placed = Vec::new();
        for archive in Archive::ALL {
            let of_it = pulled.iter().filter(|(own, _)| *own == archive);
            let images: Vec<registry::Pulled> = of_it.map(|(_, pulled)| pulled.clone()).collect();
            let path = staging.join(archive.file());
            registry::write_archive(&images, &path, self.cancel)?;
            placed.push(Placed {
                folder: "images".into(),
                name: archive.file().into(),
                from: path,
                executable: false,
            });
        }
        Ok(placed)
    }

    /// The node's programs, as files of the parts disk.
    fn programs(&self, here: &[Here<'_>], staging: &Path) -> Result<Vec<Placed>> {
        let program = |dest: Dest, name: &str, from: PathBuf| Placed {
            folder: dest.folder().to_owned(),
            name: name.to_owned(),
            from,
            executable: true,
        };
        let mut placed = Vec::new();
        for Here { part, path } in here {
            let mut wanted = Vec::new();
            for take in &part.takes {
                let from = match &take.path {
                    None => path.clone(),
                    Some(inside) => {
                        let to = staging.join(format!("{}-{}", part.name, take.name));
                        wanted.push((inside.as_str(), to.clone()));
                        to
                    }
                };
                placed.push(program(take.dest, &take.name, from));
            }
            if !wanted.is_empty() {
                let name = format!("{} {} from {}", part.name, part.version, part.url);
                self.reporter
                    .detail(&format!("unpacking {} {}", part.name, part.version));
                extract::extract(path, &name, part.most, &wanted, self.cancel)?;
            }
        }
        let dispatcher = staging.join("kubernetes");
        let script = tree::upstream_file(DISPATCHER)
            .ok_or_else(|| Error::new(Kind::Internal, format!("no {DISPATCHER} in this build of sampan")))?;
        atomic::write(&dispatcher, 0o755, script.as_bytes())?;
        placed.push(program(Dest::Bin, "kubernetes", dispatcher));
        Ok(placed)
    }

    /// The packages that the cloud image lacks, as files of the parts disk.
    fn packages(&self, here: &[Here<'_>]) -> Vec<Placed> {
        let of_base = |part: &Part| self.plan.packages.contains(part);
        let packages = here.iter().filter(|here| of_base(here.part));
        let placed = packages.map(|Here { part, path }| Placed {
            folder: cloud::DEBS.to_owned(),
            name: part.url.rsplit('/').next().unwrap_or(&part.name).to_owned(),
            from: path.clone(),
            executable: false,
        });
        placed.collect()
    }

    fn manifest(&self, lock: &BundleLock, files: crate::store::sums::Sums) -> Manifest {
        let images = self.plan.images.iter().zip(&lock.images);
        let images = images.map(|(image, locked)| ImageRef {
            name: image.name.clone(),
            tag: image.tag.clone(),
            digest: locked.digest.clone(),
            archive: image.archive,
        });
        Manifest {
            format: FORMAT,
            key: self.key.to_owned(),
            arch: self.plan.arch.clone(),
            kubernetes: self.plan.kubernetes.clone(),
            created: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
            toolchain: String::new(),
            contract: CONTRACT,
            source: Origin::Upstream,
            base: self.plan.base_name.clone(),
            components: component_refs(self.plan, lock),
            images: images.collect(),
            files,
        }
    }
}

/// An image's place in a repository that has all of them side by side.
fn in_repository(image: &str, repository: &str) -> String {
    match image.rsplit('/').next() {
        Some(last) if !repository.is_empty() => format!("{}/{last}", repository.trim_end_matches('/')),
        _ => image.to_owned(),
    }
}

fn object(part: &Part) -> Object {
    let expect = match (&part.pinned, &part.published) {
        (Some(sum), _) => Expect::Sha256(sum.clone()),
        (None, Some(url)) => Expect::Published { url: url.clone() },
        (None, None) => Expect::FirstUse,
    };
    Object {
        name: format!("{} {}", part.name, part.version),
        url: part.url.clone(),
        expect,
        most: Some(part.most),
    }
}

fn path_of<'a>(here: &'a [Here<'_>], name: &str) -> Result<&'a Path> {
    let found = here.iter().find(|here| here.part.name == name);
    found
        .map(|here| here.path.as_path())
        .ok_or_else(|| Error::new(Kind::Internal, format!("images/upstream.toml has no {name}")))
}

/// Names and versions as a built bundle has them: with a letter before the numbers.
fn component_refs(plan: &Plan, lock: &BundleLock) -> Vec<ComponentRef> {
    let of_kubernetes = |part: &&Part| OF_KUBERNETES.contains(&part.name.as_str());
    let version = |version: &str| format!("v{}", version.trim_start_matches('v'));
    let kubernetes = ComponentRef {
        name: "kubernetes".into(),
        version: plan.kubernetes.clone(),
    };
    let base = ComponentRef {
        name: plan.base_name.clone(),
        version: plan.base.version.clone(),
    };
    let is_there = |part: &&Part| lock.objects.iter().any(|object| object.name == part.name);
    let others = plan.programs.iter();
    let others = others.filter(|part| !of_kubernetes(part) && is_there(part));
    let others = others.map(|part| ComponentRef {
        name: part.name.clone(),
        version: version(&part.version),
    });
    [kubernetes].into_iter().chain(others).chain([base]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_has_images_by_the_last_part_of_their_names() {
        let image = "registry.k8s.io/coredns/coredns:v1.14.2";
        assert_eq!(
            in_repository(image, "r.example:5000/k8s/"),
            "r.example:5000/k8s/coredns:v1.14.2"
        );
        assert_eq!(in_repository(image, ""), image);
        let catalog = super::super::tests::own_catalog();
        let froms = catalog
            .images
            .iter()
            .map(|image| image.from.as_deref().unwrap_or(&image.name));
        let mut names: Vec<String> = froms.map(|from| in_repository(from, "r.example")).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all, "two images have one place in a repository");
    }
}
