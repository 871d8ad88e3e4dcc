//! Story 2 and what can go wrong with it: the user's own `docker` builds in the node, pods run what it built, and nothing that it
//! does harms the cluster.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{PROFILE, World, eventually, shown, text};

/// Emulated guests are slow and the host may be busy; what is not there by then never comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// A small image with a shell that Docker has, under a name that is not the node's own.
pub(crate) const BASE: &str = "story/base:1";

fn address(world: &World) -> String {
    format!("{}:2376", world.ok(&["ip", "-p", PROFILE]))
}

fn certificates(world: &World) -> PathBuf {
    world.home().join("data/profiles").join(PROFILE).join("docker")
}

/// The user's own `docker`, pointed to the node.
pub(crate) fn command(world: &World, args: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command
        .args(args)
        .env("DOCKER_HOST", format!("tcp://{}", address(world)))
        .env("DOCKER_TLS_VERIFY", "1")
        .env("DOCKER_CERT_PATH", certificates(world))
        .env("DOCKER_CONFIG", world.home().join("docker-config"))
        // The classic builder: the other one is a plugin that not every client has.
        .env("DOCKER_BUILDKIT", "0")
        .env_remove("DOCKER_CONTEXT")
        .stdin(Stdio::null());
    command
}

pub(crate) fn try_docker(world: &World, args: &[&str]) -> Output {
    command(world, args).output().expect("docker is installed")
}

/// `docker ARGS`, which must succeed; its standard output.
pub(crate) fn docker(world: &World, args: &[&str]) -> String {
    let output = try_docker(world, args);
    assert!(
        output.status.success(),
        "docker {}: {}",
        args.join(" "),
        shown(&output)
    );
    text(&output.stdout)
}

/// Gives Docker an image to build on, without a registry: the node's helper image, under another name.
pub(crate) fn have_base(world: &World) {
    if try_docker(world, &["image", "inspect", BASE]).status.success() {
        return;
    }
    let load = "ctr -n k8s.io images export /tmp/base.tar sampan.local/helper:v1 && \
        curl -sS --fail --unix-socket /run/docker.sock -X POST -H 'Content-Type: application/x-tar' \
        --data-binary @/tmp/base.tar http://docker/images/load && rm /tmp/base.tar";
    world.ok(&["ssh", "-p", PROFILE, "--", load]);
    docker(world, &["tag", "sampan.local/helper:v1", BASE]);
    docker(world, &["rmi", "sampan.local/helper:v1"]);
}

/// Builds an image that says its words and then waits.
pub(crate) fn build(world: &World, tag: &str, words: &str) {
    have_base(world);
    let context = world.home().join("context");
    fs::create_dir_all(&context).unwrap();
    fs::write(context.join("words"), words).unwrap();
    let dockerfile = format!(
        "FROM {BASE}\nCOPY words /words\nRUN cat /words /words >/twice\nENTRYPOINT []\n\
         CMD [\"sh\", \"-c\", \"cat /twice; echo; trap exit TERM; sleep 1000000 & wait\"]\n"
    );
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    docker(world, &["build", "-q", "-t", tag, context.to_str().unwrap()]);
}

/// The names of the images that pods can be made of.
fn images_of_kubernetes(world: &World) -> Vec<String> {
    let list = world.ok(&["ssh", "-p", PROFILE, "--", "ctr -n k8s.io images ls -q"]);
    list.lines().map(str::to_owned).collect()
}

/// Makes the deployment `built` of an image.
fn deploy(world: &World, image: &str) {
    let manifest = include_str!("files/built.yaml").replace("IMAGE", image);
    world.apply(&manifest);
    rolled_out(world);
}

fn rolled_out(world: &World) {
    world.kubectl(&["rollout", "status", "deployment/built", "--timeout=180s"]);
}

/// Waits until the deployment has said its words; a pod is ready a moment before.
fn says(world: &World, words: &str) {
    eventually("the pod speaks", PATIENCE, || {
        let output = world.kubectl_with(&["logs", "deployment/built"], "");
        match text(&output.stdout) {
            said if said == words => Ok(()),
            _ => Err(shown(&output)),
        }
    });
}

