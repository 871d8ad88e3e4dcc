//! Services of a cluster, and where the host reaches their ports: what the supervisor has published.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sampan_driver::Protocol;
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::provision::Api;
use crate::supervisor::Publication;

/// An apiserver that does not answer by then is stopped, as far as a waiting user is concerned.
const API_DEADLINE: Duration = Duration::from_secs(15);

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its address in the cluster; none for a headless one, and for one that is only a name.
    pub cluster_ip: Option<IpAddr>,
    /// Whether its ports are published on the node: of type NodePort or LoadBalancer.
    pub is_published: bool,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Labels of its pods; empty when something else says what is behind it.
    selector: BTreeMap<String, String>,
}

/// One port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// The service's own port.
    pub port: u16,
    /// The node's port that leads to it, if it has one.
    pub node_port: Option<u16>,
    /// What it speaks.
    pub protocol: Protocol,
}

impl Port {
    /// "http/80", or "80" without a name.
    pub fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("{name}/{}", self.port),
            None => self.port.to_string(),
        }
    }
}

/// One port of a service, and where the host reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The port.
    pub port: Port,
    /// Where it is reached, or why it is not.
    pub at: Result<SocketAddr, String>,
}

impl Service {
    fn read(object: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let spec = &object["spec"];
        let port = |port: &Value| {
            Some(Port {
                name: text(&port["name"]),
                port: u16::try_from(port["port"].as_u64()?).ok()?,
                node_port: port["nodePort"]
                    .as_u64()
                    .and_then(|port| u16::try_from(port).ok()),
                protocol: match port["protocol"].as_str() {
                    Some("UDP") => Protocol::Udp,
                    _ => Protocol::Tcp,
                },
            })
        };
        let labels = spec["selector"].as_object().into_iter().flatten();
        Some(Self {
            namespace: text(&object["metadata"]["namespace"])?,
            name: text(&object["metadata"]["name"])?,
            cluster_ip: spec["clusterIP"]
                .as_str()
                .and_then(|address| address.parse().ok()),
            is_published: ["NodePort", "LoadBalancer"].contains(&spec["type"].as_str().unwrap_or_default()),
            ports: spec["ports"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(port)
                .collect(),
            selector: labels
                .filter_map(|(key, value)| Some((key.clone(), text(value)?)))
                .collect(),
        })
    }

    /// Where the host reaches its ports: those of a load balancer under their own numbers where they are, else on the node's ports.
    pub fn places(&self, published: &[Publication]) -> Vec<Place> {
        let place = |port: &Port| {
            let mine = |one: &&Publication| {
                one.namespace == self.namespace
                    && one.service == self.name
                    && one.port == port.port
                    && one.protocol == port.protocol
            };
            let mut mine: Vec<&Publication> = published.iter().filter(mine).collect();
            mine.sort_by_key(|one| (one.at.is_none(), !one.for_load_balancer));
            let at = match mine.first() {
                Some(Publication { at: Some(at), .. }) => Ok(*at),
                Some(one) => Err(one
                    .trouble
                    .clone()
                    .unwrap_or_else(|| "not published yet".to_owned())),
                None => Err("not published yet".to_owned()),
            };
            Place {
                port: port.clone(),
                at,
            }
        };
        self.all_places(place)
    }

    /// Where the host reaches them on a node that has an address of its own: on the node's ports, or why it does not.
    pub fn places_on(&self, node: Result<IpAddr, &str>) -> Vec<Place> {
        self.all_places(|port| Place {
            port: port.clone(),
            at: match (node, port.node_port) {
                (Ok(address), Some(port)) => Ok(SocketAddr::new(address, port)),
                (Ok(_), None) => Err("it has no node port".to_owned()),
                (Err(why), _) => Err(why.to_owned()),
            },
        })
    }

    fn all_places(&self, place: impl Fn(&Port) -> Place) -> Vec<Place> {
        let ports = self.is_published.then_some(&self.ports);
        ports.into_iter().flatten().map(place).collect()
    }
}

/// The service of a name, if there is one.
///
/// # Errors
/// Those of the API.
pub fn find(api: &Api, namespace: &str, name: &str) -> Result<Option<Service>> {
    match api.get_within(
        &format!("/api/v1/namespaces/{namespace}/services/{name}"),
        API_DEADLINE,
    ) {
        Ok(object) => Ok(Service::read(&object)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// All services, or those of a namespace, in the order of their names.
///
/// # Errors
/// Those of the API; [`Kind::Service`] when there is no such namespace.
pub fn list(api: &Api, namespace: Option<&str>) -> Result<Vec<Service>> {
    let path = match namespace {
        Some(namespace) => format!("/api/v1/namespaces/{namespace}/services"),
        None => "/api/v1/services".to_owned(),
    };
    let list = api.get_within(&path, API_DEADLINE)?;
    let items = list["items"].as_array().into_iter().flatten();
    let mut services: Vec<Service> = items.filter_map(Service::read).collect();
    if services.is_empty()
        && let Some(namespace) = namespace
    {
        has_namespace(api, namespace)?;
    }
    services.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(services)
}

fn has_namespace(api: &Api, namespace: &str) -> Result<()> {
    if api.find(&format!("/api/v1/namespaces/{namespace}"))?.is_some() {
        return Ok(());
    }
    let message = format!("there is no namespace \"{namespace}\"");
    Err(Error::new(Kind::Service, message).hint("`kubectl get namespaces` lists those there are"))
}

/// Why a service was not found: it, or its namespace.
pub fn missing(api: &Api, namespace: &str, name: &str) -> Error {
    if let Err(error) = has_namespace(api, namespace) {
        return error;
    }
    let message = format!("service \"{name}\" was not found in namespace \"{namespace}\"");
    let error = Error::new(Kind::Service, message);
    let others = list(api, Some(namespace)).unwrap_or_default();
    let names = others.iter().map(|service| service.name.as_str());
    match crate::settings::nearest(name, names) {
        Some(nearest) => error.hint(format!("did you mean `{nearest}`?")),
        None => error.hint("choose another namespace with -n; `sampan service list` lists what there is"),
    }
}

/// Whether a running pod is behind a service.
///
/// # Errors
/// [`Kind::ServiceUnreachable`] when there is none; those of the API.
pub fn check_pods(api: &Api, service: &Service) -> Result<()> {
    if service.selector.is_empty() {
        return Ok(());
    }
    let Service { namespace, name, .. } = service;
    let labels = service
        .selector
        .iter()
        .map(|(key, value)| format!("{key}%3D{value}"));
    let selector = labels.collect::<Vec<_>>().join("%2C").replace('/', "%2F");
    let path = format!(
        "/api/v1/namespaces/{namespace}/pods?labelSelector={selector}&fieldSelector=status.phase%3DRunning&limit=1"
    );
    let list = api.get_within(&path, API_DEADLINE)?;
    if list["items"].as_array().is_some_and(|pods| !pods.is_empty()) {
        return Ok(());
    }
    let message = format!("service not available: no running pod for service {namespace}/{name} found");
    Err(Error::new(Kind::ServiceUnreachable, message).hint(format!(
        "see its pods: kubectl get pods -n {namespace} -l {}",
        selector_for_people(service)
    )))
}

fn selector_for_people(service: &Service) -> String {
    let labels = service
        .selector
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    labels.collect::<Vec<_>>().join(",")
}

/// What a port most likely speaks, and the port that goes without saying then.
fn scheme(port: &Port) -> (&'static str, u16) {
    if port.port == 443 || port.name.as_deref() == Some("https") {
        ("https", 443)
    } else {
        ("http", 80)
    }
}

/// "https://127.77.0.5:443".
pub fn url(port: &Port, at: SocketAddr) -> String {
    format!("{}://{at}", scheme(port).0)
}

/// "https://127.77.0.5:8443", with the port left out where it goes without saying.
pub fn short_url(port: &Port, at: SocketAddr) -> String {
    let (scheme, usual) = scheme(port);
    if at.port() == usual {
        return format!("{scheme}://{}", at.ip());
    }
    format!("{scheme}://{at}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(kind: &str) -> Service {
        let object = json!({
            "metadata": { "namespace": "a", "name": "web" },
            "spec": {
                "type": kind, "clusterIP": "10.96.0.9", "selector": { "app": "web" },
                "ports": [{ "name": "http", "port": 80, "nodePort": 30080 }, { "port": 53, "protocol": "UDP" }],
            },
        });
        Service::read(&object).unwrap()
    }

    fn publication(port: u16, at: Option<&str>, for_load_balancer: bool) -> Publication {
        Publication {
            namespace: "a".into(),
            service: "web".into(),
            port_name: None,
            port,
            node_port: Some(30080),
            protocol: Protocol::Tcp,
            at: at.map(|at| at.parse().unwrap()),
            for_load_balancer,
            trouble: at.is_none().then(|| "taken".to_owned()),
        }
    }

    #[test]
    fn a_load_balancers_own_port_is_preferred_and_the_nodes_is_next() {
        let service = service("LoadBalancer");
        let both = [
            publication(80, Some("127.77.0.5:30080"), false),
            publication(80, Some("127.77.0.5:8080"), true),
        ];
        let places = service.places(&both);
        assert_eq!(places[0].at, Ok("127.77.0.5:8080".parse().unwrap()));
        assert_eq!(
            places[1].at,
            Err("not published yet".to_owned()),
            "the other protocol"
        );
        let taken = [publication(80, None, true), both[0].clone()];
        assert_eq!(
            service.places(&taken)[0].at,
            Ok("127.77.0.5:30080".parse().unwrap())
        );
        assert_eq!(service.places(&taken[..1])[0].at, Err("taken".to_owned()));
    }

    #[test]
    fn a_service_in_the_cluster_has_no_places() {
        let service = service("ClusterIP");
        assert_eq!(service.places(&[]), []);
        assert_eq!(service.ports[0].label(), "http/80");
        assert_eq!(service.ports[1].label(), "53");
        assert_eq!(service.cluster_ip, Some("10.96.0.9".parse().unwrap()));
    }

    #[test]
    fn urls_are_short_where_they_can_be() {
        let url = |name: Option<&str>, port, at: &str| {
            let port = Port {
                name: name.map(str::to_owned),
                port,
                node_port: None,
                protocol: Protocol::Tcp,
            };
            short_url(&port, at.parse().unwrap())
        };
        assert_eq!(url(None, 80, "127.77.0.5:80"), "http://127.77.0.5");
        assert_eq!(url(None, 443, "127.77.0.5:443"), "https://127.77.0.5");
        assert_eq!(
            url(Some("https"), 8443, "127.77.0.5:8443"),
            "https://127.77.0.5:8443"
        );
        assert_eq!(url(None, 80, "127.77.0.5:8080"), "http://127.77.0.5:8080");
    }
}
