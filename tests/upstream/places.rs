//! Images and programs from other places than upstream's own: `--image-repository`, `--binary-mirror`.

use std::fs;

use sampan::bundle::Manifest;
use sampan::bundle::upstream::BundleLock;

use crate::stand_ins::StandIns;
use crate::{World, mirror};

/// A mirror whose images and programs of Kubernetes stand elsewhere, and nowhere else.
fn elsewhere(release: &str) -> World {
    let world = World::new(release);
    for host in ["registry.k8s.io", "docker.io", "ghcr.io"] {
        fs::remove_dir_all(world.mirror.path(host)).unwrap();
    }
    for image in mirror::images(release) {
        let last = image.rsplit('/').next().unwrap();
        let name = format!("r.example:5000/k8s/{last}");
        world.mirror.add_image(&name, &StandIns);
    }
    fs::create_dir(world.mirror.path("bin.example")).unwrap();
    fs::rename(
        world.mirror.path("dl.k8s.io/release"),
        world.mirror.path("bin.example/k8s"),
    )
    .unwrap();
    world
}

const PLACES: [&str; 4] = [
    "--image-repository",
    "https://r.example:5000/k8s/",
    "--binary-mirror",
    "https://bin.example/k8s/",
];

#[test]
fn images_and_programs_come_from_other_places_and_keep_their_names() {
    let release = "v1.36.3";
    let plain = World::new(release);
    let (_, named) = plain.bundle(&[]);
    let world = elsewhere(release);
    let (bundle, manifest) = world.bundle(&PLACES);
    let names = |manifest: &Manifest| -> Vec<String> {
        let images = manifest.images.iter();
        images
            .map(|image| format!("{}:{}", image.name, image.tag))
            .collect()
    };
    assert_eq!((names(&manifest), &manifest.key), (names(&named), &named.key));
    let lock = BundleLock::read(&bundle).unwrap().unwrap();
    let from = |name: &str| {
        let image = lock.images.iter().find(|image| image.name == name).unwrap();
        image.from.clone()
    };
    // By kubeadm's rule: the last part of the name, behind the repository.
    assert_eq!(
        from("registry.k8s.io/coredns/coredns"),
        "r.example:5000/k8s/coredns:v1.14.2"
    );
    assert_eq!(from("sampan.local/helper"), "r.example:5000/k8s/busybox:1.37.0");
    let kubelet = lock
        .objects
        .iter()
        .find(|object| object.name == "kubelet")
        .unwrap();
    assert!(
        kubelet
            .url
            .starts_with("https://bin.example/k8s/v1.36.3/bin/linux/"),
        "{}",
        kubelet.url
    );
    // A start without these flags takes that bundle.
    assert_eq!(plain_start(&world, &[]), Some(0));
}

/// `start --download-only` from the mirror.
fn plain_start(world: &World, more: &[&str]) -> Option<i32> {
    let source = world.mirror.0.to_str().unwrap();
    let words = ["start", "--download-only", "--driver", "qemu", "--source", source];
    let output = world.command(&words).args(more).output().unwrap();
    output.status.code()
}

#[test]
fn start_fetches_from_other_places_too() {
    let world = elsewhere("v1.36.3");
    assert_eq!(plain_start(&world, &PLACES), Some(0));
    let keys = fs::read_dir(world.layout().bundles()).unwrap();
    assert!(
        keys.flatten()
            .any(|entry| entry.path().join("bundle.lock").is_file())
    );
}

#[test]
fn an_image_that_a_repository_lacks_is_named_with_it() {
    let world = elsewhere("v1.36.3");
    let pause = "r.example:5000/v2/k8s/pause/manifests/3.10.2";
    fs::remove_file(world.mirror.path(pause)).unwrap();
    let (status, said) = world.failure(&PLACES);
    assert_eq!(status, 45, "{said}");
    assert!(said.contains(pause), "{said}");
}
