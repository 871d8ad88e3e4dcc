//! Stories 2, 4 and 5 as far as services, ingress and addons go: with curl and kubectl, from the host.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::docker;
use crate::support::{Guard, PROFILE, World, eventually, shown, signal, text};

/// Emulated guests are slow and the host may be busy; what is not there by then never comes.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a URL answers, with its status; the host name it is asked under may be another.
fn curl(url: &str, host: Option<&str>) -> Result<(u16, String), String> {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "20", "-w", "\n%{http_code}", url]);
    if let Some(host) = host {
        curl.args(["-H", &format!("Host: {host}")]);
    }
    let output = curl.output().expect("curl is installed");
    let answer = text(&output.stdout);
    match answer.rsplit_once('\n') {
        Some((body, status)) if output.status.success() => {
            Ok((status.parse().unwrap(), body.trim().to_owned()))
        }
        // Nothing but the status.
        None if output.status.success() => Ok((answer.parse().unwrap(), String::new())),
        _ => Err(shown(&output)),
    }
}

/// Waits until a URL answers so.
fn answers(url: &str, host: Option<&str>, status: u16, body: &str) {
    eventually(&format!("{url} as {host:?}"), PATIENCE, || {
        match curl(url, host)? {
            answer if answer == (status, body.to_owned()) => Ok(()),
            answer => Err(format!("{answer:?}")),
        }
    });
}

fn ready(world: &World, deployment: &str) {
    world.kubectl(&["rollout", "status", deployment, "--timeout=180s"]);
}

/// Everything in the cluster that bears an addon's label.
fn left_of(world: &World, addon: &str) -> String {
    let kinds = "all,configmaps,secrets,serviceaccounts,namespaces,clusterroles,clusterrolebindings,roles,rolebindings,\
        customresourcedefinitions,apiservices,ingressclasses,storageclasses";
    world.kubectl(&[
        "get",
        kinds,
        "-A",
        "-o",
        "name",
        "-l",
        &format!("sampan.dev/addon={addon}"),
    ])
}

/// Story 2: `service --url` prints what curl answers, and a service without a node port is reached while the command runs.
pub(crate) fn a_service_is_reached_by_its_url(world: &World) {
    world.apply(include_str!("files/web.yaml"));
    ready(world, "deployment/web");
    let url = world.ok(&["service", "web", "--url", "-p", PROFILE]);
    answers(&url, None, 200, "hello");
    let began = Instant::now();
    world.ok(&["service", "web", "--url", "-p", PROFILE]);
    println!("    service --url: {} ms", began.elapsed().as_millis());
    let list: Value =
        serde_json::from_str(&world.ok(&["service", "list", "-o", "json", "-p", PROFILE])).unwrap();
    let web = list
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["Name"] == "web")
        .unwrap();
    assert_eq!(web["URLs"][0], url);

    let mut inner = world.sampan(&["service", "inner", "--url", "-p", PROFILE]);
    let mut inner = Guard(
        inner
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let mut url = String::new();
    BufReader::new(inner.0.stdout.take().unwrap())
        .read_line(&mut url)
        .unwrap();
    let url = url.trim();
    answers(url, None, 200, "hello");
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| answers(url, None, 200, "hello"));
        }
    });
    signal(i32::try_from(inner.0.id()).unwrap(), rustix::process::Signal::INT);
    assert!(inner.0.wait().unwrap().success());
    assert!(curl(url, None).is_err(), "it is still reached");
}

/// `kubectl top` works, and disabling leaves nothing of it.
pub(crate) fn metrics_server_measures(world: &World) {
    world.ok(&["addons", "enable", "metrics-server", "-p", PROFILE]);
    let top = eventually("kubectl top nodes", PATIENCE, || {
        let output = world.kubectl_with(&["top", "nodes", "--no-headers"], "");
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(shown(&output)),
        }
    });
    assert!(top.contains('%'), "{top}");
    world.ok(&["addons", "enable", "metrics-server", "-p", PROFILE]);
    world.ok(&["addons", "disable", "metrics-server", "-p", PROFILE]);
    assert_eq!(left_of(world, "metrics-server"), "");
    assert!(!world.kubectl_with(&["top", "nodes"], "").status.success());
}

