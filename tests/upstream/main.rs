//! `bundle fetch` from end to end, as users run it: what comes of a mirror of upstream, and what happens when something in it is wrong.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod mirror;
mod places;
mod sources;
mod stand_ins;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use mirror::{CRI_DOCKERD, Mirror};
use sampan::bundle::upstream::{BundleLock, LockedTrust};
use sampan::bundle::{Archive, Manifest, Origin};
use sampan::layout::{BundleLayout, Layout};
use sampan_test_support::upstream::{Plan, Upstream};
use stand_ins::StandIns;
use tempfile::TempDir;

/// A world of its own with a mirror in it.
struct World {
    dir: TempDir,
    mirror: Mirror,
}

impl World {
    fn new(release: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let mirror = Mirror::with(&dir.path().join("mirror"), release, &StandIns);
        fs::write(dir.path().join("upstream.toml"), mirror::catalog(&StandIns)).unwrap();
        Self { dir, mirror }
    }

    fn layout(&self) -> Layout {
        Layout::under(&self.dir.path().join("home"))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sampan"));
        command
            .args(words)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("SAMPAN_HOME", self.dir.path().join("home"))
            .env("SAMPAN_UPSTREAM_CATALOG", self.dir.path().join("upstream.toml"))
            .stdin(Stdio::null());
        command
    }

    /// `bundle fetch` from the mirror, with more words.
    fn fetch(&self, more: &[&str]) -> Output {
        self.fetch_from(self.mirror.0.to_str().unwrap(), more)
    }

    fn fetch_from(&self, source: &str, more: &[&str]) -> Output {
        let words = ["bundle", "fetch", "--source", source];
        self.command(&words).args(more).output().unwrap()
    }

    /// Fetches what must come, and gives the bundle.
    fn bundle(&self, more: &[&str]) -> (BundleLayout, Manifest) {
        let output = self.fetch(more);
        assert!(output.status.success(), "{}", seen(&output));
        let path = String::from_utf8(output.stdout).unwrap();
        // Behind what was told on the way.
        let bundle = BundleLayout(PathBuf::from(path.lines().last().unwrap()));
        let manifest = Manifest::read(&bundle).unwrap().unwrap();
        (bundle, manifest)
    }

    /// Fetches what must not come: the exit status and what was said. Nothing is left among the bundles.
    fn failure(&self, more: &[&str]) -> (i32, String) {
        let output = self.fetch(more);
        let left: Vec<_> = fs::read_dir(self.layout().bundles())
            .map(|entries| entries.map(|entry| entry.unwrap().file_name()).collect())
            .unwrap_or_default();
        assert!(left.is_empty(), "{left:?}");
        (output.status.code().unwrap(), seen(&output))
    }
}

