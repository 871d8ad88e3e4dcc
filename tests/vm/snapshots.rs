//! Story 8: put away and taken out, held, brought back, forked; and the bad turns of each.

use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::client;
use crate::life::everything_is_there;
use crate::support::{Guard, NODE, PROFILE, World, eventually, shown, text};

const PATIENCE: Duration = Duration::from_secs(180);

/// How far a guest's clock may be off: what a command takes to get there, on a busy host.
const CLOCK_SECONDS: f64 = 5.0;

/// The number that the counter is at.
fn counter(world: &World, context: &str) -> u64 {
    let ask = [
        "--context",
        context,
        "exec",
        "deploy/counter",
        "--",
        "cat",
        "/number",
    ];
    eventually("the counter answers", PATIENCE, || {
        let output = world.kubectl_with(&ask, "");
        text(&output.stdout).parse().map_err(|_| shown(&output))
    })
}

/// The counter went from one number to another in this time, and stood still for a part of it.
fn stood_still(from: u64, to: u64, began: Instant, still: Duration) {
    let most = (began.elapsed() - still).as_secs() + 3;
    assert!(
        from <= to && to - from <= most,
        "from {from} to {to}, in {:?} less {still:?}",
        began.elapsed()
    );
}

/// How long the guest is away in these stories.
const AWAY: Duration = Duration::from_secs(20);

/// Names, container IDs and restart counts of all pods: the same again when nothing was restarted.
fn containers(world: &World, context: &str) -> Vec<String> {
    let pods = world.kubectl(&["--context", context, "get", "pods", "-A", "-o", "json"]);
    let pods: Value = serde_json::from_str(&pods).unwrap();
    let mut seen = Vec::new();
    for pod in pods["items"].as_array().unwrap() {
        for container in pod["status"]["containerStatuses"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let (name, id) = (&pod["metadata"]["name"], &container["containerID"]);
            seen.push(format!("{name} {id} {}", container["restartCount"]));
        }
    }
    seen.sort();
    seen
}

/// Seconds that the guest's clock is ahead of the host's.
fn clock_offset(world: &World, profile: &str) -> f64 {
    let guest: f64 = world
        .ok(&["ssh", "-p", profile, "--", "date +%s.%N"])
        .parse()
        .unwrap();
    guest - now()
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}

/// No event says that the node went away and came back.
fn node_did_not_flap(world: &World, context: &str) {
    let events = world.kubectl(&["--context", context, "get", "events", "-A", "-o", "json"]);
    let events: Value = serde_json::from_str(&events).unwrap();
    for event in events["items"].as_array().unwrap() {
        let reason = event["reason"].as_str().unwrap_or_default();
        assert!(
            ![
                "NodeNotReady",
                "TaintManagerEviction",
                "NodeHasInsufficientMemory"
            ]
            .contains(&reason),
            "{event}"
        );
    }
}

/// The same pods, the same containers, no restart, the right clock, a fresh lease, and a count that goes on.
pub(crate) fn a_saved_cluster_counts_on(world: &World) {
    world.apply(include_str!("files/counter.yaml"));
    world.kubectl(&["rollout", "status", "deployment/counter", "--timeout=180s"]);
    for _ in 0..2 {
        let (before, number) = (containers(world, PROFILE), counter(world, PROFILE));
        let began = Instant::now();
        world.ok(&["stop", "-p", PROFILE]);
        assert_eq!(world.qemu(PROFILE), None, "its memory is not free");
        assert_eq!(world.status(PROFILE)["Host"], "Stopped");
        // Time passes that the guest knows nothing of.
        std::thread::sleep(AWAY);
        world.ok(&["start", "-p", PROFILE]);
        stood_still(number, counter(world, PROFILE), began, AWAY);
        assert_eq!(containers(world, PROFILE), before);
        let offset = clock_offset(world, PROFILE);
        assert!(offset.abs() < CLOCK_SECONDS, "the clock is off by {offset} s");
    }
    let lease = [
        "get",
        "lease",
        "-n",
        "kube-node-lease",
        NODE,
        "-o",
        "jsonpath={.spec.renewTime}",
    ];
    let old = world.kubectl(&lease);
    eventually("the lease is renewed", Duration::from_secs(60), || {
        if world.kubectl(&lease) == old {
            Err(old.clone())
        } else {
            Ok(())
        }
    });
    assert_eq!(world.status(PROFILE)["Kubelet"], "Running");
    node_did_not_flap(world, PROFILE);
    everything_is_there(world);
}

