//! A bundle of real programs and images, from a mirror laid out as upstream's hosts, to a machine that had none of it: filled here,
//! fetched, locked, shown, exported, imported. `./dev test mirror` runs this, `./dev test releases` stories of `tests/vm` on what it leaves, too.
//!
//! What is in the mirror are the components of the bundle that is built here, under the names and versions of upstream's, and the
//! stand-in for Debian's cloud image (`tests/cloud/make.sh`) with Debian's own packages. A mirror may do without a cri-dockerd;
//! `./dev test cri` has one.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it saw"
)]

mod built;
#[path = "../upstream/mirror.rs"]
mod mirror;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use built::Built;
use mirror::Mirror;
use sampan::bundle::upstream::{BundleLock, LockedTrust};
use sampan::bundle::{Manifest, Origin};
use sampan::layout::BundleLayout;
use sampan_test_support::upstream::Upstream;

const RELEASE: &str = "v1.36.3";

/// A machine: a directory that is all of sampan's home.
struct Host<'a> {
    home: PathBuf,
    catalog: &'a Path,
}

impl Host<'_> {
    /// Runs `sampan WORDS`, which must succeed; all that it said.
    fn ok(&self, words: &[&str]) -> String {
        let began = Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_sampan"))
            .args(words)
            .env_remove("SAMPAN_CACHE")
            .env("SAMPAN_HOME", &self.home)
            .env("SAMPAN_UPSTREAM_CATALOG", self.catalog)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let seconds = began.elapsed().as_secs_f64();
        println!("--- sampan {} ({seconds:.1} s)\n{said}", words.join(" "));
        assert!(output.status.success());
        said
    }

    /// The one bundle that is here.
    fn bundle(&self) -> (BundleLayout, Manifest) {
        let mut entries = fs::read_dir(self.home.join("cache/bundles")).unwrap();
        let bundle = BundleLayout(entries.next().unwrap().unwrap().path());
        assert!(entries.next().is_none());
        let manifest = Manifest::read(&bundle).unwrap().unwrap();
        (bundle, manifest)
    }
}

/// A variable that `./dev test mirror` sets.
fn given(name: &str) -> PathBuf {
    let value = std::env::var_os(name);
    value
        .unwrap_or_else(|| panic!("{name} is not set: run `./dev test mirror`"))
        .into()
}

#[test]
fn a_bundle_of_upstreams_releases_travels() {
    // What stays: the catalog, and the second machine.
    let dir = given("SAMPAN_TEST_RELEASES");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    let scratch = tempfile::tempdir_in(&dir).unwrap();
    let content = Built::unpack(&built_bundle(), &given("SAMPAN_TEST_CLOUD"), scratch.path());
    let mut unsummed = vec!["docker 29.8.1"];
    let cri_dockerd = std::env::var_os("SAMPAN_TEST_CRI_DOCKERD");
    if let Some(program) = &cri_dockerd {
        content.add(Path::new(program));
        unsummed.push("cri-dockerd 0.4.10");
    }
    let catalog = dir.join("upstream.toml");
    let text = mirror::catalog(&content);
    let own = include_str!("../../images/upstream.toml");
    let others = text.lines().zip(own.lines()).filter(|(one, other)| one != other);
    println!(
        "{} lines of the catalog are not the embedded ones",
        others.count()
    );
    fs::write(&catalog, text).unwrap();
    let mirror = Mirror::with(&scratch.path().join("mirror"), RELEASE, &content);
    content.remove();

    let upstream = Upstream::serve(&mirror.0);
    let first = Host {
        home: scratch.path().join("first"),
        catalog: &catalog,
    };
    let said = first.ok(&["bundle", "fetch", "--source", &upstream.url()]);
    let lacks = said.contains("the bundle is made without cri-dockerd");
    assert_eq!(lacks, cri_dockerd.is_none(), "{said}");
    assert!(
        said.contains(&format!("no checksum is published of {}:", unsummed.join(", "))),
        "{said}"
    );
    let (bundle, manifest) = first.bundle();
    assert_eq!(
        (manifest.source, manifest.base.as_str()),
        (Origin::Upstream, "debian-cloud")
    );
    check_lock(&bundle, &manifest, &unsummed);
    assert!(first.ok(&["bundle", "show"]).contains(&manifest.key));
    first.ok(&["bundle", "verify"]);
    let file = scratch.path().join("k8s.sampan");
    first.ok(&["bundle", "export", file.to_str().unwrap()]);

    let second = Host {
        home: dir.join("second"),
        catalog: &catalog,
    };
    second.ok(&["bundle", "import", file.to_str().unwrap()]);
    second.ok(&["bundle", "verify"]);
    assert_eq!(second.bundle().1, manifest);
    // Each way that a start may be told leads to it.
    for source in [
        "upstream",
        mirror.0.to_str().unwrap(),
        file.to_str().unwrap(),
        "auto",
    ] {
        let said = second.ok(&["start", "--driver", "qemu", "--download-only", "--source", source]);
        assert!(said.contains("taking the bundle that is here"), "{said}");
    }
    assert!(
        !second.home.join("cache/downloads").exists(),
        "something was fetched"
    );
}

/// All that came is in the lock, with what vouches for it.
fn check_lock(bundle: &BundleLayout, manifest: &Manifest, unsummed: &[&str]) {
    let lock = BundleLock::read(bundle).unwrap().unwrap();
    assert_eq!(lock.kubernetes, RELEASE);
    assert_eq!(lock.on_first_use(), unsummed);
    let count = |trust| lock.objects.iter().filter(|object| object.trust == trust).count();
    assert_eq!(count(LockedTrust::Pinned), mirror::packages().len());
    // The cloud image, Kubernetes' three, containerd, runc, CNI's plugins and image-mirror.
    assert_eq!(count(LockedTrust::Published), 8);
    assert_eq!(lock.images.len(), manifest.images.len());
    for (locked, image) in lock.images.iter().zip(&manifest.images) {
        assert_eq!((&locked.digest, &locked.name), (&image.digest, &image.name));
        assert!(locked.index.is_some());
    }
}

/// The bundle that is built here, in the user's own cache.
fn built_bundle() -> PathBuf {
    let key = sampan::bundle::current_key().unwrap();
    let bundle = given("SAMPAN_CACHE").join("bundles").join(key);
    assert!(
        bundle.is_dir(),
        "no {}: run `sampan bundle build`",
        bundle.display()
    );
    bundle
}
