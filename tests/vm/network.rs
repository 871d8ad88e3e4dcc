//! What Services publish on the host: there by itself, gone by itself, whatever happens in between.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{PROFILE, World, eventually, signal, text};

/// What a NodePort may take, from the apiserver's answer to the first of its own on the host; the machine that runs this may be busy.
const PROMPTLY: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(120);

/// CoreDNS is in every cluster and speaks all that is needed: HTTP for its figures, DNS over datagrams and connections.
const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: figures, namespace: kube-system}
spec:
  type: NodePort
  selector: {k8s-app: kube-dns}
  ports: [{name: figures, port: 9153, nodePort: 30153}]
---
apiVersion: v1
kind: Service
metadata: {name: names, namespace: kube-system}
spec:
  type: NodePort
  selector: {k8s-app: kube-dns}
  ports: [{name: names, port: 53, nodePort: 30053, protocol: UDP}]
";

/// No pod is behind it, ever.
const NOBODY: &str = "
apiVersion: v1
kind: Service
metadata: {name: nobody, namespace: kube-system}
spec:
  type: NodePort
  selector: {app: nobody}
  ports: [{name: nothing, port: 80, nodePort: 30154}]
";

const BALANCER: &str = "
apiVersion: v1
kind: Service
metadata: {name: balanced, namespace: kube-system}
spec:
  type: LoadBalancer
  selector: {k8s-app: kube-dns}
  ports: [{name: figures, port: 9153}]
";

fn address(world: &World) -> IpAddr {
    world.ok(&["ip", "-p", PROFILE]).trim().parse().unwrap()
}

/// The first line of an answer to `GET /metrics`.
fn get(at: SocketAddr) -> Result<String, String> {
    let said = |error: std::io::Error| format!("{at}: {error}");
    let mut stream = TcpStream::connect(at).map_err(said)?;
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .map_err(said)?;
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .map_err(said)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(said)?;
    match text.lines().next() {
        Some(line) if line.contains(" 200 ") => Ok(line.to_owned()),
        line => Err(format!("{at}: {line:?}")),
    }
}

/// Asks for kubernetes.default.svc.cluster.local and expects an answer with an address.
fn resolve(at: SocketAddr) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{at}: {error}");
    let mut question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    for label in ["kubernetes", "default", "svc", "cluster", "local"] {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend(label.as_bytes());
    }
    question.extend(b"\x00\x00\x01\x00\x01");
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(said)?;
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .map_err(said)?;
    socket.send_to(&question, at).map_err(said)?;
    let mut answer = [0; 512];
    let (length, from) = socket.recv_from(&mut answer).map_err(said)?;
    let answers = u16::from_be_bytes([answer[6], answer[7]]);
    if length > question.len() && answers == 1 && from == at {
        Ok(())
    } else {
        Err(format!("{length} bytes from {from} with {answers} answers"))
    }
}

fn closed(at: SocketAddr) -> Result<(), String> {
    match TcpStream::connect(at) {
        Err(_) => Ok(()),
        Ok(_) => Err(format!("{at} is still there")),
    }
}

/// How long it takes until something is so.
fn took(what: &str, probe: impl FnMut() -> Result<(), String>) -> Duration {
    let began = Instant::now();
    eventually(what, LIMIT, probe);
    let took = began.elapsed();
    println!("    {what}: {} ms", took.as_millis());
    took
}