fn seen(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Asks about an ext4 image.
fn debugfs(image: &Path, question: &str) -> Vec<u8> {
    let output = Command::new("sh")
        .args([
            "-c",
            "PATH=\"$PATH:/usr/sbin:/sbin\"; exec debugfs -R \"$1\" \"$0\"",
        ])
        .arg(image)
        .arg(question)
        .output()
        .unwrap();
    output.stdout
}

/// Names in a folder of it.
fn names(image: &Path, folder: &str) -> BTreeSet<String> {
    let list = String::from_utf8(debugfs(image, &format!("ls -p /{folder}"))).unwrap();
    let names = list.lines().filter_map(|line| line.split('/').nth(5));
    names
        .filter(|name| !matches!(*name, "" | "." | ".."))
        .map(str::to_owned)
        .collect()
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[test]
fn a_bundle_of_upstreams_releases_is_what_a_build_makes() {
    let world = World::new("v1.36.3");
    let (bundle, manifest) = world.bundle(&[]);
    let parts = bundle.parts();
    assert_eq!(
        names(&parts, "bin"),
        set([
            "kubelet",
            "kubeadm",
            "kubectl",
            "kubernetes",
            "containerd",
            "containerd-shim-runc-v2",
            "ctr",
            "runc",
            "dockerd",
            "docker-proxy",
            "cri-dockerd",
            "image-mirror",
        ])
    );
    assert_eq!(
        names(&parts, "cni"),
        set(["bridge", "loopback", "host-local", "portmap", "firewall"])
    );
    assert_eq!(names(&parts, "images"), set(["node.tar", "addons.tar"]));
    for (path, content) in [
        ("bin/kubelet", "kubelet"),
        ("bin/ctr", "bin/ctr"),
        ("bin/dockerd", "docker/dockerd"),
        ("cni/bridge", "bridge"),
    ] {
        assert_eq!(
            debugfs(&parts, &format!("cat /{path}")),
            content.as_bytes(),
            "{path}"
        );
        let stat = String::from_utf8(debugfs(&parts, &format!("stat /{path}"))).unwrap();
        assert!(stat.contains("Mode:  0755"), "{stat}");
    }
    let disk = fs::read(bundle.disk()).unwrap();
    assert!(disk.len() == 8 << 20 && disk[1 << 20..].starts_with(b"the cloud image's root"));
    let packages = mirror::packages();
    let debs = packages
        .iter()
        .map(|path| path.rsplit('/').next().unwrap().to_owned());
    assert_eq!(names(&parts, "debs"), debs.collect());
    assert_eq!(fs::read_to_string(bundle.kubectl()).unwrap(), "kubectl");
    assert!(bundle.addons().join("ingress/addon.toml").is_file());

    assert_eq!(manifest.source, Origin::Upstream);
    assert_eq!(
        (manifest.base.as_str(), manifest.kubernetes.as_str()),
        ("debian-cloud", "v1.36.3")
    );
    assert!(manifest.files.contains_key("bundle.lock"));
    // To the cluster the images have the names of a built bundle.
    let built = sampan::bundle::catalog().unwrap();
    let named = |name: &str, tag: &str, archive: Archive| (name.to_owned(), tag.to_owned(), archive);
    let of_built: Vec<_> = built
        .images
        .iter()
        .map(|image| named(&image.name, &image.tag, image.archive))
        .collect();
    let of_it: Vec<_> = manifest
        .images
        .iter()
        .map(|image| named(&image.name, &image.tag, image.archive))
        .collect();
    assert_eq!(of_it, of_built);
    let node = debugfs(&parts, "cat /images/node.tar");
    let index = entry(&node, "index.json");
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let names: Vec<&str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| entry["annotations"]["io.containerd.image.name"].as_str())
        .collect();
    assert!(
        names.contains(&"sampan.local/helper:v1") && names.contains(&"registry.k8s.io/etcd:3.6.8-0"),
        "{names:?}"
    );
    assert!(!names.iter().any(|name| name.contains("contour")), "{names:?}");
    let lines = fs::read_to_string(bundle.manifest()).unwrap();
    assert!(lines.contains("source = \"upstream\""), "{lines}");
}

/// A file of a tar archive.
fn entry(archive: &[u8], name: &str) -> Vec<u8> {
    let mut archive = tar::Archive::new(archive);
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let mut found = entries
        .find(|entry| entry.path().unwrap() == Path::new(name))
        .unwrap();
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut found, &mut content).unwrap();
    content
}

