//! Pods on Docker itself, where the cluster was started with `--container-runtime docker` (`./dev test cri`).

use std::time::Duration;

use crate::docker::{build, docker};
use crate::support::{World, eventually};

/// Pods are containers of Docker's and are reached through cri-dockerd; what Docker prunes of the cluster's own images is back at once.
pub(crate) fn pods_run_on_docker_itself(world: &World) {
    let runtime = "jsonpath={.items[*].status.nodeInfo.containerRuntimeVersion}";
    let runtime = world.kubectl(&["get", "nodes", "-o", runtime]);
    assert!(runtime.starts_with("docker://"), "{runtime}");
    build(world, "story/app:1", "on docker ");
    let run = ["run", "mine", "--image=story/app:1", "--image-pull-policy=Never"];
    world.kubectl(&[&run[..], &["--command", "--", "sleep", "1000"]].concat());
    world.kubectl(&["wait", "pod/mine", "--for=condition=Ready", "--timeout=180s"]);
    assert_eq!(
        world.kubectl(&["exec", "mine", "--", "cat", "/words"]),
        "on docker"
    );
    let names = docker(world, &["ps", "--format", "{{.Names}}"]);
    assert!(names.contains("k8s_mine_mine_default_"), "{names}");

    let images = || docker(world, &["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let before = images();
    docker(world, &["system", "prune", "-af", "--volumes"]);
    eventually("what was pruned is back", Duration::from_secs(30), || {
        let there = images();
        let mut own = before.lines().filter(|image| !image.starts_with("story/"));
        match own.find(|image| !there.contains(image)) {
            None => Ok(()),
            Some(image) => Err(format!("{image} is not among {there}")),
        }
    });
    // A volume is made by a pod of the helper image, which no container was made of.
    world.kubectl(&["delete", "pod/mine", "--now"]);
    world.kubectl(&["delete", "pod/app", "pvc/data", "--now"]);
    world.apply(include_str!("files/app.yaml"));
    world.kubectl(&["wait", "pod/app", "--for=condition=Ready", "--timeout=180s"]);
}