fn supervisor(world: &World) -> i32 {
    let log = world
        .home()
        .join("data/profiles")
        .join(PROFILE)
        .join("supervisor.log");
    let log = fs::read_to_string(log).unwrap();
    let line = log.lines().rfind(|line| line.contains(" is process ")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Node ports are there promptly after they were made and gone promptly after, TCP and UDP, with no command.
pub(crate) fn services_are_reached_by_themselves(world: &World) {
    let address = address(world);
    let (figures, names): (SocketAddr, SocketAddr) = ((address, 30153).into(), (address, 30053).into());
    world.apply(SERVICES);
    let listens = || {
        TcpStream::connect(figures)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert!(took("the node port listens", listens) < PROMPTLY);
    took("its first answer", || get(figures).map(drop));
    took("a name by datagrams", || resolve(names));
    world.apply(BALANCER);
    let balanced: SocketAddr = (address, 9153).into();
    took("the load balancer", || get(balanced).map(drop));
    let status = eventually("its status", LIMIT, || {
        let service = world.kubectl(&["get", "service", "-n", "kube-system", "balanced", "-o", "json"]);
        let service: Value = serde_json::from_str(&service).map_err(|error| error.to_string())?;
        let ingress = service["status"]["loadBalancer"]["ingress"][0].clone();
        if ingress.is_null() {
            Err("nothing yet".to_owned())
        } else {
            Ok(ingress)
        }
    });
    assert_eq!(status["ip"], address.to_string());
    assert_eq!(status["ports"][0]["port"], 9153);
    assert_eq!(status["ipMode"], "Proxy");
    world.kubectl(&["delete", "service", "-n", "kube-system", "balanced", "figures"]);
    assert!(took("the node port is gone", || closed(figures)) < PROMPTLY);
    took("the load balancer is gone", || closed(balanced));
    world.apply(SERVICES);
    took("the node port again", || get(figures).map(drop));
}

/// Who asks before there are pods is refused at once, and does not hang until somebody retransmits.
pub(crate) fn a_port_without_pods_refuses(world: &World) {
    let nobody: SocketAddr = (address(world), 30154).into();
    world.apply(NOBODY);
    let end = Instant::now() + Duration::from_secs(6);
    let mut refused = 0;
    while Instant::now() < end {
        let asked = Instant::now();
        let error = get(nobody).unwrap_err();
        // Retransmitting takes six seconds.
        assert!(asked.elapsed() < Duration::from_secs(4), "{error}");
        refused += 1;
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(refused > 5, "{refused}");
    world.kubectl(&["delete", "service", "-n", "kube-system", "nobody"]);
}

/// A supervisor that is killed stops nothing that is published, and the next command heals it; nor does an apiserver that restarts.
pub(crate) fn publishing_outlives_its_supervisor_and_the_apiserver(world: &World) {
    let address = address(world);
    let figures: SocketAddr = (address, 30153).into();
    let killed = supervisor(world);
    signal(killed, Signal::KILL);
    get(figures).unwrap();
    world.kubectl(&["delete", "service", "-n", "kube-system", "figures"]);
    world.ok(&["status", "-p", PROFILE]);
    assert_ne!(supervisor(world), killed);
    took("what was missed is done", || closed(figures));
    let alive = supervisor(world);

    world.ok(&["ssh", "-p", PROFILE, "--", "pkill", "-9", "-f", "^kube-apiserver"]);
    eventually("the apiserver is back", Duration::from_secs(300), || {
        let output = world.kubectl_with(&["apply", "-f", "-"], SERVICES);
        output
            .status
            .success()
            .then_some(())
            .ok_or_else(|| text(&output.stderr))
    });
    took("the node port after that", || get(figures).map(drop));
    assert_eq!(supervisor(world), alive);
}

/// Thirty come and go, and neither forwards nor descriptors stay; what is there is there again after stop and start.
pub(crate) fn nothing_leaks_and_a_start_brings_all_back(world: &World) {
    let address = address(world);
    let pid = supervisor(world);
    let qemu = world.qemu(PROFILE).unwrap();
    let descriptors = |pid: i32| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let before = (descriptors(pid), descriptors(qemu));
    let ports: Vec<u16> = (31100..31130).collect();
    let services: String = ports
        .iter()
        .map(|port| {
            format!(
                "---\napiVersion: v1\nkind: Service\nmetadata: {{name: many-{port}, namespace: default, labels: {{many: 'yes'}}}}\n\
                 spec: {{type: NodePort, selector: {{app: none}}, ports: [{{port: 80, nodePort: {port}}}]}}\n"
            )
        })
        .collect();
    world.apply(&services);
    took("thirty listen", || {
        ports.iter().try_for_each(|port| {
            TcpStream::connect((address, *port))
                .map(drop)
                .map_err(|error| format!("{port}: {error}"))
        })
    });
    world.kubectl(&["delete", "service", "-l", "many=yes"]);
    took("none listens", || {
        ports.iter().try_for_each(|port| closed((address, *port).into()))
    });
    took("no descriptor stays", || {
        let after = (descriptors(pid), descriptors(qemu));
        let few = after.0 <= before.0 + 2 && after.1 <= before.1 + 2;
        few.then_some(())
            .ok_or_else(|| format!("{before:?}, then {after:?}"))
    });

    world.ok(&["port", "-p", PROFILE, "add", "9100:30153"]);
    world.ok(&["stop", "-p", PROFILE]);
    for port in [30153, 9100] {
        closed((address, port).into()).unwrap();
    }
    world.ok(&["start", "-p", PROFILE]);
    took("the node port after stop and start", || {
        get((address, 30153).into()).map(drop)
    });
    took("the user's own port", || get((address, 9100).into()).map(drop));
    world.ok(&["port", "-p", PROFILE, "remove", "9100"]);
    world.kubectl(&["delete", "-n", "kube-system", "service", "figures", "names"]);
}
