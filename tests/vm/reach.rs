//! What a user reaches of a running cluster from the host.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::{NODE, PROFILE, World, eventually, text};

/// What listens on the host's loopback is reached from a pod and from the node, by name.
pub(crate) fn the_host_has_a_name(world: &World) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!(
        "http://host.sampan.internal:{}/",
        listener.local_addr().unwrap().port()
    );
    let host = thread::spawn(move || {
        for _ in 0..2 {
            let (mut client, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            assert!(client.read(&mut request).unwrap() > 0);
            let answer = b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nthe host\n";
            client.write_all(answer).unwrap();
        }
    });
    assert_eq!(
        world.kubectl(&["exec", "app", "--", "wget", "-qO-", &url]),
        "the host"
    );
    let curl = ["ssh", "-p", PROFILE, "--", "curl", "-sS", &url];
    assert_eq!(world.ok(&curl), "the host");
    host.join().unwrap();
}

pub(crate) fn status_and_profile_list_tell_the_state(world: &World) {
    let output = world.sampan(&["status", "-p", PROFILE]).output().unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}");
    for line in [
        "type: Control Plane",
        "host: Running",
        "kubelet: Running",
        "apiserver: Running",
        "kubeconfig: Configured",
    ] {
        assert!(said.lines().any(|said| said == line), "no \"{line}\" in:\n{said}");
    }
    assert_eq!(world.status(PROFILE)["APIServer"], "Running");
    let list: Value = serde_json::from_str(&world.ok(&["profile", "list", "-o", "json"])).unwrap();
    assert_eq!(list["valid"][0]["Name"], PROFILE);
    assert_eq!(list["valid"][0]["Status"], "OK");
    kubelet_is_asked_when_its_lease_is_old(world);
}

/// As it is when a machine has just gone on after it was saved.
fn kubelet_is_asked_when_its_lease_is_old(world: &World) {
    let kubelet = |verb| world.ok(&["ssh", "-p", PROFILE, "--", "systemctl", verb, "kubelet"]);
    let age = || {
        let old = r#"{"spec":{"renewTime":"2020-01-01T00:00:00.000000Z"}}"#;
        world.kubectl(&[
            "-n",
            "kube-node-lease",
            "patch",
            "lease",
            NODE,
            "--type=merge",
            "-p",
            old,
        ]);
    };
    age();
    assert_eq!(world.status(PROFILE)["Kubelet"], "Running");
    kubelet("stop");
    age();
    assert_eq!(world.status(PROFILE)["Kubelet"], "Stopped");
    kubelet("start");
    eventually(
        "the kubelet answers again",
        Duration::from_secs(60),
        || match &world.status(PROFILE)["Kubelet"] {
            state if state == "Running" => Ok(()),
            state => Err(state.to_string()),
        },
    );
}

pub(crate) fn ssh_cp_logs_ip_and_kubectl_reach_the_node(world: &World) {
    assert_eq!(world.ok(&["ssh", "-p", PROFILE, "--", "hostname"]), NODE);
    let output = world
        .sampan(&["ssh", "-p", PROFILE, "--", "exit 7"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(7));
    let file = world.home().join("sent");
    std::fs::write(&file, "a file").unwrap();
    world.ok(&["cp", "-p", PROFILE, file.to_str().unwrap(), "/tmp/sent"]);
    assert_eq!(
        world.ok(&["ssh", "-p", PROFILE, "--", "cat", "/tmp/sent"]),
        "a file"
    );
    let logs = world.ok(&["logs", "-p", PROFILE, "-n", "20"]);
    assert!(logs.contains("kubelet"), "{logs}");
    let ip = world.ok(&["ip", "-p", PROFILE]);
    assert!(world.kubectl(&["cluster-info"]).contains(&ip), "{ip}");
    let nodes = world.ok(&["kubectl", "-p", PROFILE, "--", "get", "nodes", "-o", "name"]);
    assert_eq!(nodes, format!("node/{NODE}"));
    assert!(std::path::Path::new(&world.ok(&["ssh-key", "-p", PROFILE])).is_file());
}
