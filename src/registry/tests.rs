//! Pulling from a registry that behaves, and from one that does not.

mod logins;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::testing::{Answer, Registry, Request, ranged};
use super::*;
use crate::fetch::{Mirror, Settings};
use crate::progress::Silent;
use crate::store::hash;

/// A store, and how it is filled.
struct Host {
    dir: tempfile::TempDir,
    settings: Settings,
    login: Option<Login>,
}

impl Host {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            settings: Settings {
                retries: 2,
                pause: Duration::from_millis(1),
                stall: Duration::from_secs(20),
                ..Settings::default()
            },
            login: None,
        }
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("downloads/sha256")
    }

    fn pull_for(&self, arch: &str, image: &str) -> Result<Pulled> {
        let login = |_: &str| Ok(self.login.clone());
        let puller = Puller::new(&self.settings, &login, &self.store())?;
        puller.pull(image, arch, &Silent, &Cancel::default())
    }

    fn pull(&self, image: &str) -> Result<Pulled> {
        self.pull_for("amd64", image)
    }

    /// What is in the store.
    fn kept(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.store()) else {
            return Vec::new();
        };
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let kept: Vec<String> = entries.map(name).collect();
        for name in &kept {
            assert_eq!(hash::bytes(&fs::read(self.store().join(name)).unwrap()), *name);
        }
        kept
    }

    /// What is kept of the layer that only this architecture has, in bytes. Others come beside it and may be cut short with it.
    fn partial(&self, digests: &Value) -> u64 {
        let part = format!("sha256-{}.part", digests["own"].as_str().unwrap());
        let part = self.dir.path().join("downloads/parts").join(part);
        part.metadata().map_or(0, |part| part.len())
    }
}

/// A registry with app:1, of two architectures that share a layer, and other:1, that has a layer of app's; and how app is called there.
fn registry() -> (Registry, String, Value) {
    let registry = Registry::start();
    let (shared, own) = (vec![7; 100_000], vec![9; 300_000]);
    let amd64 = registry.image("team/app", "amd64", "amd64", &[&shared, &own, &shared]);
    let arm64 = registry.image("team/app", "arm64", "arm64", &[&shared, b"arm"]);
    let index = registry.index("team/app", "1", &[("arm64", arm64), ("amd64", amd64.clone())]);
    registry.image("other", "1", "amd64", &[&shared, b"more"]);
    let app = format!("{}/team/app:1", registry.address);
    (
        registry,
        app,
        serde_json::json!({ "index": index["digest"], "amd64": amd64["digest"], "own": hash::bytes(&own) }),
    )
}

fn is_blob(request: &Request, hex: &str) -> bool {
    request.path.contains(&format!("/blobs/sha256:{hex}"))
}

#[test]
fn an_image_comes_for_its_architecture_and_once() {
    let (registry, app, digests) = registry();
    let host = Host::new();
    let pulled = host.pull(&app).unwrap();
    assert_eq!(pulled.name, app);
    assert_eq!(pulled.index.as_deref(), digests["index"].as_str());
    assert_eq!(Some(pulled.digest.as_str()), digests["amd64"].as_str());
    let sizes: Vec<u64> = pulled.layers.iter().map(|layer| layer.size).collect();
    assert_eq!(sizes, [100_000, 300_000, 100_000]);
    // Index, manifest, configuration and the two layers.
    assert_eq!(registry.asked().len(), 5);
    assert_eq!(host.kept().len(), 5);

    // A tag is looked up again, what it leads to is there.
    host.pull(&app).unwrap();
    assert_eq!(registry.asked(), ["GET /v2/team/app/manifests/1 "]);
    let other = host.pull(&format!("{}/other:1", registry.address)).unwrap();
    assert_eq!((other.index, registry.asked().len()), (None, 2));

    let arm64 = host.pull_for("arm64", &app).unwrap();
    assert_eq!((arm64.layers.len(), host.kept().len()), (2, 10));
    registry.asked();

    // With a digest nothing is to be asked.
    let digest = digests["index"].as_str().unwrap();
    let pinned = host.pull(&format!("{app}@{digest}")).unwrap();
    assert_eq!(pinned, pulled);
    assert_eq!(registry.asked(), Vec::<String>::new());
}

#[test]
fn a_pinned_digest_holds_whatever_the_tag_leads_to() {
    let (registry, app, digests) = registry();
    let host = Host::new();
    let digest = digests["index"].as_str().unwrap();
    registry.put("/v2/team/app/manifests/1", "changed");
    host.pull(&format!("{app}@{digest}")).unwrap();
    registry.put(&format!("/v2/team/app/manifests/{digest}"), "changed");
    let error = Host::new().pull(&format!("{app}@{digest}")).unwrap_err();
    assert_eq!(error.kind(), Kind::Checksum, "{error}");
}

