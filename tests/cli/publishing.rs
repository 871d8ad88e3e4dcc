//! What Services publish on the host, and the user's own ports, with clusters of the test driver.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sampan::provision::Api;
use serde_json::{Value, json};

use crate::faults::{nothing_is_left, processes_of};
use crate::life::alone;
use crate::support::TestEnvironment;

/// How long things may take that nobody waits for.
const SOON: Duration = Duration::from_secs(20);

/// A running cluster.
struct Running<'a> {
    env: &'a TestEnvironment,
    name: &'static str,
    api: Api,
    address: IpAddr,
}

impl<'a> Running<'a> {
    fn start(env: &'a TestEnvironment, name: &'static str) -> Self {
        env.ok(&format!("start -p {name} --driver fake --memory 3g"));
        let files = env.layout().profile(name);
        let address: IpAddr = env.ok(&format!("ip -p {name}")).trim().parse().unwrap();
        let pki = files.pki();
        let api = Api::new(
            (address, 6443).into(),
            &pki.join("ca.crt"),
            &pki.join("admin.crt"),
            &pki.join("admin.key"),
        );
        Self {
            env,
            name,
            api: api.unwrap(),
            address,
        }
    }

    fn at(&self, port: u16) -> SocketAddr {
        (self.address, port).into()
    }

    fn service(&self, name: &str, kind: &str, ports: &Value) {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "default" },
            "spec": { "type": kind, "ports": ports },
        });
        self.api.apply(&[service]).unwrap();
    }

    fn node_port(&self, name: &str, port: u16) {
        self.service(
            name,
            "NodePort",
            &json!([{ "port": 80, "nodePort": port, "protocol": "TCP" }]),
        );
    }

    fn remove(&self, name: &str) {
        self.api
            .delete(&format!("/api/v1/namespaces/default/services/{name}"))
            .unwrap();
    }

    fn status(&self, name: &str) -> Value {
        let path = format!("/api/v1/namespaces/default/services/{name}");
        self.api.get(&path).unwrap()["status"]["loadBalancer"]["ingress"].take()
    }

    fn events(&self) -> String {
        let path = "/apis/events.k8s.io/v1/namespaces/default/events";
        self.api.get(path).unwrap()["items"].to_string()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.env.layout().profile(self.name).supervisor_log()).unwrap_or_default()
    }

    /// Process ids of the supervisor: one, or none.
    fn supervisors(&self) -> Vec<String> {
        let profile = format!("supervise --profile {}", self.name);
        let lines = processes_of(&self.env.layout().data).into_iter();
        lines.filter(|line| line.contains(&profile)).collect()
    }

    fn pid(&self) -> String {
        let log = self.log();
        let line = log.lines().rfind(|line| line.contains(" is process ")).unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    }
}

fn soon(what: &str, mut happened: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !happened() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What is answered there.
fn page(at: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(at).ok()?;
    stream.set_read_timeout(Some(SOON)).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn answers(at: SocketAddr, guest_port: u16) -> bool {
    page(at).is_some_and(|page| page.contains(&format!("guest port {guest_port}\n")))
}

fn echoes(at: SocketAddr) -> bool {
    let socket = UdpSocket::bind((at.ip(), 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut bytes = [0; 8];
    socket.send_to(b"hello", at).is_ok()
        && socket
            .recv(&mut bytes)
            .is_ok_and(|count| &bytes[..count] == b"hello")
}

fn is_closed(at: SocketAddr) -> bool {
    TcpStream::connect(at).is_err()
}

#[test]
fn services_are_published_and_withdrawn_without_a_command() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    let cluster = Running::start(&env, "sampan");
    cluster.node_port("web", 30080);
    cluster.service(
        "dns",
        "NodePort",
        &json!([{ "port": 53, "nodePort": 30053, "protocol": "UDP" }]),
    );
    cluster.service(
        "lb",
        "LoadBalancer",
        &json!([{ "port": 9080, "nodePort": 31000, "protocol": "TCP" }, { "port": 2222, "nodePort": 31001, "name": "b" }]),
    );
    soon("the node port", || answers(cluster.at(30080), 30080));
    soon("datagrams", || echoes(cluster.at(30053)));
    soon("the load balancer", || answers(cluster.at(9080), 31000));
    // 2222 is the machine's own.
    soon("the nearest free port", || answers(cluster.at(2223), 31001));
    let address = cluster.address.to_string();
    soon("its status", || {
        cluster.status("lb")
            == json!([{ "ip": address, "ipMode": "Proxy", "ports": [
                { "port": 9080, "protocol": "TCP" }, { "port": 2223, "protocol": "TCP" }] }])
    });
    cluster.service("lb", "ClusterIP", &json!([{ "port": 9080 }]));
    soon("the status is taken back", || cluster.status("lb") == json!([]));
    soon("the balancer is withdrawn", || is_closed(cluster.at(9080)));
    cluster.remove("web");
    cluster.remove("dns");
    soon("the node port is withdrawn", || is_closed(cluster.at(30080)));
    soon("datagrams are withdrawn", || !echoes(cluster.at(30053)));

    // Neither stop nor delete leaves anything; another start publishes again.
    cluster.node_port("web", 30080);
    soon("the node port", || answers(cluster.at(30080), 30080));
    env.ok("stop");
    assert_eq!(processes_of(&env.layout().data), Vec::<String>::new());
    assert!(is_closed(cluster.at(30080)));
    env.ok("start");
    soon("the node port after a start", || {
        answers(cluster.at(30080), 30080)
    });
    env.ok("pause");
    env.ok("unpause");
    assert!(answers(cluster.at(30080), 30080));
    env.ok("delete");
    nothing_is_left(&env);
}

#[test]
fn a_supervisor_that_was_killed_is_healed_by_the_next_command_and_another_versions_is_replaced() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    let cluster = Running::start(&env, "sampan");
    cluster.node_port("web", 30080);
    soon("the node port", || answers(cluster.at(30080), 30080));
    assert_eq!(cluster.supervisors().len(), 1);
    let killed = cluster.pid();
    assert!(
        Command::new("kill")
            .args(["-9", &killed])
            .status()
            .unwrap()
            .success()
    );
    soon("it is gone", || cluster.supervisors().is_empty());
    cluster.remove("web");
    cluster.node_port("other", 30081);
    env.ok("status");
    assert_ne!(cluster.pid(), killed);
    soon("what was missed", || {
        answers(cluster.at(30081), 30081) && is_closed(cluster.at(30080))
    });

    // One of another version: its socket says so.
    let socket = env.layout().profile("sampan").supervisor_socket();
    env.ok("stop");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let old = std::thread::spawn(move || {
        let mut asked = Vec::new();
        while !asked.contains(&"quit".to_owned()) {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap())
                .read_line(&mut line)
                .unwrap();
            let question: Value = serde_json::from_str(&line).unwrap();
            asked.push(question["ask"].as_str().unwrap().to_owned());
            writeln!(stream, "{}", json!({ "version": "0.0.1" })).unwrap();
        }
        asked
    });
    env.ok("start");
    assert_eq!(old.join().unwrap(), ["refresh", "quit"], "a start after a stop");
    soon("the new one publishes", || answers(cluster.at(30081), 30081));
    assert_eq!(cluster.supervisors().len(), 1);
}

#[test]
fn two_clusters_have_the_same_node_port_and_a_taken_one_is_told_and_tried_again() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    let (one, two) = (Running::start(&env, "one"), Running::start(&env, "two"));
    assert_ne!(one.address, two.address);
    let somebody = TcpListener::bind(two.at(30080)).unwrap();
    one.node_port("web", 30080);
    two.node_port("web", 30080);
    soon("the first", || answers(one.at(30080), 30080));
    soon("the trouble is told", || two.events().contains("PortTaken"));
    assert!(two.events().contains("30080 of"), "{}", two.events());
    drop(somebody);
    soon("it is free", || answers(two.at(30080), 30080));
    soon("the end of the trouble is told", || {
        two.events().contains("Published")
    });
    assert!(!one.events().contains("PortTaken"));
    env.ok("delete -p one");
    assert!(answers(two.at(30080), 30080));
}

