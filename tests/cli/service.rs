//! `service` on the test driver's cluster.

use serde_json::{Value, json};

use crate::addons::api;
use crate::life::alone;
use crate::saving::START;
use crate::support::TestEnvironment;

pub(crate) fn make(env: &TestEnvironment, name: &str, kind: &str, port: u16, node_port: Option<u16>) {
    let mut object = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "default" },
        "spec": { "type": kind, "selector": { "app": name }, "ports": [{ "name": "http", "port": port, "protocol": "TCP" }] },
    });
    if let Some(port) = node_port {
        object["spec"]["ports"][0]["nodePort"] = json!(port);
    }
    api(env).apply(&[object]).unwrap();
}

pub(crate) fn run_pods(env: &TestEnvironment, name: &str) {
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name, "namespace": "default" },
        "spec": { "replicas": 1, "template": { "metadata": { "labels": { "app": name } } } },
    });
    api(env).apply(&[object]).unwrap();
}

/// A table whose columns are as wide as they need be: addresses differ in length.
fn squeezed(text: &str) -> String {
    let mut all = String::new();
    for c in text.chars() {
        if !(all.ends_with(c) && "─═ ".contains(c)) {
            all.push(c);
        }
    }
    all
}

#[test]
fn what_cannot_be_reached_is_told_with_the_status_that_scripts_know() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    assert_eq!(env.status("service web"), 85);
    env.ok(START);
    make(&env, "web", "NodePort", 80, Some(30_080));
    insta::assert_snapshot!(env.run("service wbe --url --wait 0"), @r#"
    status: 115
    --- stdout
    --- stderr
    X Exiting due to SVC_NOT_FOUND: service "wbe" was not found in namespace "default"
    hint: choose another namespace with -n; `sampan service list` lists what there is
    "#);
    insta::assert_snapshot!(env.run("service web --url -n nowhere --wait 0"), @r#"
    status: 115
    --- stdout
    --- stderr
    X Exiting due to SVC_NOT_FOUND: there is no namespace "nowhere"
    hint: `kubectl get namespaces` lists those there are
    "#);
    insta::assert_snapshot!(env.run("service web --url"), @r#"
    status: 115
    --- stdout
    http://ADDRESS:30080
    --- stderr
    X Exiting due to SVC_UNREACHABLE: service not available: no running pod for service default/web found
    hint: see its pods: kubectl get pods -n default -l app=web
    "#);
    insta::assert_snapshot!(env.run("service web --format {{.Prot}}"), @r#"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: there is no field `.Prot`
    hint: did you mean `Port`?
    "#);
    insta::assert_snapshot!(env.run("service list -n nowhere"), @r#"
    status: 115
    --- stdout
    --- stderr
    X Exiting due to SVC_NOT_FOUND: there is no namespace "nowhere"
    hint: `kubectl get namespaces` lists those there are
    "#);
    insta::assert_snapshot!(env.run("service"), @r#"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: the following required arguments were not provided: <NAME>...
    hint: `sampan help`, or `--help` behind a command, tells what there is
    "#);
    env.ok("pause");
    assert_eq!(env.status("service web --url"), 103);
    env.ok("unpause");
    env.ok("stop");
    assert_eq!(env.status("service web --url"), 83);
}

#[test]
fn urls_are_those_of_published_ports() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(START);
    make(&env, "web", "NodePort", 80, Some(30_080));
    run_pods(&env, "web");
    let address = env.ok("ip").trim().to_owned();
    assert_eq!(env.ok("service web --url"), format!("http://{address}:30080\n"));
    assert_eq!(
        env.ok("service web --url --https"),
        format!("https://{address}:30080\n")
    );
    assert_eq!(
        env.ok("service web --url --format {{.IP}}/{{.Port}}/{{.Name}}"),
        format!("{address}/30080/http\n")
    );
    insta::assert_snapshot!(squeezed(&env.run("service web")), @r#"
    status: 0
    --- stdout
    ┌─┬─┬─┬─┐
    │ NAMESPACE ┆ NAME ┆ TARGET PORT ┆ URL │
    ╞═╪═╪═╪═╡
    │ default ┆ web ┆ http/80 ┆ http://ADDRESS:30080 │
    └─┴─┴─┴─┘
    --- stderr
    "#);
    insta::assert_snapshot!(squeezed(&env.run("service --all")), @r#"
    status: 0
    --- stdout
    ┌─┬─┬─┬─┐
    │ NAMESPACE ┆ NAME ┆ TARGET PORT ┆ URL │
    ╞═╪═╪═╪═╡
    │ default ┆ web ┆ http/80 ┆ http://ADDRESS:30080 │
    └─┴─┴─┴─┘
    --- stderr
    ! service default/kubernetes has no node port
    "#);
    insta::assert_snapshot!(squeezed(&env.run("service list")), @r#"
    status: 0
    --- stdout
    ┌─┬─┬─┬─┐
    │ NAMESPACE ┆ NAME ┆ TARGET PORT ┆ URL │
    ╞═╪═╪═╪═╡
    │ default ┆ kubernetes ┆ No node port ┆ │
    │ default ┆ web ┆ http/80 ┆ http://ADDRESS:30080 │
    │ kube-system ┆ kube-dns ┆ No node port ┆ │
    └─┴─┴─┴─┘
    --- stderr
    "#);
    let list: Value = serde_json::from_str(&env.ok("service list -o json -n default")).unwrap();
    let web = list
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["Name"] == "web")
        .unwrap()
        .clone();
    assert_eq!(
        web,
        json!({ "Namespace": "default", "Name": "web", "URLs": [format!("http://{address}:30080")], "PortNames": ["http/80"] })
    );
}

#[test]
fn a_port_that_is_taken_is_told_and_has_a_status_of_its_own() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(START);
    let address = env.ok("ip").trim().to_owned();
    let _taken = std::net::TcpListener::bind(format!("{address}:30081")).unwrap();
    make(&env, "web", "NodePort", 80, Some(30_081));
    run_pods(&env, "web");
    insta::assert_snapshot!(env.run("service web --url"), @r#"
    status: 119
    --- stdout
    --- stderr
    X Exiting due to SVC_URL: port http/80 of service default/web is not published: tcp port 30081 of ADDRESS is in use by another program
    hint: `sampan service list` shows what is; --wait SECONDS waits longer
    "#);
    let seen = env.run("service list");
    assert!(seen.contains("30081"), "{seen}");
}