#[test]
fn what_was_cut_goes_on_where_it_stopped() {
    let (registry, app, digests) = registry();
    let (own, count) = (digests["own"].as_str().unwrap().to_owned(), AtomicUsize::new(0));
    let body = vec![9; 300_000];
    registry.moody(move |request| {
        let cut = is_blob(request, &own) && count.fetch_add(1, Ordering::Relaxed) < 2;
        cut.then(|| Answer {
            cut: Some(100_000),
            ..ranged(request, &body)
        })
    });
    let host = Host::new();
    host.pull(&app).unwrap();
    let hex = digests["own"].as_str().unwrap();
    let asked: Vec<String> = registry
        .asked()
        .into_iter()
        .filter(|line| line.contains(hex))
        .collect();
    let ranges: Vec<&str> = asked
        .iter()
        .filter_map(|line| line.split("bytes=").nth(1))
        .collect();
    assert_eq!(ranges, ["0-", "100000-", "200000-"]);
}

#[test]
fn the_next_pull_goes_on_after_one_that_gave_up() {
    let (registry, app, digests) = registry();
    let own = digests["own"].as_str().unwrap().to_owned();
    registry.moody(move |request| {
        is_blob(request, &own).then(|| Answer {
            cut: Some(if request.header("range") == "bytes=0-" {
                250_000
            } else {
                0
            }),
            ..ranged(request, &[9; 300_000])
        })
    });
    let host = Host::new();
    let error = host.pull(&app).unwrap_err();
    assert_eq!(error.kind(), Kind::Internet, "{error}");
    assert!(
        error.to_string().contains("after 250000 of 300000 bytes"),
        "{error}"
    );
    assert_eq!(host.partial(&digests), 250_000);
    registry.moody(|_| None);
    registry.asked();
    host.pull(&app).unwrap();
    assert!(
        registry
            .asked()
            .iter()
            .any(|line| line.ends_with("bytes=250000-"))
    );
}

#[test]
fn a_wrong_layer_is_deleted_and_its_source_named() {
    let (registry, app, digests) = registry();
    let own = digests["own"].as_str().unwrap().to_owned();
    registry.moody(move |request| is_blob(request, &own).then(|| ranged(request, &[8; 300_000])));
    let host = Host::new();
    let error = host.pull(&app).unwrap_err();
    assert_eq!(error.kind(), Kind::Checksum);
    assert!(error.to_string().contains(&app), "{error}");
    assert_eq!(host.partial(&digests), 0);
    assert!(!host.kept().contains(&digests["own"].as_str().unwrap().to_owned()));
}

#[test]
fn a_part_of_something_else_is_started_over() {
    let (_registry, app, digests) = registry();
    let host = Host::new();
    let parts = host.dir.path().join("downloads/parts");
    fs::create_dir_all(&parts).unwrap();
    let part = parts.join(format!("sha256-{}.part", digests["own"].as_str().unwrap()));
    fs::write(part, vec![1; 1000]).unwrap();
    host.pull(&app).unwrap();
}

#[test]
fn a_layer_without_end_is_given_up() {
    let (registry, app, digests) = registry();
    let own = digests["own"].as_str().unwrap().to_owned();
    registry.moody(move |request| {
        is_blob(request, &own).then(|| Answer {
            endless: true,
            ..Answer::new(200, "")
        })
    });
    let host = Host::new();
    let error = host.pull(&app).unwrap_err();
    assert_eq!(error.kind(), Kind::Checksum);
    assert!(
        error.to_string().contains("does not end after its 300000 bytes"),
        "{error}"
    );
    assert_eq!(host.partial(&digests), 0);
}

#[test]
fn a_busy_registry_is_asked_again_and_then_given_up() {
    let (registry, app, _) = registry();
    let left = Arc::new(AtomicUsize::new(2));
    let busy = Arc::clone(&left);
    registry.moody(move |request| {
        let refuse = request.path.contains("/manifests/1")
            && busy
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok();
        let said = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#;
        refuse.then(|| Answer::new(429, said))
    });
    Host::new().pull(&app).unwrap();
    left.store(100, Ordering::Relaxed);
    let error = Host::new().pull(&app).unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable);
    assert!(error.to_string().contains("too many requests"), "{error}");
    assert!(error.hints()[0].contains("docker login"), "{:?}", error.hints());
    assert_eq!(left.load(Ordering::Relaxed), 97);
}

#[test]
fn what_is_not_there_says_so() {
    let (registry, app, _) = registry();
    let host = Host::new();
    for (arch, image, kind) in [
        ("amd64", app.replace(":1", ":2"), Kind::Missing),
        ("riscv64", app.clone(), Kind::Missing),
        ("arm64", format!("{}/other:1", registry.address), Kind::Missing),
        ("amd64", "127.0.0.1:1/app".to_owned(), Kind::Unreachable),
    ] {
        let error = host.pull_for(arch, &image).unwrap_err();
        assert_eq!(error.kind(), kind, "{image}: {error}");
    }
    registry.put("/v2/team/app/manifests/1", "<html>");
    assert!(
        host.pull(&app)
            .unwrap_err()
            .to_string()
            .contains("cannot be read")
    );
}