#[test]
fn the_lock_says_what_came_from_where() {
    let world = World::new("v1.36.3");
    let (bundle, manifest) = world.bundle(&[]);
    let lock = BundleLock::read(&bundle).unwrap().unwrap();
    let trust = |name: &str| {
        let found = lock.objects.iter().find(|object| object.name == name);
        let found = found.unwrap_or_else(|| panic!("no {name} in {lock:?}"));
        assert!(found.size > 0 && found.sha256.len() == 64, "{found:?}");
        (found.version.as_str(), found.trust)
    };
    assert_eq!(trust("debian-cloud"), ("20261001-2618", LockedTrust::Published));
    assert_eq!(trust("kubelet"), ("v1.36.3", LockedTrust::Published));
    assert_eq!(trust("containerd"), ("2.4.1", LockedTrust::Published));
    assert_eq!(trust("runc"), ("1.5.2", LockedTrust::Published));
    assert_eq!(trust("cni-plugins"), ("1.9.1", LockedTrust::Published));
    assert_eq!(trust("docker"), ("29.8.1", LockedTrust::FirstUse));
    assert_eq!(trust("cri-dockerd"), ("0.4.10", LockedTrust::FirstUse));
    assert_eq!(trust("nftables"), ("1.1.3-1", LockedTrust::Pinned));
    assert_eq!(lock.objects.len(), 10 + mirror::packages().len());
    assert!(
        lock.objects
            .iter()
            .all(|object| object.url.starts_with("https://"))
    );
    let digests: Vec<_> = lock.images.iter().map(|image| &image.digest).collect();
    assert_eq!(
        digests,
        manifest
            .images
            .iter()
            .map(|image| &image.digest)
            .collect::<Vec<_>>()
    );
    let helper = lock
        .images
        .iter()
        .find(|image| image.name == "sampan.local/helper")
        .unwrap();
    assert_eq!(helper.from, "docker.io/library/busybox:1.37.0");
    assert!(helper.index.is_some());
    // What nobody vouches for is told.
    let removed = world
        .command(&["bundle", "remove", &manifest.key])
        .output()
        .unwrap();
    assert!(removed.status.success(), "{}", seen(&removed));
    let said = seen(&world.fetch(&[]));
    assert!(
        said.contains("no checksum is published of docker 29.8.1, cri-dockerd 0.4.10"),
        "{said}"
    );
}

#[test]
fn another_release_is_another_bundle_with_its_own_images() {
    let world = World::new("v1.34.1");
    let (_, manifest) = world.bundle(&["--kubernetes-version", "1.34.1"]);
    assert_eq!(manifest.kubernetes, "v1.34.1");
    let etcd = manifest
        .images
        .iter()
        .find(|image| image.name == "registry.k8s.io/etcd")
        .unwrap();
    assert_eq!(etcd.tag, "3.6.4-0");
    let (status, said) = {
        let output = world.fetch(&["--kubernetes-version", "v1.30.2"]);
        (output.status.code().unwrap(), seen(&output))
    };
    assert_eq!(status, 106);
    assert!(
        said.contains("Kubernetes v1.30.2 is too old") && said.contains("v1.34.0 to v1.34.7"),
        "{said}"
    );
}

#[test]
fn what_is_here_is_not_fetched_again() {
    let world = World::new("v1.36.3");
    let (_, manifest) = world.bundle(&[]);
    // Nothing of a bundle that is there.
    fs::rename(&world.mirror.0, world.mirror.0.with_extension("gone")).unwrap();
    let (_, again) = world.bundle(&[]);
    assert_eq!(again, manifest);
    fs::rename(world.mirror.0.with_extension("gone"), &world.mirror.0).unwrap();
    // Nothing large of a bundle that is put together anew: only the checksum files are asked for.
    let removed = world
        .command(&["bundle", "remove", &manifest.key])
        .output()
        .unwrap();
    assert!(removed.status.success(), "{}", seen(&removed));
    for name in [
        "dl.k8s.io/release/v1.36.3/bin/linux/ARCH/kubelet",
        "download.docker.com/linux/static/stable/CPU/docker-29.8.1.tgz",
    ] {
        fs::remove_file(world.mirror.path(name)).unwrap();
    }
    let (_, anew) = world.bundle(&[]);
    assert_eq!(anew.files["parts.img"], manifest.files["parts.img"]);
}

#[test]
fn one_wrong_sum_and_there_is_no_bundle() {
    let world = World::new("v1.36.3");
    let kubeadm = world
        .mirror
        .path("dl.k8s.io/release/v1.36.3/bin/linux/ARCH/kubeadm");
    fs::write(&kubeadm, "kubelet").unwrap();
    let (status, said) = world.failure(&[]);
    assert_eq!(status, 41, "{said}");
    assert!(said.contains("kubeadm v1.36.3"), "{said}");
    // Mended, it goes on with what came before.
    fs::write(&kubeadm, "kubeadm").unwrap();
    fs::remove_file(
        world
            .mirror
            .path("dl.k8s.io/release/v1.36.3/bin/linux/ARCH/kubeadm.sha256"),
    )
    .unwrap();
    let (status, said) = world.failure(&[]);
    assert_eq!(status, 45, "{said}");
    assert!(said.contains("kubeadm.sha256"), "{said}");
}

