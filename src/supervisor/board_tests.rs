use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sampan_driver::{Disk, Endpoint, Features, Health, MachineState};

use super::super::containers;
use super::super::service::{Kind, Port};
use super::*;

type Result<T> = sampan_driver::Result<T>;

/// Forwards in memory, on a host where some ports are others'.
#[derive(Clone, Default)]
pub(in crate::supervisor) struct Host {
    pub(in crate::supervisor) there: Arc<Mutex<BTreeMap<Slot, u16>>>,
    others: Arc<Mutex<Vec<u16>>>,
    calls: Arc<Mutex<usize>>,
    /// How often everything was looked at.
    pub(in crate::supervisor) looks: Arc<Mutex<usize>>,
}

impl PortForward for Host {
    fn add(&self, _: &MachineSpec, forward: &Forward) -> Result<()> {
        *self.calls.lock().unwrap() += 1;
        let (slot, guest) = plan::entry(*forward);
        let taken = self.others.lock().unwrap().contains(&forward.host.port());
        if taken
            || self
                .there
                .lock()
                .unwrap()
                .get(&slot)
                .is_some_and(|there| *there != guest)
        {
            return Err(DriverError::PortTaken { port: forward.host });
        }
        self.there.lock().unwrap().insert(slot, guest);
        Ok(())
    }

    fn remove(&self, _: &MachineSpec, forward: &Forward) -> Result<()> {
        *self.calls.lock().unwrap() += 1;
        self.there
            .lock()
            .unwrap()
            .remove(&(forward.protocol, forward.host));
        Ok(())
    }

    fn list(&self, spec: &MachineSpec) -> Result<Vec<Forward>> {
        *self.looks.lock().unwrap() += 1;
        let there = self.there.lock().unwrap();
        let forward = |(&(protocol, host), &guest_port): (&Slot, &u16)| Forward {
            host,
            guest_port,
            protocol,
        };
        Ok(spec
            .forwards
            .iter()
            .copied()
            .chain(there.iter().map(forward))
            .collect())
    }
}

/// A driver of which only the ability matters.
impl Driver for Host {
    fn name(&self) -> &'static str {
        "host"
    }
    fn features(&self) -> Features {
        Features {
            direct_boot: false,
            forwards: true,
            publishing: true,
            loopback_range: true,
            snapshots: false,
            ssh: false,
        }
    }
    fn check(&self) -> Result<Health> {
        unreachable!()
    }
    fn create(&self, _: &MachineSpec) -> Result<()> {
        unreachable!()
    }
    fn start(&self, _: &MachineSpec) -> Result<()> {
        unreachable!()
    }
    fn stop(&self, _: &MachineSpec, _: Duration) -> Result<()> {
        unreachable!()
    }
    fn kill(&self, _: &MachineSpec) -> Result<()> {
        unreachable!()
    }
    fn remove(&self, _: &MachineSpec) -> Result<()> {
        unreachable!()
    }
    fn state(&self, _: &MachineSpec) -> Result<MachineState> {
        unreachable!()
    }
    fn endpoint(&self, _: &MachineSpec) -> Result<Endpoint> {
        unreachable!()
    }
    fn port_forward(&self) -> Option<&dyn PortForward> {
        Some(self)
    }
}

/// Nobody else's in tests: ports are really looked at.
fn address() -> IpAddr {
    [127, 77, 1, 77].into()
}

pub(in crate::supervisor) fn board(host: &Host) -> Board {
    let spec = MachineSpec {
        name: "a".into(),
        dir: "/nowhere".into(),
        cpus: 1,
        memory_mib: 1,
        disk: Disk {
            base: "/nowhere".into(),
            size_mib: 1,
        },
        extra_disks: Vec::new(),
        boot: None,
        forwards: vec![Forward::tcp((address(), 6443).into(), 8443)],
    };
    Board::new(Box::new(host.clone()), spec, address())
}

fn service(name: &str, kind: Kind, port: u16, node_port: u16) -> Service {
    Service {
        namespace: "default".into(),
        name: name.into(),
        uid: name.into(),
        created: String::new(),
        kind: Some(kind),
        ports: vec![Port {
            name: None,
            port,
            node_port: Some(node_port),
            protocol: Some(Protocol::Tcp),
        }],
        ingress: Vec::new(),
    }
}

fn wanted(services: &[Service]) -> Wanted {
    Wanted {
        services: Some(services.to_vec()),
        containers: Some(Vec::new()),
        rules: Vec::new(),
    }
}

fn ports(host: &Host) -> Vec<(u16, u16)> {
    let there = host.there.lock().unwrap();
    there
        .iter()
        .map(|((_, host), guest)| (host.port(), *guest))
        .collect()
}