/// Waits until every pod of the cluster is there and ready.
fn all_ready(world: &World) {
    eventually("every pod is ready", PATIENCE, || {
        let list: Value = serde_json::from_str(&world.kubectl(&["get", "pods", "-A", "-o", "json"])).unwrap();
        let pods = list["items"].as_array().unwrap();
        let waits = pods.iter().find(|pod| {
            let conditions = pod["status"]["conditions"].as_array();
            let ready = conditions
                .is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"));
            pod["metadata"]["deletionTimestamp"].is_string() || !ready
        });
        match waits {
            Some(pod) => Err(format!("{}: {}", pod["metadata"]["name"], pod["status"])),
            None => Ok(()),
        }
    });
}

/// Only who has this machine's client certificate speaks to Docker; what opens the cluster does not open it.
pub(crate) fn docker_is_closed_without_a_certificate(world: &World) {
    assert!(docker(world, &["version"]).contains("Server:"));
    let url = format!("https://{}/_ping", address(world));
    let (ours, pki) = (certificates(world), certificates(world).with_file_name("pki"));
    let ask = |url: &str, more: &[PathBuf]| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail", "--max-time", "20", "--cacert"])
            .arg(ours.join("ca.pem"))
            .arg(url);
        if let [cert, key] = more {
            curl.arg("--cert").arg(cert).arg("--key").arg(key);
        }
        curl.output().expect("curl is installed")
    };
    let known = ask(&url, &[ours.join("cert.pem"), ours.join("key.pem")]);
    assert!(known.status.success(), "{}", shown(&known));
    let unknown = ask(&url, &[]);
    assert!(!unknown.status.success(), "no certificate: {}", shown(&unknown));
    let admin = ask(&url, &[pki.join("admin.crt"), pki.join("admin.key")]);
    assert!(
        !admin.status.success(),
        "the cluster's administrator: {}",
        shown(&admin)
    );
    let plain = ask(&url.replace("https", "http"), &[]);
    assert!(!plain.status.success(), "without TLS: {}", shown(&plain));
    let api = world
        .home()
        .join("data/profiles")
        .join(PROFILE)
        .join("profile.toml");
    assert!(fs::read_to_string(api).unwrap().contains("docker_port = 2376"));
}

