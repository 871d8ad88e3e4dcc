use proptest::prelude::*;

use super::*;

fn ground(exact: bool) -> Ground {
    let address: IpAddr = [127, 77, 0, 9].into();
    Ground {
        address,
        exact,
        reserved: [(Protocol::Tcp, SocketAddr::new(address, 6443))].into(),
    }
}

fn service(name: &str, kind: Kind, ports: &[(u16, u16)]) -> Service {
    Service {
        namespace: "default".into(),
        name: name.into(),
        uid: name.into(),
        created: "2026-01-01T00:00:00Z".into(),
        kind: Some(kind),
        ports: ports
            .iter()
            .map(|&(port, node_port)| Port {
                name: None,
                port,
                node_port: Some(node_port).filter(|port| *port != 0),
                protocol: Some(Protocol::Tcp),
            })
            .collect(),
        ingress: Vec::new(),
    }
}

fn places(plan: &Plan) -> Vec<String> {
    let line = |(publication, forward): &(Publication, Option<Forward>)| match forward {
        Some(forward) => format!(
            "{} {}->{}",
            publication.service,
            forward.host.port(),
            forward.guest_port
        ),
        None => format!(
            "{} {}",
            publication.service,
            publication.trouble.as_deref().unwrap_or("?")
        ),
    };
    plan.services.iter().map(line).collect()
}

fn plan_of(services: &[Service], usable: impl Fn(u16) -> bool) -> Plan {
    plan(&ground(true), services, &[], &[], &Given::new(), &mut |slot| {
        usable(slot.1.port())
    })
}

#[test]
fn node_ports_keep_their_numbers_and_load_balancers_get_their_own() {
    let services = [
        service("web", Kind::NodePort, &[(80, 30080)]),
        service("lb", Kind::LoadBalancer, &[(80, 31000), (9090, 31001)]),
        service("second", Kind::LoadBalancer, &[(80, 31002)]),
    ];
    let all = plan_of(&services, |_| true);
    assert_eq!(
        places(&all),
        [
            "lb 31000->31000",
            "lb 31001->31001",
            "lb 80->31000",
            "lb 9090->31001",
            "second 31002->31002",
            "second 8080->31002",
            "web 30080->30080"
        ]
    );
    // A user who may not listen on low ports, and two who want the same then.
    let high = plan_of(&services, |port| port >= 1024);
    assert_eq!(
        places(&high)[2..],
        [
            "lb 8080->31000",
            "lb 9090->31001",
            "second 31002->31002",
            "second 8081->31002",
            "web 30080->30080"
        ]
    );
}

#[test]
fn a_place_that_was_given_stays_though_a_better_one_is_free_or_an_older_service_comes() {
    let mut services = vec![service("b", Kind::LoadBalancer, &[(80, 31000)])];
    let first = plan_of(&services, |port| port != 80);
    services.insert(0, service("a", Kind::LoadBalancer, &[(8080, 31001)]));
    let second = plan(&ground(true), &services, &[], &[], &first.given, &mut |_| true);
    assert_eq!(
        places(&second),
        [
            "a 31001->31001",
            "a 8081->31001",
            "b 31000->31000",
            "b 8080->31000"
        ]
    );
    // Another object of the same name begins anew.
    services.remove(0);
    services[0].uid = "new".into();
    let third = plan(&ground(true), &services, &[], &[], &second.given, &mut |_| true);
    assert_eq!(places(&third), ["b 31000->31000", "b 80->31000"]);
}

#[test]
fn the_machines_own_ports_and_the_users_are_nobody_elses() {
    let rules: Vec<Rule> = vec!["30080:1".parse().unwrap(), "6443:1".parse().unwrap()];
    let services = [
        service("web", Kind::NodePort, &[(80, 30080)]),
        service("api", Kind::LoadBalancer, &[(6443, 31000)]),
    ];
    let plan = plan(&ground(true), &services, &[], &rules, &Given::new(), &mut |_| {
        true
    });
    assert!(
        plan.rules[0].1.is_ok() && plan.rules[1].1.is_err(),
        "{:?}",
        plan.rules
    );
    let places = places(&plan);
    assert_eq!(places[..2], ["api 31000->31000", "api 6444->31000"]);
    assert!(places[2].contains("in use by sampan itself"), "{places:?}");
}

#[test]
fn where_the_address_is_shared_the_nearest_free_port_is_taken() {
    let services = [service("web", Kind::NodePort, &[(80, 30080)])];
    let plan = plan(&ground(false), &services, &[], &[], &Given::new(), &mut |slot| {
        slot.1.port() > 30081
    });
    assert_eq!(places(&plan), ["web 30082->30080"]);
    assert_eq!(after(65535).next(), Some(1024));
    assert_eq!(after(80).next(), Some(1024));
}

#[test]
fn what_has_no_node_port_or_no_protocol_of_ours_says_so() {
    let mut sctp = service("sctp", Kind::NodePort, &[(80, 30080)]);
    sctp.ports[0].protocol = None;
    let plan = plan_of(&[service("lb", Kind::LoadBalancer, &[(80, 0)]), sctp], |_| true);
    let places = places(&plan);
    assert!(
        places[0].contains("allocateLoadBalancerNodePorts") && places[1].contains("SCTP"),
        "{places:?}"
    );
    assert_eq!(places.len(), 2);
    assert!(plan.forwards().is_empty());
}

