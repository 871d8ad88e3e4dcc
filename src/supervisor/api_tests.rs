use sampan_driver::Protocol;

use super::super::service::Port;
use super::*;

fn address() -> IpAddr {
    [127, 77, 0, 9].into()
}

fn service(kind: Option<Kind>, ingress: Vec<Ingress>) -> Service {
    Service {
        namespace: "default".into(),
        name: "web".into(),
        uid: "u".into(),
        created: String::new(),
        kind,
        ports: vec![Port {
            name: None,
            port: 80,
            node_port: Some(30080),
            protocol: Some(Protocol::Tcp),
        }],
        ingress,
    }
}

fn publication(at: Option<u16>, trouble: Option<&str>) -> Publication {
    Publication {
        namespace: "default".into(),
        service: "web".into(),
        port_name: None,
        port: 80,
        node_port: Some(30080),
        protocol: Protocol::Tcp,
        at: at.map(|port| (address(), port).into()),
        for_load_balancer: true,
        trouble: trouble.map(str::to_owned),
    }
}

#[test]
fn a_load_balancers_status_says_where_it_is_reached_until_it_is_none_any_more() {
    let balancer = service(Some(Kind::LoadBalancer), Vec::new());
    let published = [publication(Some(8080), None)];
    let ingress = ingress(&balancer, address(), &published).unwrap();
    assert_eq!(
        status(&ingress)["status"]["loadBalancer"]["ingress"],
        serde_json::json!([{ "ip": "127.77.0.9", "ipMode": "Proxy", "ports": [{ "port": 8080, "protocol": "TCP" }] }])
    );
    let told = tales([&balancer].into_iter(), address(), &[], &published);
    assert_eq!(told, [Tale::Status(balancer.id(), ingress.clone())]);
    // Once it says so, nothing is to be told.
    let balancer = service(Some(Kind::LoadBalancer), ingress.clone());
    assert_eq!(
        tales([&balancer].into_iter(), address(), &published, &published),
        []
    );
    let plain = service(None, ingress);
    assert_eq!(
        tales([&plain].into_iter(), address(), &[], &[]),
        [Tale::Status(plain.id(), Vec::new())]
    );
    let others = vec![Ingress {
        ip: Some("192.0.2.1".into()),
        ..Ingress::default()
    }];
    assert_eq!(
        tales([&service(None, others)].into_iter(), address(), &[], &[]),
        []
    );
}

#[test]
fn trouble_is_told_once_and_so_is_its_end() {
    let web = service(Some(Kind::NodePort), Vec::new());
    let troubled = [publication(
        None,
        Some("tcp port 80 of 127.77.0.9 is in use by another program"),
    )];
    let fine = [publication(Some(80), None)];
    let told = |before: &[Publication], now: &[Publication]| {
        let tales = tales([&web].into_iter(), address(), before, now).into_iter();
        tales
            .map(|tale| match tale {
                Tale::Event { warning, reason, .. } => (warning, reason),
                Tale::Status(..) => panic!("a status"),
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(told(&[], &troubled), [(true, "PortTaken")]);
    assert_eq!(told(&troubled, &troubled), []);
    assert_eq!(told(&troubled, &fine), [(false, "Published")]);
    assert_eq!(told(&[], &fine), []);
}

#[test]
fn services_are_reduced_to_what_matters() {
    let read = |text: &str| {
        super::super::service::reduce(
            serde_json::from_value(text.parse::<serde_json::Value>().unwrap()).unwrap(),
        )
    };
    let meta = r#""metadata":{"name":"web","namespace":"default","uid":"u","creationTimestamp":"2026-01-01T00:00:00Z"}"#;
    let balancer = read(&format!(
        r#"{{{meta},"spec":{{"type":"LoadBalancer","ports":[{{"port":53,"nodePort":30053,"protocol":"UDP"}},{{"port":7,"protocol":"SCTP"}}]}}}}"#
    ));
    assert_eq!(balancer.kind, Some(Kind::LoadBalancer));
    assert_eq!(balancer.ports[0].protocol, Some(Protocol::Udp));
    assert_eq!(
        (balancer.ports[1].protocol, balancer.ports[1].node_port),
        (None, None)
    );
    assert!(balancer.created.starts_with("2026-01-01"), "{}", balancer.created);
    let classed = read(&format!(
        r#"{{{meta},"spec":{{"type":"LoadBalancer","loadBalancerClass":"x/y"}}}}"#
    ));
    assert_eq!(classed.kind, Some(Kind::NodePort));
    assert!(!read(&format!(r#"{{{meta},"spec":{{"type":"ClusterIP"}}}}"#)).matters(address()));
}
