//! What of a Service matters here.

use std::net::IpAddr;

use k8s_openapi::api::core::v1;
use sampan_driver::Protocol;

/// A Service's namespace and name.
pub(super) type Id = (String, String);

/// What a Service wants of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its node ports.
    NodePort,
    /// Its node ports, and its own.
    LoadBalancer,
}

/// A Service that wants something of the host, or has our words in its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) namespace: String,
    pub(super) name: String,
    /// Which object of this name.
    pub(super) uid: String,
    /// When it was made; the older of two that want the same port has it.
    pub(super) created: String,
    /// None for one that wants nothing.
    pub(super) kind: Option<Kind>,
    pub(super) ports: Vec<Port>,
    /// What its status says of load balancers.
    pub(super) ingress: Vec<Ingress>,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) name: Option<String>,
    pub(super) port: u16,
    pub(super) node_port: Option<u16>,
    /// None for what cannot be published (SCTP).
    pub(super) protocol: Option<Protocol>,
}

/// One entry of a status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ingress {
    pub(super) ip: Option<String>,
    pub(super) ip_mode: Option<String>,
    /// Port, protocol in capitals, error.
    pub(super) ports: Vec<(u16, String, Option<String>)>,
}

impl Service {
    pub(super) fn id(&self) -> Id {
        (self.namespace.clone(), self.name.clone())
    }

    /// Whether it is of any interest: other Services are not kept.
    pub(super) fn matters(&self, address: IpAddr) -> bool {
        self.kind.is_some() || self.names(address)
    }

    /// Whether its status names our address.
    pub(super) fn names(&self, address: IpAddr) -> bool {
        let address = address.to_string();
        self.ingress
            .iter()
            .any(|ingress| ingress.ip.as_ref() == Some(&address))
    }
}

/// Reduces a Service to what matters. One of a load balancer class is another controller's, but its node ports are there all the same.
pub(super) fn reduce(service: v1::Service) -> Service {
    let spec = service.spec.unwrap_or_default();
    let classed = spec.load_balancer_class.is_some();
    let kind = match spec.type_.as_deref() {
        Some("LoadBalancer") if !classed => Some(Kind::LoadBalancer),
        Some("NodePort" | "LoadBalancer") => Some(Kind::NodePort),
        _ => None,
    };
    // One that is being deleted waits for somebody's finalizer; nobody should begin to use it.
    let kind = kind.filter(|_| service.metadata.deletion_timestamp.is_none());
    let ingress = service
        .status
        .and_then(|status| status.load_balancer)
        .and_then(|balancer| balancer.ingress)
        .unwrap_or_default();
    Service {
        namespace: service.metadata.namespace.unwrap_or_default(),
        name: service.metadata.name.unwrap_or_default(),
        uid: service.metadata.uid.unwrap_or_default(),
        created: service
            .metadata
            .creation_timestamp
            .map(|time| time.0.to_string())
            .unwrap_or_default(),
        kind,
        ports: spec.ports.unwrap_or_default().into_iter().map(port).collect(),
        ingress: ingress.into_iter().map(seen).collect(),
    }
}

fn port(port: v1::ServicePort) -> Port {
    let number = |number: i32| u16::try_from(number).ok().filter(|number| *number != 0);
    Port {
        name: port.name.filter(|name| !name.is_empty()),
        port: number(port.port).unwrap_or_default(),
        node_port: port.node_port.and_then(number),
        protocol: match port.protocol.as_deref() {
            None | Some("TCP") => Some(Protocol::Tcp),
            Some("UDP") => Some(Protocol::Udp),
            Some(_) => None,
        },
    }
}

fn seen(ingress: v1::LoadBalancerIngress) -> Ingress {
    let port = |port: v1::PortStatus| {
        (
            u16::try_from(port.port).unwrap_or_default(),
            port.protocol,
            port.error,
        )
    };
    Ingress {
        ip: ingress.ip,
        ip_mode: ingress.ip_mode,
        ports: ingress.ports.unwrap_or_default().into_iter().map(port).collect(),
    }
}