#[test]
fn who_waits_may_stop_waiting() {
    let (registry, app, digests) = registry();
    let own = digests["own"].as_str().unwrap().to_owned();
    let (host, cancel) = (Host::new(), Cancel::default());
    let flag = cancel.flag();
    registry.moody(move |request| {
        is_blob(request, &own).then(|| {
            flag.store(true, Ordering::Relaxed);
            Answer {
                cut: Some(1000),
                stall: true,
                ..ranged(request, &[9; 300_000])
            }
        })
    });
    let nobody = |_: &str| Ok(None);
    let puller = Puller::new(&host.settings, &nobody, &host.store()).unwrap();
    let began = Instant::now();
    let error = puller.pull(&app, "amd64", &Silent, &cancel).unwrap_err();
    assert_eq!(error.kind(), Kind::Interrupted);
    assert!(
        began.elapsed() < host.settings.stall,
        "it waited for the registry"
    );
    assert!(host.partial(&digests) <= 1000);
}

#[test]
fn a_full_disk_is_told() {
    let (_registry, app, digests) = registry();
    let host = Host::new();
    let parts = host.dir.path().join("downloads/parts");
    fs::create_dir_all(&parts).unwrap();
    let part = parts.join(format!("sha256-{}.part", digests["own"].as_str().unwrap()));
    std::os::unix::fs::symlink("/dev/full", part).unwrap();
    assert_eq!(host.pull(&app).unwrap_err().kind(), Kind::Storage);
}

#[test]
fn mirrors_have_images_below_their_registries() {
    let (registry, _, digests) = registry();
    let (mirror, mut host) = (Registry::start(), Host::new());
    let tree = tempfile::tempdir().unwrap();
    for (path, body) in registry.content() {
        mirror.put(&format!("/tree/registry.example{path}"), body.clone());
        let file = tree.path().join(format!("registry.example{path}"));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, body).unwrap();
    }
    host.login = Some(Login::Identity("nobody's business".into()));
    host.settings.mirror = Some(Mirror::Url(format!("http://{}/tree/", mirror.address)));
    let pulled = host.pull("registry.example/team/app:1").unwrap();
    assert_eq!(pulled.index.as_deref(), digests["index"].as_str());
    let error = host.pull("registry.example/team/app:2").unwrap_err();
    assert!(
        error.to_string().contains(&format!("{}/tree", mirror.address)),
        "{error}"
    );

    let mut host = Host::new();
    host.settings.mirror = Some(Mirror::Dir(tree.path().to_owned()));
    let copied = host.pull("registry.example/team/app:1").unwrap();
    assert_eq!((copied.digest, copied.layers.len()), (pulled.digest, 3));
    assert_eq!(
        host.pull("registry.example/none").unwrap_err().kind(),
        Kind::Missing
    );
    let cut = tree.path().join(format!(
        "registry.example/v2/team/app/blobs/sha256:{}",
        digests["own"].as_str().unwrap()
    ));
    fs::write(cut, "short").unwrap();
    fs::remove_dir_all(host.store()).unwrap();
    assert_eq!(
        host.pull("registry.example/team/app:1").unwrap_err().kind(),
        Kind::Checksum
    );
}

#[test]
fn an_archive_has_everything_once() {
    let (registry, app, _) = registry();
    let host = Host::new();
    let mut images = vec![host.pull(&app).unwrap()];
    images.push(host.pull(&format!("{}/other:1", registry.address)).unwrap());
    images[1].name = "registry.k8s.io/other:v1".to_owned();
    let path = host.dir.path().join("node.tar");
    write_archive(&images, &path, &Cancel::default()).unwrap();
    let mut entries = BTreeMap::new();
    for entry in tar::Archive::new(fs::File::open(&path).unwrap())
        .entries()
        .unwrap()
    {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let name = entry.path().unwrap().display().to_string();
        assert!(entries.insert(name, bytes).is_none());
    }
    let index: Value = serde_json::from_slice(&entries["index.json"]).unwrap();
    let names: Vec<&str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["annotations"]["io.containerd.image.name"].as_str().unwrap())
        .collect();
    assert_eq!(names, [app.as_str(), "registry.k8s.io/other:v1"]);
    let blobs: Vec<_> = entries
        .iter()
        .filter_map(|(name, bytes)| Some((name.strip_prefix("blobs/sha256/")?, bytes)))
        .collect();
    // Two manifests, two configurations that are the same, three layers.
    assert_eq!(blobs.len(), 6);
    for (name, bytes) in blobs {
        assert_eq!(hash::bytes(bytes), name);
    }
    fs::write(&images[0].layers[1].path, "damaged").unwrap();
    assert_eq!(
        write_archive(&images, &path, &Cancel::default())
            .unwrap_err()
            .kind(),
        Kind::HostPath
    );
}