/// Story 4: Ingresses of the classes contour and nginx and of none lead to pods, others do not; disabling leaves nothing.
pub(crate) fn ingress_leads_to_pods(world: &World) {
    let began = Instant::now();
    let told = world.ok(&["addons", "enable", "ingress", "-p", PROFILE]);
    let url = told
        .lines()
        .find_map(|line| line.split_once("is reached at "))
        .unwrap()
        .1
        .to_owned();
    let classes = [
        ("none", ""),
        ("contour", "\n  ingressClassName: contour"),
        ("nginx", "\n  ingressClassName: nginx"),
        ("other", "\n  ingressClassName: other"),
    ];
    for (name, class) in classes {
        let manifest = include_str!("files/ingress.yaml")
            .replace("NAME", name)
            .replace(" CLASS", class);
        world.apply(&manifest);
    }
    answers(&url, Some("none.example.org"), 200, "hello");
    println!(
        "    addons enable ingress to the first 200: {:.1} s",
        began.elapsed().as_secs_f64()
    );
    answers(&url, Some("contour.example.org"), 200, "hello");
    answers(&url, Some("nginx.example.org"), 200, "hello");
    assert_eq!(curl(&url, Some("other.example.org")).unwrap().0, 404);
    world.kubectl(&["delete", "ingress", "none", "contour", "nginx", "other"]);
    world.ok(&["addons", "disable", "ingress", "-p", PROFILE]);
    assert_eq!(left_of(world, "ingress"), "");
    eventually("nobody is reached", PATIENCE, || match curl(&url, None) {
        Err(_) => Ok(()),
        Ok(answer) => Err(format!("{answer:?}")),
    });
}

/// localhost:5000/x is one image for the user's docker, which pushes it, and for pods, which pull it.
pub(crate) fn a_registry_has_one_name_for_docker_and_pods(world: &World) {
    const NAME: &str = "localhost:5000/story/pushed:1";
    world.ok(&["addons", "enable", "registry", "-p", PROFILE]);
    docker::have_base(world);
    docker::docker(world, &["tag", docker::BASE, NAME]);
    docker::docker(world, &["push", NAME]);
    docker::docker(world, &["rmi", NAME]);
    const AGAIN: &str = "localhost:5000/story/again:1";
    for words in [
        &["pull", NAME][..],
        &["tag", NAME, AGAIN],
        &["push", AGAIN],
        &["rm", AGAIN],
        &["pull", AGAIN],
    ] {
        world.ok(&[&["image", "-p", PROFILE][..], words].concat());
    }
    world.kubectl(&[
        "run",
        "pulled",
        "--image",
        NAME,
        "--image-pull-policy=Always",
        "--restart=Never",
        "--command",
        "--",
        "echo",
        "pulled",
    ]);
    eventually("the pod ends", PATIENCE, || {
        match world.kubectl(&["get", "pod", "pulled", "-o", "jsonpath={.status.phase}"]) {
            phase if phase == "Succeeded" => Ok(()),
            phase => Err(phase),
        }
    });
    world.kubectl(&["delete", "pod", "pulled"]);
    world.ok(&["addons", "disable", "registry", "-p", PROFILE]);
    assert_eq!(left_of(world, "registry"), "");
}

/// Takes story 5 out of the cluster, however it ends: others wait until every pod is well.
struct Letters<'a>(&'a World);

impl Drop for Letters<'_> {
    fn drop(&mut self) {
        for manifest in [
            include_str!("files/letters.yaml"),
            include_str!("files/queue.yaml"),
        ] {
            self.0
                .kubectl_with(&["delete", "--ignore-not-found", "-f", "-"], manifest);
        }
    }
}

/// Story 5: a producer and a consumer of locally built images wait for their queue by name, and then understand each other.
pub(crate) fn producer_and_consumer_find_each_other(world: &World) {
    docker::have_base(world);
    let context = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/files/letters");
    docker::docker(
        world,
        &["build", "-q", "-t", "story/letters:1", context.to_str().unwrap()],
    );
    let letters = Letters(world);
    world.apply(include_str!("files/letters.yaml"));
    let waiting = |app: &str| {
        world.kubectl(&[
            "get",
            "pods",
            "-l",
            &format!("app={app}"),
            "-o",
            "jsonpath={.items[*].status.initContainerStatuses[0].state.running}",
        ])
    };
    for app in ["producer", "consumer"] {
        eventually(&format!("the {app} waits"), PATIENCE, || match waiting(app) {
            state if state.is_empty() => Err("its init container does not run".to_owned()),
            _ => Ok(()),
        });
    }
    world.apply(include_str!("files/queue.yaml"));
    for app in ["queue", "producer", "consumer"] {
        ready(world, &format!("deployment/{app}"));
    }
    eventually("a letter arrives", PATIENCE, || {
        match world.kubectl(&["logs", "deployment/consumer", "-c", "main"]) {
            letters if letters.contains("good morning, the word is swordfish") => Ok(()),
            letters => Err(letters),
        }
    });
    drop(letters);
    docker::docker(world, &["rmi", "story/letters:1"]);
}