fn container(name: &str, ports: &[u16]) -> Container {
    let port = |&public: &u16| containers::Port {
        public,
        protocol: Some(Protocol::Tcp),
        only_at: None,
        private: 80,
    };
    Container {
        id: format!("id-{name}"),
        name: name.into(),
        ports: ports.iter().map(port).collect(),
    }
}

fn container_places(plan: &Plan) -> Vec<String> {
    let line = |(port, forward): &(ContainerPort, Option<Forward>)| match forward {
        Some(forward) => format!(
            "{} {}->{}",
            port.container,
            forward.host.port(),
            forward.guest_port
        ),
        None => format!("{} {}", port.container, port.trouble.as_deref().unwrap_or("?")),
    };
    plan.containers.iter().map(line).collect()
}

#[test]
fn containers_are_where_they_were_asked_for() {
    let containers = [container("web", &[80, 8081]), container("api", &[6443, 30080])];
    let services = [
        service("web", Kind::NodePort, &[(80, 30080)]),
        service("lb", Kind::LoadBalancer, &[(8081, 31000)]),
    ];
    let of = |given: &Given, usable: fn(u16) -> bool| {
        plan(&ground(true), &services, &containers, &[], given, &mut |slot| {
            usable(slot.1.port())
        })
    };
    let all = of(&Given::new(), |_| true);
    let places = container_places(&all);
    assert_eq!(places[..2], ["web 80->80", "web 8081->8081"]);
    assert!(
        places[2..]
            .iter()
            .all(|place| place.contains("in use by sampan itself"))
    );
    // A load balancer that comes later moves; one that was there before does not.
    assert!(self::places(&all).contains(&"lb 8082->31000".to_owned()));
    let first = plan_of(&services, |_| true);
    let places = container_places(&of(&first.given, |_| true));
    assert!(places[1].contains("in use by sampan itself"), "{places:?}");
    // A user who may not listen on low ports; and a port that somebody else has is tried all the same.
    let low = of(&Given::new(), |port| port >= 1024 && port != 8081);
    assert_eq!(container_places(&low)[..2], ["web 8080->80", "web 8081->8081"]);
    let again = of(&low.given, |_| true);
    assert_eq!(container_places(&again)[0], "web 8080->80");
}

#[test]
fn what_of_a_container_cannot_be_reached_says_so() {
    let mut odd = container("odd", &[80, 81]);
    odd.ports[0].only_at = Some([127, 0, 0, 1].into());
    odd.ports[1].protocol = None;
    let plan = plan(&ground(true), &[], &[odd], &[], &Given::new(), &mut |_| true);
    assert_eq!(
        container_places(&plan),
        [
            "odd it is published at 127.0.0.1 of the node only",
            "odd SCTP cannot be published"
        ]
    );
    assert!(plan.forwards().is_empty());
}

fn forwards() -> impl Strategy<Value = Forwards> {
    let slot = (any::<bool>(), 1_u16..12).prop_map(|(udp, port)| {
        let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
        (protocol, SocketAddr::from(([127, 77, 0, 9], port)))
    });
    proptest::collection::btree_map(slot, 1_u16..4, 0..20)
}

fn any_service() -> impl Strategy<Value = Service> {
    let ports = proptest::collection::vec((1_u16..2000, 30000_u16..30010), 0..4);
    ("[a-f]", any::<bool>(), ports).prop_map(|(name, balancer, ports)| {
        let kind = if balancer {
            Kind::LoadBalancer
        } else {
            Kind::NodePort
        };
        service(&name, kind, &ports)
    })
}

proptest! {
    #[test]
    fn applying_the_difference_ends_with_what_is_wanted(there in forwards(), wanted in forwards()) {
        let (remove, add) = diff(&there, &wanted);
        let mut now = there;
        for forward in remove {
            let (slot, port) = entry(forward);
            prop_assert_eq!(now.remove(&slot), Some(port));
        }
        for forward in add {
            let (slot, port) = entry(forward);
            // Nothing is added where something is.
            prop_assert_eq!(now.insert(slot, port), None);
        }
        prop_assert_eq!(now, wanted);
    }

    #[test]
    fn no_place_is_given_twice_and_planning_again_changes_nothing(
        services in proptest::collection::vec(any_service(), 0..6), exact in any::<bool>(), low in any::<bool>(),
    ) {
        // As the apiserver sees to it: no name, no node port, and no port of a Service twice.
        let (mut names, mut node_ports) = (BTreeSet::new(), BTreeSet::new());
        let mut services = services;
        services.retain(|service| names.insert(service.name.clone()));
        for service in &mut services {
            let mut own = BTreeSet::new();
            service.ports.retain(|port| own.insert(port.port) && node_ports.insert(port.node_port));
        }
        let ground = ground(exact);
        let mut usable = |slot: Slot| low || slot.1.port() >= 1024;
        let first = plan(&ground, &services, &[], &[], &Given::new(), &mut usable);
        let given = first.services.iter().filter(|(_, forward)| forward.is_some()).count();
        prop_assert_eq!(first.forwards().len(), given);
        prop_assert!(first.forwards().keys().all(|slot| !ground.reserved.contains(slot)));
        let again = plan(&ground, &services, &[], &[], &first.given, &mut usable);
        prop_assert_eq!(again.forwards(), first.forwards());
        prop_assert_eq!(again.given, first.given);
    }
}