#[test]
fn ports_of_the_users_own_are_kept() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    assert_eq!(env.status("port add 9000:8000"), 85);
    let cluster = Running::start(&env, "sampan");
    env.ok("port add 9000:8000");
    assert!(answers(cluster.at(9000), 8000));
    env.ok("port add 9000:8000");
    assert_eq!(env.status("port add 9000:8001"), 81);
    let somebody = TcpListener::bind(cluster.at(9001)).unwrap();
    assert_eq!(env.status("port add 9001:8001"), 71);
    drop(somebody);
    soon("the port is free", || answers(cluster.at(9001), 8001));
    assert_eq!(env.status("port add 2222:8001"), 71);
    env.ok("port remove 2222");
    env.ok("stop");
    env.ok("port add udp:9002:8002");
    env.ok("start");
    soon("all are there again", || {
        answers(cluster.at(9000), 8000) && answers(cluster.at(9001), 8001) && echoes(cluster.at(9002))
    });
    let list: Value = serde_json::from_str(&env.ok("port list -o json")).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 3, "{list}");
    assert_eq!(list[0]["at"], json!(cluster.at(9000).to_string()));
    env.ok("port remove 9000");
    assert!(is_closed(cluster.at(9000)));
    assert_eq!(env.status("port remove 9000"), 85);
    for wrong in ["port add 9000", "port add 0.0.0.0:1:2", "port add 1:99999"] {
        assert_eq!(env.status(wrong), 14, "{wrong}");
    }
}

#[test]
fn a_tunnel_shows_what_is_published_until_it_is_interrupted() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    assert_eq!(env.status("tunnel"), 85);
    let cluster = Running::start(&env, "sampan");
    cluster.node_port("web", 30080);
    let mut tunnel = env
        .command(&["tunnel", "--cleanup"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tunnel.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let at = cluster.at(30080).to_string();
    assert!(lines.any(|line| line.contains("web") && line.contains(&at)));
    cluster.remove("web");
    assert!(lines.any(|line| line == "default/web 80/tcp (node port): gone"));
    let pid = tunnel.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(tunnel.wait().unwrap().code(), Some(0));
    env.ok("stop");
    assert_eq!(env.status("tunnel"), 83);
}

#[test]
fn bursts_of_events_neither_starve_nor_leak() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    let cluster = Running::start(&env, "sampan");
    let descriptors = |pid: &str| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    cluster.node_port("web", 30080);
    soon("the node port", || answers(cluster.at(30080), 30080));
    let (pid, before) = (cluster.pid(), descriptors(&cluster.pid()));
    for round in 0..10_u16 {
        for number in 0..20 {
            cluster.node_port(&format!("s{number}"), 31000 + number);
        }
        if round % 2 == 0 {
            // Amid all that, somebody who comes is served.
            cluster.node_port("other", 32000);
            soon("another one", || answers(cluster.at(32000), 32000));
            cluster.remove("other");
        }
        for number in 0..20 {
            cluster.remove(&format!("s{number}"));
        }
    }
    soon("all are withdrawn", || {
        (0..20).all(|number| is_closed(cluster.at(31000 + number))) && is_closed(cluster.at(32000))
    });
    assert!(answers(cluster.at(30080), 30080));
    assert_eq!(cluster.pid(), pid);
    soon("no descriptor is left", || descriptors(&pid) <= before + 2);
}