#[test]
fn a_mirror_may_do_without_what_nothing_needs_yet() {
    let world = World::new("v1.36.3");
    fs::remove_file(world.mirror.path(CRI_DOCKERD)).unwrap();
    let output = world.fetch(&[]);
    assert!(output.status.success(), "{}", seen(&output));
    let said = seen(&output);
    assert!(
        said.contains("the bundle is made without cri-dockerd 0.4.10: the mirror ")
            && said.contains("no checksum is published of docker 29.8.1:"),
        "{said}"
    );
    let (bundle, manifest) = world.bundle(&[]);
    assert!(!names(&bundle.parts(), "bin").contains("cri-dockerd"));
    assert!(manifest.components.iter().all(|part| part.name != "cri-dockerd"));
    let lock = BundleLock::read(&bundle).unwrap().unwrap();
    assert!(lock.objects.iter().all(|object| object.name != "cri-dockerd"));
    let verified = world.command(&["bundle", "verify"]).output().unwrap();
    assert!(verified.status.success(), "{}", seen(&verified));
}

#[test]
fn a_bundle_of_the_users_own_catalog_is_one_of_this_sampan() {
    let world = World::new("v1.36.3");
    let (bundle, _) = world.bundle(&[]);
    let listed = world.command(&["bundle", "list", "-o", "json"]).output().unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed[0]["current"], true, "{listed}");
    let prune = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", seen(&output));
        bundle.0.exists()
    };
    assert!(prune(&mut world.command(&["bundle", "prune"])));
    assert!(!prune(
        world
            .command(&["bundle", "prune"])
            .env_remove("SAMPAN_UPSTREAM_CATALOG")
    ));
}

#[test]
fn an_archive_that_leads_out_of_itself_is_refused() {
    let world = World::new("v1.36.3");
    let docker = world
        .mirror
        .path("download.docker.com/linux/static/stable/CPU/docker-29.8.1.tgz");
    fs::write(
        &docker,
        mirror::archive(&[("docker/dockerd", vec![]), ("../docker-proxy", vec![])]),
    )
    .unwrap();
    let (status, said) = world.failure(&[]);
    assert_eq!(status, 30, "{said}");
    assert!(
        said.contains("docker 29.8.1") && said.contains("leads out of the archive"),
        "{said}"
    );
}

#[test]
fn an_image_that_is_missing_is_named() {
    let world = World::new("v1.36.3");
    fs::remove_file(world.mirror.path("registry.k8s.io/v2/pause/manifests/3.10.2")).unwrap();
    let (status, said) = world.failure(&[]);
    assert_eq!(status, 45, "{said}");
    assert!(said.contains("pause"), "{said}");
}

#[test]
fn over_the_network_a_cut_is_gone_on_with_and_nothing_is_asked_twice() {
    let world = World::new("v1.36.3");
    let upstream = Upstream::serve(&world.mirror.0);
    let docker = world
        .mirror
        .path("download.docker.com/linux/static/stable/CPU/docker-29.8.1.tgz");
    let docker = format!("/{}", docker.strip_prefix(&world.mirror.0).unwrap().display());
    upstream.next(&docker, Plan::cut(40));
    let output = world.fetch_from(&upstream.url(), &[]);
    assert!(output.status.success(), "{}", seen(&output));
    let served = upstream.served_of(&docker);
    let ranges: Vec<_> = served
        .iter()
        .map(|served| served.request.header("range"))
        .collect();
    assert_eq!(ranges, [None, Some("bytes=40-")]);
    let asked = upstream.served().len();
    let output = world.fetch_from(&upstream.url(), &[]);
    assert!(output.status.success(), "{}", seen(&output));
    assert_eq!(upstream.served().len(), asked);
}