/// The host's clock went back while the machine was away, or the guest's had run ahead.
pub(crate) fn a_wrong_clock_is_set_right(world: &World) {
    let before = containers(world, PROFILE);
    world.ok(&["ssh", "-p", PROFILE, "--", "date --set=+1hour >/dev/null"]);
    assert!(clock_offset(world, PROFILE) > 3000.0);
    world.ok(&["stop", "-p", PROFILE]);
    world.ok(&["start", "-p", PROFILE]);
    let offset = clock_offset(world, PROFILE);
    assert!(offset.abs() < CLOCK_SECONDS, "the clock is off by {offset} s");
    assert_eq!(containers(world, PROFILE), before);
    everything_is_there(world);
}

pub(crate) fn a_paused_cluster_stands_still(world: &World) {
    let (number, began) = (counter(world, PROFILE), Instant::now());
    world.ok(&["pause", "-p", PROFILE]);
    assert_eq!(world.status(PROFILE)["Host"], "Paused");
    std::thread::sleep(AWAY);
    world.ok(&["unpause", "-p", PROFILE]);
    stood_still(number, counter(world, PROFILE), began, AWAY);
    let offset = clock_offset(world, PROFILE);
    assert!(offset.abs() < CLOCK_SECONDS, "the clock is off by {offset} s");
    assert_eq!(world.status(PROFILE)["APIServer"], "Running");
}

pub(crate) fn a_stop_in_a_rollout_delays_it(world: &World) {
    world.kubectl(&["scale", "deployment/counter", "--replicas=3"]);
    world.kubectl(&["set", "env", "deployment/counter", "ROUND=2"]);
    world.ok(&["stop", "-p", PROFILE]);
    world.ok(&["start", "-p", PROFILE]);
    world.kubectl(&["rollout", "status", "deployment/counter", "--timeout=180s"]);
    world.kubectl(&["scale", "deployment/counter", "--replicas=1"]);
}

/// Disk and memory come back together: objects, files, and a count.
pub(crate) fn a_snapshot_brings_all_back(world: &World) {
    world.kubectl(&["rollout", "status", "deployment/counter", "--timeout=180s"]);
    let number = counter(world, PROFILE);
    world.ok(&["snapshot", "save", "-p", PROFILE, "before"]);
    let again = world
        .sampan(&["snapshot", "save", "-p", PROFILE, "before"])
        .output()
        .unwrap();
    assert!(!again.status.success(), "{}", shown(&again));
    assert!(counter(world, PROFILE) >= number, "saving restarted it");
    world.kubectl(&["delete", "configmap", "written"]);
    world.kubectl(&[
        "exec",
        "app",
        "--",
        "sh",
        "-c",
        "echo spoilt > /data/file && sync",
    ]);
    std::thread::sleep(Duration::from_secs(20));
    let spoilt = counter(world, PROFILE);
    world.ok(&["snapshot", "restore", "-p", PROFILE, "before"]);
    let restored = counter(world, PROFILE);
    assert!(
        (number..spoilt).contains(&restored),
        "{number}, {spoilt}, then {restored}"
    );
    everything_is_there(world);
    client::leads_to_a_docker(world, PROFILE);
    let offset = clock_offset(world, PROFILE);
    assert!(offset.abs() < CLOCK_SECONDS, "the clock is off by {offset} s");
    assert!(world.ok(&["snapshot", "list", "-p", PROFILE]).contains("before"));
    let missing = world
        .sampan(&["snapshot", "restore", "-p", PROFILE, "after"])
        .output()
        .unwrap();
    assert!(
        !missing.status.success() && text(&missing.stderr).contains("before"),
        "{}",
        shown(&missing)
    );
    world.ok(&["snapshot", "delete", "-p", PROFILE, "before"]);
}