/// What is built is what pods run, at once and without a copy; also under a name that was built anew.
pub(crate) fn what_docker_builds_pods_run(world: &World) {
    build(world, "story/app:1", "first ");
    deploy(world, "story/app:1");
    all_ready(world);
    says(world, "first first");
    build(world, "story/app:1", "second ");
    world.kubectl(&["rollout", "restart", "deployment/built"]);
    rolled_out(world);
    all_ready(world);
    says(world, "second second");
    let listed = docker(world, &["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let mut listed: Vec<_> = listed
        .lines()
        .filter(|line| !line.starts_with("<none>"))
        .collect();
    listed.sort_unstable();
    assert_eq!(
        listed,
        ["story/app:1", "story/base:1"],
        "`docker images` shows what the user made"
    );
}

/// Docker's own containers, and the way from them to the cluster and to the outside.
pub(crate) fn docker_runs_containers_beside_pods(world: &World) {
    build(world, "story/app:1", "beside ");
    docker(world, &["run", "-d", "--init", "--name", "beside", "story/app:1"]);
    let logs = eventually("the container speaks", PATIENCE, || {
        match docker(world, &["logs", "beside"]) {
            said if said.is_empty() => Err(said),
            said => Ok(said),
        }
    });
    assert_eq!(logs, "beside beside");
    assert_eq!(
        docker(world, &["ps", "--format", "{{.Names}}"]),
        "beside",
        "pods are not Docker's"
    );
    assert_eq!(docker(world, &["exec", "beside", "cat", "/words"]), "beside");
    let name = "kubernetes.default.svc.cluster.local";
    let answer = docker(world, &["exec", "beside", "nslookup", name, "10.96.0.10"]);
    assert!(answer.contains("10.96.0.1"), "{answer}");
    // The apiserver's answer to who does not speak TLS.
    let api = [
        "exec",
        "beside",
        "wget",
        "-O-",
        "-T",
        "20",
        "http://10.96.0.1:443/",
    ];
    let answer = try_docker(world, &api);
    assert!(
        text(&answer.stderr).contains("400 Bad Request"),
        "{}",
        shown(&answer)
    );
    // 10.0.2.2 is the host; only a packet that finds its way back is refused.
    let outside = try_docker(world, &["exec", "beside", "nc", "-w", "20", "10.0.2.2", "1"]);
    assert!(text(&outside.stderr).contains("refused"), "{}", shown(&outside));
    docker(world, &["rm", "-f", "beside"]);
}

/// Who reads `GET /words` there, or why nobody does.
fn words(at: SocketAddr) -> Result<String, String> {
    let curl = Command::new("curl")
        .args(["-sS", "--fail", "--max-time", "20", &format!("http://{at}/words")])
        .output()
        .expect("curl is installed");
    if curl.status.success() {
        Ok(text(&curl.stdout))
    } else {
        Err(shown(&curl))
    }
}

/// `docker run -p` is reached at the cluster's address while the container runs, and is in `port list`.
pub(crate) fn ports_of_containers_are_reached(world: &World) {
    build(world, "story/app:1", "published ");
    let address: IpAddr = world.ok(&["ip", "-p", PROFILE]).parse().unwrap();
    let listed = || -> Value {
        serde_json::from_str(&world.ok(&["port", "-p", PROFILE, "list", "-o", "json"])).unwrap()
    };
    let serve = ["story/app:1", "httpd", "-f", "-p", "80", "-h", "/"];
    let run = |name: &str, publish: &[&str]| {
        docker(
            world,
            &[&["run", "-d", "--name", name][..], publish, &serve].concat(),
        );
    };
    run("web", &["-p", "8080:80"]);
    let at = SocketAddr::from((address, 8080));
    let began = Instant::now();
    let said = eventually("the container's port", PATIENCE, || words(at));
    println!("    the container's port: {} ms", began.elapsed().as_millis());
    assert_eq!(said, "published");
    assert_eq!(listed()[0]["at"], at.to_string());
    // Another program of this host has the one, Docker chooses the other.
    let somebody = TcpListener::bind((address, 8081)).unwrap();
    run("more", &["-p", "8081:80", "-p", "80"]);
    let trouble = eventually("the trouble is told", PATIENCE, || {
        let ports = listed();
        let ours = ports
            .as_array()
            .unwrap()
            .iter()
            .find(|port| port["guest"] == 8081);
        let trouble = ours.and_then(|port| port["trouble"].as_str());
        trouble.map(str::to_owned).ok_or_else(|| ports.to_string())
    });
    assert!(trouble.contains("in use"), "{trouble}");
    drop(somebody);
    eventually("it is free", PATIENCE, || words((address, 8081).into()));
    let chosen = docker(world, &["port", "more", "80/tcp"]);
    let chosen = chosen
        .lines()
        .filter_map(|line| line.rsplit_once(':')?.1.parse::<u16>().ok());
    let chosen = chosen.into_iter().find(|port| *port != 8081).expect("a port");
    eventually("the chosen one", PATIENCE, || words((address, chosen).into()));
    docker(world, &["rm", "-f", "web", "more"]);
    eventually("all are closed", PATIENCE, || {
        [8080, 8081, chosen]
            .into_iter()
            .try_for_each(|port| match TcpStream::connect((address, port)) {
                Err(_) => Ok(()),
                Ok(_) => Err(format!("{port} is still there")),
            })
    });
    assert_eq!(listed(), Value::Array(Vec::new()));
}

/// Names and archives: what Docker forgets pods forget too, unless one is made of it.
pub(crate) fn names_come_and_go_for_both(world: &World) {
    build(world, "story/app:1", "named ");
    let has = |name: &str| images_of_kubernetes(world).iter().any(|there| there == name);
    let other = "docker.io/story/other:2";
    docker(world, &["tag", "story/app:1", "story/other:2"]);
    eventually("the tag is there for pods", PATIENCE, || {
        has(other).then_some(()).ok_or_else(String::new)
    });
    let archive = world.home().join("other.tar");
    docker(world, &["save", "-o", archive.to_str().unwrap(), "story/other:2"]);
    docker(world, &["rmi", "story/other:2"]);
    eventually("the tag is gone for pods", PATIENCE, || {
        (!has(other)).then_some(()).ok_or_else(String::new)
    });
    docker(world, &["load", "-i", archive.to_str().unwrap()]);
    eventually("it is back", PATIENCE, || {
        has(other).then_some(()).ok_or_else(String::new)
    });
    // What the kubelet collects for want of room comes back: Docker still has it.
    let collect = format!("ctr -n k8s.io images rm --sync {other}");
    world.ok(&["ssh", "-p", PROFILE, "--", &collect]);
    eventually("it is back again", PATIENCE, || {
        has(other).then_some(()).ok_or_else(String::new)
    });
    docker(world, &["rmi", "story/other:2"]);
    deploy(world, "story/app:1");
    all_ready(world);
    docker(world, &["rmi", "-f", "story/app:1"]);
    world.kubectl(&["delete", "pods", "-l", "app=built"]);
    rolled_out(world);
    all_ready(world);
}

/// A pod whose container is not made yet holds its image, too: Docker may forget it.
pub(crate) fn a_pod_that_waits_holds_its_image(world: &World) {
    build(world, "story/waits:1", "waited ");
    docker(world, &["tag", "story/waits:1", "story/goes:1"]);
    let has = |name: &str| images_of_kubernetes(world).iter().any(|there| there == name);
    eventually("pods have both", PATIENCE, || {
        let both = has("docker.io/story/waits:1") && has("docker.io/story/goes:1");
        both.then_some(()).ok_or_else(String::new)
    });
    world.apply(include_str!("files/waits.yaml"));
    let inside = |command: &[&str]| {
        world.kubectl_with(&[&["exec", "waits", "-c", "first", "--"], command].concat(), "")
    };
    eventually("the pod waits", PATIENCE, || {
        let output = inside(&["true"]);
        output
            .status
            .success()
            .then_some(())
            .ok_or_else(|| shown(&output))
    });
    docker(world, &["rmi", "story/waits:1", "story/goes:1"]);
    eventually("what no pod asks for is gone", PATIENCE, || {
        (!has("docker.io/story/goes:1"))
            .then_some(())
            .ok_or_else(String::new)
    });
    assert!(has("docker.io/story/waits:1"), "a pod waits to be made of it");
    assert!(inside(&["touch", "/go"]).status.success());
    world.kubectl(&["wait", "pod/waits", "--for=condition=Ready", "--timeout=180s"]);
    world.kubectl(&["delete", "pod", "waits"]);
}

/// `docker system prune -af`, and every pod of the cluster is deleted: all of them come back.
pub(crate) fn pruning_takes_nothing_from_the_cluster(world: &World) {
    build(world, "story/app:1", "pruned ");
    deploy(world, "story/app:1");
    all_ready(world);
    // A container that another story left would rightly keep its image.
    try_docker(world, &["rm", "-f", "beside", "kept"]);
    docker(world, &["system", "prune", "-af", "--volumes"]);
    assert_eq!(docker(world, &["images", "-q"]), "");
    world.kubectl(&["delete", "pods", "--all", "--all-namespaces", "--wait=false"]);
    // The static pods' objects vanish and return; everything else is made anew from its image, but for the one pod that nothing
    // makes anew and that other stories go on with.
    world.kubectl(&["wait", "pod/app", "--for=delete", "--timeout=180s"]);
    world.apply(include_str!("files/app.yaml"));
    all_ready(world);
    let images = images_of_kubernetes(world);
    for needed in [
        "registry.k8s.io/pause",
        "registry.k8s.io/kube-proxy",
        "docker.io/story/app:1",
    ] {
        assert!(
            images.iter().any(|image| image.starts_with(needed)),
            "{needed} is gone: {images:?}"
        );
    }
}

/// A machine that was saved goes on with its containers and its endpoint.
pub(crate) fn docker_goes_on_after_stop_and_start(world: &World) {
    build(world, "story/app:1", "kept ");
    docker(world, &["run", "-d", "--name", "kept", "story/app:1"]);
    world.ok(&["stop", "-p", PROFILE]);
    assert!(!try_docker(world, &["ps"]).status.success());
    world.ok(&["start", "-p", PROFILE]);
    assert!(docker(world, &["ps", "--format", "{{.Names}}"]).contains("kept"));
    docker(world, &["rm", "-f", "kept"]);
    world.kubectl(&["delete", "deployment", "built", "--ignore-not-found"]);
}