#[test]
fn what_is_published_follows_what_is_wanted_and_nothing_is_done_twice() {
    let host = Host::default();
    let mut board = board(&host);
    let both = [
        service("web", Kind::NodePort, 80, 30080),
        service("lb", Kind::LoadBalancer, 9080, 31000),
    ];
    let outcome = board.apply(&wanted(&both));
    assert!(!outcome.again && outcome.complete, "{outcome:?}");
    assert_eq!(ports(&host), [(9080, 31000), (30080, 30080), (31000, 31000)]);
    let calls = *host.calls.lock().unwrap();
    board.apply(&wanted(&both));
    assert_eq!(*host.calls.lock().unwrap(), calls);
    // Somebody took one away behind our back.
    host.there
        .lock()
        .unwrap()
        .remove(&(Protocol::Tcp, (address(), 30080).into()));
    board.apply(&wanted(&both));
    assert_eq!(ports(&host).len(), 3);
    board.apply(&wanted(&[]));
    assert_eq!(ports(&host), []);
}

#[test]
fn a_taken_port_is_trouble_until_it_is_free_and_a_balancer_moves_on() {
    let host = Host::default();
    host.others.lock().unwrap().extend([30080, 9080]);
    let mut board = board(&host);
    let both = [
        service("web", Kind::NodePort, 80, 30080),
        service("lb", Kind::LoadBalancer, 9080, 31000),
    ];
    let outcome = board.apply(&wanted(&both));
    assert!(outcome.again);
    let trouble = outcome
        .published
        .iter()
        .find(|publication| publication.service == "web")
        .unwrap();
    assert!(
        trouble.at.is_none()
            && trouble
                .trouble
                .as_ref()
                .unwrap()
                .contains("30080 of 127.77.1.77 is in use")
    );
    assert_eq!(ports(&host), [(9081, 31000), (31000, 31000)]);
    host.others.lock().unwrap().clear();
    let outcome = board.apply(&wanted(&both));
    assert!(!outcome.again);
    assert_eq!(ports(&host), [(9081, 31000), (30080, 30080), (31000, 31000)]);
}

#[test]
fn before_services_are_known_what_is_published_stays_and_a_new_supervisor_keeps_places() {
    let host = Host::default();
    host.others.lock().unwrap().push(9080);
    let services = [service("lb", Kind::LoadBalancer, 9080, 31000)];
    board(&host).apply(&wanted(&services));
    host.others.lock().unwrap().clear();
    let mut second = board(&host);
    let rules = vec!["9000:80".parse().unwrap()];
    let outcome = second.apply(&Wanted {
        services: None,
        containers: Some(Vec::new()),
        rules: rules.clone(),
    });
    assert!(!outcome.complete && outcome.rules[0].at.is_some());
    assert_eq!(ports(&host), [(9000, 80), (9081, 31000), (31000, 31000)]);
    second.apply(&Wanted {
        services: Some(services.to_vec()),
        containers: Some(Vec::new()),
        rules,
    });
    assert_eq!(ports(&host), [(9000, 80), (9081, 31000), (31000, 31000)]);
}

#[test]
fn ports_of_containers_come_and_go_and_stay_until_docker_was_asked() {
    let host = Host::default();
    host.others.lock().unwrap().push(8081);
    let web = Container {
        id: "abc".into(),
        name: "web".into(),
        ports: [8080, 8081]
            .map(|public| containers::Port {
                public,
                protocol: Some(Protocol::Tcp),
                only_at: None,
                private: 80,
            })
            .to_vec(),
    };
    let wanted = |containers: Option<&[Container]>| Wanted {
        services: Some(Vec::new()),
        containers: containers.map(<[_]>::to_vec),
        rules: Vec::new(),
    };
    let outcome = board(&host).apply(&wanted(Some(std::slice::from_ref(&web))));
    assert!(outcome.again);
    assert_eq!(outcome.containers[0].at, Some((address(), 8080).into()));
    let trouble = outcome.containers[1].trouble.as_deref().unwrap();
    assert!(
        trouble.contains("8081 of 127.77.1.77 is in use by another"),
        "{trouble}"
    );
    host.others.lock().unwrap().clear();
    let mut second = board(&host);
    second.apply(&wanted(None));
    assert_eq!(ports(&host), [(8080, 8080)]);
    let outcome = second.apply(&wanted(Some(&[web])));
    assert!(!outcome.again);
    assert_eq!(ports(&host), [(8080, 8080), (8081, 8081)]);
    second.apply(&wanted(Some(&[])));
    assert_eq!(ports(&host), []);
}