/// Both count on from the same number, at addresses of their own; what one writes, the other does not see.
pub(crate) fn a_fork_goes_its_own_way(world: &World) {
    let number = counter(world, PROFILE);
    world.ok(&["fork", PROFILE, "twin"]);
    assert_ne!(world.ok(&["ip", "-p", "twin"]), world.ok(&["ip", "-p", PROFILE]));
    assert!(counter(world, "twin") >= number);
    assert!(counter(world, PROFILE) >= number);
    let twin = ["--context", "twin"];
    world.kubectl(
        &[
            &twin[..],
            &["create", "configmap", "own", "--from-literal=key=twin"],
        ]
        .concat(),
    );
    let missing = world.kubectl_with(&["--context", PROFILE, "get", "configmap", "own"], "");
    assert!(!missing.status.success(), "{}", shown(&missing));
    world.kubectl(&["--context", PROFILE, "get", "configmap", "written"]);
    let id = |profile| world.ok(&["ssh", "-p", profile, "--", "cat /etc/machine-id"]);
    assert_ne!(id("twin"), id(PROFILE));
    let random = |profile| {
        world.ok(&[
            "ssh",
            "-p",
            profile,
            "--",
            "head -c 16 /dev/urandom | od -An -tx1",
        ])
    };
    assert_ne!(random("twin"), random(PROFILE));
    let log = world.ok(&["ssh", "-p", "twin", "--", "dmesg"]);
    assert!(log.contains("crng reseeded due to virtual machine fork"), "{log}");
    node_did_not_flap(world, "twin");
    client::leads_to_its_own_docker(world, "twin");
    let journal = world.ok(&["ssh", "-p", "twin", "--", "journalctl -u kubelet -n 5 --no-pager"]);
    assert!(journal.lines().count() >= 5, "no journal in a fork: {journal}");
    world.ok(&["delete", "-p", "twin"]);
    // The fork was the current context, as what was started last is.
    world.kubectl(&["config", "use-context", PROFILE]);
    everything_is_there(world);
}

/// `stop` and `start` are killed at a moment nobody chose; whatever is left comes up with everything that was acknowledged.
pub(crate) fn a_killed_stop_loses_nothing(world: &World) {
    let seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .subsec_nanos();
    for round in 0..3_u32 {
        let after = Duration::from_millis(u64::from(seed.wrapping_mul(2 * round + 7) % 1500));
        let verb = ["stop", "stop", "start"][round as usize];
        println!(
            "seed {seed}: round {round}: `{verb}` is killed after {} ms",
            after.as_millis()
        );
        let mark = format!("round-{round}");
        world.kubectl(&["create", "configmap", &mark, "--from-literal=key=value"]);
        world.kubectl(&[
            "exec",
            "app",
            "--",
            "sh",
            "-c",
            &format!("echo {mark} > /data/{mark} && sync"),
        ]);
        if verb == "start" {
            world.ok(&["stop", "-p", PROFILE]);
        }
        let mut command = world.sampan(&[verb, "-p", PROFILE]);
        let mut killed = Guard(
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        std::thread::sleep(after);
        let _ = killed.0.kill();
        let _ = killed.0.wait();
        world.ok(&["start", "-p", PROFILE]);
        world.kubectl(&["get", "configmap", &mark]);
        eventually("the write to the volume is there", PATIENCE, || {
            let output = world.kubectl_with(&["exec", "app", "--", "cat", &format!("/data/{mark}")], "");
            if text(&output.stdout) == mark {
                Ok(())
            } else {
                Err(shown(&output))
            }
        });
    }
}
