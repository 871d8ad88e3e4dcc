//! Images are pulled from a real registry: distribution's, as the bundle has it. What one that misbehaves does is tested beside the code.

#![expect(clippy::expect_used, reason = "a test that cannot go on should panic")]

#[expect(dead_code, reason = "the stories use the rest")]
#[path = "support/distribution.rs"]
mod distribution;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;

use distribution::{Distribution, digest_of};
use sampan::error::{Kind, Result};
use sampan::fetch::Settings;
use sampan::progress::{Cancel, Silent};
use sampan::registry::{Login, Pulled, Puller, write_archive};
use serde_json::{Value, json};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Content of a layer that nobody can guess the rest of.
fn noise(seed: u8, size: usize) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..size).map(|_| next()).collect()
}

fn push_image(registry: &Distribution, name: &str, tag: &str, arch: &str, layers: &[&[u8]]) -> Value {
    let config =
        json!({ "architecture": arch, "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] } });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": registry.push_blob(name, CONFIG, config.to_string().as_bytes()),
        "layers": layers.iter().map(|layer| registry.push_blob(name, LAYER, layer)).collect::<Vec<_>>(),
    });
    let mut entry = registry.push_manifest(name, tag, manifest.to_string().as_bytes());
    entry["platform"] = json!({ "os": "linux", "architecture": arch });
    entry
}

/// app:1 for two architectures that share a layer, and other:1 with that layer.
fn fill(registry: &Distribution) {
    let shared = noise(1, 3_000_000);
    let arm64 = push_image(
        registry,
        "team/app",
        "arm64",
        "arm64",
        &[&shared, &noise(2, 1000)],
    );
    let amd64 = push_image(
        registry,
        "team/app",
        "amd64",
        "amd64",
        &[&shared, &noise(3, 2_000_000)],
    );
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [arm64, amd64],
    });
    registry.push_manifest("team/app", "1", index.to_string().as_bytes());
    push_image(registry, "other", "1", "amd64", &[&shared]);
}

fn pull(store: &Path, login: Option<Login>, image: &str, arch: &str) -> Result<Pulled> {
    let settings = Settings::default();
    let credentials = |_: &str| Ok(login.clone());
    Puller::new(&settings, &credentials, store)?.pull(image, arch, &Silent, &Cancel::default())
}

#[test]
fn images_come_for_each_architecture_and_become_one_archive() {
    let registry = Distribution::start(None);
    fill(&registry);
    let host = tempfile::tempdir().unwrap();
    let store = host.path().join("sha256");
    let app = format!("127.0.0.1:{}/team/app:1", registry.port);
    let amd64 = pull(&store, None, &app, "amd64").unwrap();
    let arm64 = pull(&store, None, &app, "arm64").unwrap();
    assert_eq!(amd64.layers[0], arm64.layers[0]);
    assert_ne!(amd64.digest, arm64.digest);
    assert_eq!(amd64.index, arm64.index);
    for blob in amd64.layers.iter().chain([&amd64.config, &amd64.manifest]) {
        assert_eq!(digest_of(&std::fs::read(&blob.path).unwrap()), blob.digest);
    }
    let other = pull(
        &store,
        None,
        &format!("127.0.0.1:{}/other:1", registry.port),
        "amd64",
    )
    .unwrap();
    let archive = host.path().join("node.tar");
    write_archive(&[amd64.clone(), other], &archive, &Cancel::default()).unwrap();
    // The shared layer is in it once.
    let size = archive.metadata().unwrap().len();
    assert!((5_000_000..5_100_000).contains(&size), "{size}");

    // What is pinned and there needs no registry.
    let pinned = format!("{app}@{}", amd64.index.clone().unwrap());
    drop(registry);
    assert_eq!(pull(&store, None, &pinned, "amd64").unwrap(), amd64);
    assert_eq!(
        pull(&store, None, &app, "amd64").unwrap_err().kind(),
        Kind::Unreachable
    );
}

#[test]
fn what_was_begun_goes_on_and_what_was_wrong_comes_anew() {
    let registry = Distribution::start(None);
    fill(&registry);
    let app = format!("127.0.0.1:{}/team/app:1", registry.port);
    for begun in [noise(3, 1_500_000), noise(9, 1_500_000)] {
        let host = tempfile::tempdir().unwrap();
        let layer = digest_of(&noise(3, 2_000_000)).replace(':', "-");
        std::fs::create_dir_all(host.path().join("parts")).unwrap();
        std::fs::write(host.path().join(format!("parts/{layer}.part")), begun).unwrap();
        pull(&host.path().join("sha256"), None, &app, "amd64").unwrap();
    }
}

#[test]
fn a_registry_with_tokens_lets_known_users_in() {
    let tokens = TcpListener::bind("127.0.0.1:0").unwrap();
    let realm = format!("http://{}/token", tokens.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in tokens.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap())
                .lines()
                .map_while(std::io::Result::ok);
            let asked: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
            // u:p, and pulling of that repository.
            let known = asked
                .iter()
                .any(|line| line.to_lowercase() == "authorization: basic dtpw")
                && asked[0].contains("scope=repository%3Ateam%2Fapp%3Apull");
            let (status, body) = if known {
                ("200 OK", r#"{"token":"granted"}"#)
            } else {
                ("401 Unauthorized", "")
            };
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let registry = Distribution::start(Some(&realm));
    fill(&registry);
    let host = tempfile::tempdir().unwrap();
    let store = host.path().join("sha256");
    let app = format!("127.0.0.1:{}/team/app:1", registry.port);
    let error = pull(&store, None, &app, "amd64").unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{error}");
    assert!(error.hints()[0].contains("docker login"), "{:?}", error.hints());
    let login = Login::Password {
        user: "u".into(),
        password: "p".into(),
    };
    pull(&store, Some(login), &app, "amd64").unwrap();
}
