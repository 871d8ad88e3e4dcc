//! Registries of the user's: one without TLS, and one that stands for Docker Hub, for the node's Docker and for pods alike.

use std::time::{Duration, Instant};

use crate::docker::{self, docker, try_docker};
use crate::support::{PROFILE, World, eventually, shown, text};

/// Emulated guests are slow and the host may be busy; what is not there by then never comes.
const PATIENCE: Duration = Duration::from_secs(180);

/// Speaks plain HTTP at the node's own address, which is neither loopback nor a service's.
const REGISTRY: &str = "10.0.2.15:5055";

/// Nobody listens there.
const DEAD: &str = "http://10.0.2.15:9";

/// Takes what the story made out of the cluster, however it ends.
struct Ended<'a>(&'a World);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let manifest = include_str!("files/registry.yaml");
        self.0
            .kubectl_with(&["delete", "--ignore-not-found", "-f", "-"], manifest);
        self.0.kubectl_with(
            &["delete", "pod", "--ignore-not-found", "--now", "pulled", "thing"],
            "",
        );
        let _ = self
            .0
            .sampan(&[
                "start",
                "-p",
                PROFILE,
                "--insecure-registry=",
                "--registry-mirror=",
            ])
            .output();
    }
}

/// A pod of an image that is asked for anew, whether it is there or not (`Always`); what happened to it when it does not begin.
fn runs(world: &World, name: &str, image: &str) -> Result<(), String> {
    let image = format!("--image={image}");
    let run = [
        "run",
        name,
        &image,
        "--image-pull-policy=Always",
        "--restart=Never",
    ];
    world.kubectl(&[&run[..], &["--command", "--", "echo", "pulled"]].concat());
    let state = "jsonpath={.status.phase} {.status.containerStatuses[0].state.waiting.reason}";
    let seen = eventually("the pod ends or does not begin", PATIENCE, || {
        match world.kubectl(&["get", "pod", name, "-o", state]) {
            seen if seen.starts_with("Succeeded") || seen.contains("Err") || seen.contains("BackOff") => {
                Ok(seen)
            }
            seen => Err(seen),
        }
    });
    let events = world.kubectl(&[
        "get",
        "events",
        "--field-selector",
        &format!("involvedObject.name={name}"),
    ]);
    world.kubectl(&["delete", "pod", name, "--now"]);
    match seen.starts_with("Succeeded") {
        true => Ok(()),
        false => Err(events),
    }
}

/// Docker's process in the node.
fn dockerd(world: &World) -> String {
    let show = [
        "ssh",
        "-p",
        PROFILE,
        "--",
        "systemctl show --property MainPID docker containerd",
    ];
    world.ok(&show)
}

pub(crate) fn a_registry_without_tls_and_a_mirror(world: &World) {
    let ended = Ended(world);
    world.apply(include_str!("files/registry.yaml"));
    world.kubectl(&[
        "wait",
        "pod/plain-registry",
        "--for=condition=Ready",
        "--timeout=180s",
    ]);
    docker::have_base(world);
    let app = format!("{REGISTRY}/story/app:1");
    docker(world, &["tag", docker::BASE, &app]);
    let refused = try_docker(world, &["push", &app]);
    assert!(
        !refused.status.success(),
        "without TLS, unasked: {}",
        shown(&refused)
    );

    let (before, began) = (dockerd(world), Instant::now());
    let mirror = format!("http://{REGISTRY}");
    let start = ["start", "-p", PROFILE, "--insecure-registry", REGISTRY];
    world.ok(&[
        &start[..],
        &["--registry-mirror", DEAD, "--registry-mirror", &mirror],
    ]
    .concat());
    println!(
        "    registries of a running cluster: {:.1} s",
        began.elapsed().as_secs_f64()
    );
    assert_eq!(dockerd(world), before, "something was restarted");

    docker(world, &["push", &app]);
    docker(world, &["rmi", &app]);
    runs(world, "pulled", &app).unwrap();

    // What Docker Hub would have: past a mirror that does not answer.
    let hub = format!("{REGISTRY}/library/thing:1");
    docker(world, &["tag", docker::BASE, &hub]);
    docker(world, &["push", &hub]);
    docker(world, &["rmi", &hub]);
    docker(world, &["pull", "thing:1"]);
    docker(world, &["rmi", "thing:1"]);
    runs(world, "thing", "thing:1").unwrap();

    // Taken away again.
    world.ok(&[
        "start",
        "-p",
        PROFILE,
        "--insecure-registry=",
        "--registry-mirror=",
    ]);
    assert_eq!(dockerd(world), before, "something was restarted");
    let info = docker(
        world,
        &[
            "info",
            "--format",
            "{{.RegistryConfig.Mirrors}} {{.RegistryConfig.IndexConfigs}}",
        ],
    );
    assert!(!text(info.as_bytes()).contains(REGISTRY), "{info}");
    let why = runs(world, "pulled", &app).unwrap_err();
    assert!(why.contains("HTTP response to HTTPS client"), "{why}");
    drop(ended);
}
