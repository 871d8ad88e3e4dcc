use std::sync::Arc;

use futures_util::stream;
use k8s_openapi::api::core::v1;
use kube::runtime::watcher::{self, Event};

use super::super::board::tests::{Host, board};
use super::*;
use crate::cluster::DriverOptions;
use crate::layout::Layout;
use crate::progress::{Cancel, Silent};

const PROFILE: &str = r#"
format = 1
bundle = "b"
base = "b"
address = "127.77.1.77"
api_port = 6443
ssh_port = 2222
[spec]
name = "a"
driver = "fake"
cpus = 2
memory_mib = 2048
disk_mib = 20000
kubernetes_version = "v1.36.3"
dns_domain = "cluster.local"
service_cidr = "10.96.0.0/12"
pod_cidr = "10.244.0.0/16"
"#;

fn service(name: &str, node_port: u16) -> v1::Service {
    let service = serde_json::json!({
        "metadata": { "name": name, "namespace": "default", "uid": name },
        "spec": { "type": "NodePort", "ports": [{ "port": 80, "nodePort": node_port }] },
    });
    serde_json::from_value(service).unwrap()
}

fn ports(host: &Host) -> Vec<u16> {
    let there = host.there.lock().unwrap();
    there.keys().map(|(_, host)| host.port()).collect()
}

/// Runs a supervisor that sees these events, until what is published is what is expected.
async fn see(host: &Host, events: Vec<Event<v1::Service>>, expected: &[u16]) {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::under(dir.path());
    let files = layout.profile("a");
    std::fs::create_dir_all(&files.dir).unwrap();
    let ctx = Context {
        layout,
        reporter: Arc::new(Silent),
        cancel: Cancel::default(),
        drivers: DriverOptions::default(),
        kubeconfig: Vec::new(),
    };
    let listener = socket::listen(&files.supervisor_socket()).unwrap();
    let listener = tokio::net::UnixListener::from_std(listener).unwrap();
    // Nobody is there, and nobody is asked.
    let client = kube::Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
    let mut supervisor = Supervisor::new(
        &ctx,
        toml::from_str(PROFILE).unwrap(),
        files,
        board(host),
        listener,
        client,
    );
    let events = stream::iter(events.into_iter().map(Ok::<_, watcher::Error>));
    supervisor.watch = Box::pin(events.chain(stream::pending()));
    let looks = || *host.looks.lock().unwrap();
    let before = looks();
    let done = async {
        let end = Instant::now() + Duration::from_secs(60);
        while looks() == before || ports(host) != expected {
            assert!(Instant::now() < end, "{:?}", ports(host));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = supervisor.live(None) => panic!("it ended"),
        () = done => {}
    }
}

#[tokio::test]
async fn ten_thousand_events_cost_a_few_rounds() {
    let host = Host::default();
    let mut events = vec![Event::Init, Event::InitDone];
    for round in 0..10_000_u16 {
        let name = format!("s{}", round % 20);
        events.push(Event::Apply(service(&name, 30_000 + round % 100)));
        events.push(Event::Delete(service(&name, 30_000 + round % 100)));
    }
    events.push(Event::Apply(service("last", 32_000)));
    see(&host, events, &[32_000]).await;
    let looks = *host.looks.lock().unwrap();
    assert!(looks < 100, "{looks} rounds");
    assert_eq!(ports(&host), [32_000]);
}

#[tokio::test]
async fn what_was_missed_while_nobody_watched_is_put_right() {
    let host = Host::default();
    let first = vec![
        Event::Init,
        Event::InitApply(service("old", 30_001)),
        Event::InitDone,
    ];
    see(&host, first, &[30_001]).await;
    // Before a list is complete nothing is taken away.
    let half = vec![Event::Init, Event::InitApply(service("new", 30_002))];
    see(&host, half, &[30_001]).await;
    let whole = vec![
        Event::Init,
        Event::InitApply(service("new", 30_002)),
        Event::InitDone,
    ];
    see(&host, whole, &[30_002]).await;
}
