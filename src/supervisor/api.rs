//! The cluster's API: watching Services, and telling what became of them in their status and in events.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream;
use k8s_openapi::api::core::v1;
use kube::api::{Api, Patch, PatchParams};
use kube::core::ObjectMeta;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::watcher;
use kube::{Client, Config, Resource};
use serde_json::json;

use super::Publication;
use super::service::{Id, Ingress, Kind, Service};
use crate::cluster::Profile;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::layout::ProfileLayout;
use crate::provision::SERVER_NAME;

/// Who we are in `managedFields` and events.
const MANAGER: &str = "sampan-supervisor";

/// How long connecting may take; a machine that is held accepts connections and then says nothing.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How load balancers' addresses are meant: what is sent there arrives at the node by a proxy, so kube-proxy leaves it alone.
const IP_MODE: &str = "Proxy";

/// What comes of watching.
pub(super) type Watch =
    Pin<Box<dyn Stream<Item = Result<watcher::Event<v1::Service>, watcher::Error>> + Send>>;

/// A client that shows the user's certificate. Making it does not touch the network. To be called within a runtime.
pub(super) fn client(profile: &Profile, files: &ProfileLayout) -> Result<Client> {
    let pki = files.pki();
    let wrong = |path: &Path| {
        Error::new(
            ErrorKind::HostConfig,
            format!("{}: not a certificate in PEM that can be used", path.display()),
        )
    };
    let url = format!("https://{}", profile.api());
    let url = url
        .parse()
        .map_err(|error| Error::new(ErrorKind::Internal, format!("{url}: no URL")).because(error))?;
    let mut config = Config::new(url);
    let ca = pki.join("ca.crt");
    let pem = std::fs::read(&ca).map_err(Error::io(&ca))?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).map_err(|_| wrong(&ca))?;
    config.root_cert = Some(vec![pem.contents]);
    config.tls_server_name = Some(SERVER_NAME.to_owned());
    config.auth_info.client_certificate = Some(pki.join("admin.crt").to_string_lossy().into_owned());
    config.auth_info.client_key = Some(pki.join("admin.key").to_string_lossy().into_owned());
    config.connect_timeout = Some(CONNECT_LIMIT);
    Client::try_from(config).map_err(|error| wrong(&pki).because(error))
}

/// Watches all Services; goes on after errors when it is asked for more.
pub(super) fn watch(client: &Client) -> Watch {
    Box::pin(watcher::watcher(
        Api::<v1::Service>::all(client.clone()),
        watcher::Config::default(),
    ))
}

/// What the status of a load balancer is to say; none where it is not ours to say anything.
pub(super) fn ingress(service: &Service, address: IpAddr, published: &[Publication]) -> Option<Vec<Ingress>> {
    if service.kind != Some(Kind::LoadBalancer) {
        // It was a load balancer once.
        return service.names(address).then(Vec::new);
    }
    let own = published.iter().filter(|publication| {
        publication.for_load_balancer
            && (&publication.namespace, &publication.service) == (&service.namespace, &service.name)
    });
    let ports: Vec<_> = own
        .map(|publication| {
            let port = publication.at.map_or(publication.port, |at| at.port());
            let error = publication
                .at
                .is_none()
                .then(|| "sampan.dev/PortTaken".to_owned());
            (port, publication.protocol.to_string().to_uppercase(), error)
        })
        .collect();
    if ports.iter().all(|(_, _, error)| error.is_some()) {
        return Some(Vec::new());
    }
    Some(vec![Ingress {
        ip: Some(address.to_string()),
        ip_mode: Some(IP_MODE.to_owned()),
        ports,
    }])
}

/// Something to be told to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tale {
    /// The status of a Service.
    Status(Id, Vec<Ingress>),
    /// An event on a Service with this uid.
    Event {
        id: Id,
        uid: String,
        warning: bool,
        reason: &'static str,
        note: String,
    },
}

/// Tells the cluster.
#[derive(Clone)]
pub(super) struct Teller {
    client: Client,
    recorder: Recorder,
}

impl Teller {
    pub(super) fn new(client: Client) -> Self {
        let recorder = Recorder::new(client.clone(), Reporter::from(MANAGER));
        Self { client, recorder }
    }

    pub(super) async fn tell(&self, tale: &Tale) -> Result<(), kube::Error> {
        match tale {
            Tale::Status((namespace, name), ingress) => {
                let api = Api::<v1::Service>::namespaced(self.client.clone(), namespace);
                let patch = Patch::Merge(status(ingress));
                let params = PatchParams {
                    field_manager: Some(MANAGER.to_owned()),
                    ..PatchParams::default()
                };
                api.patch_status(name, &params, &patch).await.map(drop)
            }
            Tale::Event {
                id: (namespace, name),
                uid,
                warning,
                reason,
                note,
            } => {
                let regarding = v1::Service {
                    metadata: ObjectMeta {
                        name: Some(name.clone()),
                        namespace: Some(namespace.clone()),
                        uid: Some(uid.clone()),
                        ..ObjectMeta::default()
                    },
                    ..v1::Service::default()
                };
                let event = Event {
                    type_: if *warning {
                        EventType::Warning
                    } else {
                        EventType::Normal
                    },
                    reason: (*reason).to_owned(),
                    note: Some(note.clone()),
                    action: "Publish".to_owned(),
                    secondary: None,
                };
                self.recorder.publish(&event, &regarding.object_ref(&())).await
            }
        }
    }
}

fn status(ingress: &[Ingress]) -> serde_json::Value {
    let entry = |ingress: &Ingress| {
        let ports: Vec<_> = ingress
            .ports
            .iter()
            .map(|(port, protocol, error)| {
                let mut entry = json!({ "port": port, "protocol": protocol });
                if let Some(error) = error {
                    entry["error"] = json!(error);
                }
                entry
            })
            .collect();
        json!({ "ip": ingress.ip, "ipMode": ingress.ip_mode, "ports": ports })
    };
    json!({ "status": { "loadBalancer": { "ingress": ingress.iter().map(entry).collect::<Vec<_>>() } } })
}

/// What is to be told after something changed: statuses that say something else, and ports that came into trouble or out of it.
pub(super) fn tales<'a>(
    services: impl Iterator<Item = &'a Service>,
    address: IpAddr,
    before: &[Publication],
    published: &[Publication],
) -> Vec<Tale> {
    let mut tales = Vec::new();
    let mut uids = BTreeMap::new();
    for service in services {
        uids.insert(service.id(), service.uid.clone());
        if let Some(ingress) =
            ingress(service, address, published).filter(|ingress| *ingress != service.ingress)
        {
            tales.push(Tale::Status(service.id(), ingress));
        }
    }
    for publication in published {
        let same = |other: &&Publication| {
            (
                &other.namespace,
                &other.service,
                other.port,
                other.protocol,
                other.for_load_balancer,
            ) == (
                &publication.namespace,
                &publication.service,
                publication.port,
                publication.protocol,
                publication.for_load_balancer,
            )
        };
        let troubled = before.iter().find(same).and_then(|other| other.trouble.as_ref());
        let id = (publication.namespace.clone(), publication.service.clone());
        let Some(uid) = uids.get(&id).cloned() else {
            continue;
        };
        let (warning, reason, note) = match (&publication.trouble, publication.at) {
            (Some(trouble), _) if troubled == Some(trouble) => continue,
            (Some(trouble), _) => (
                true,
                reason(trouble),
                format!("port {}: {trouble}", publication.port),
            ),
            (None, Some(at)) if troubled.is_some() => (
                false,
                "Published",
                format!("port {} is published at {at}", publication.port),
            ),
            _ => continue,
        };
        tales.push(Tale::Event {
            id,
            uid,
            warning,
            reason,
            note,
        });
    }
    tales
}

fn reason(trouble: &str) -> &'static str {
    if trouble.contains(" in use ") {
        "PortTaken"
    } else {
        "NotPublished"
    }
}

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
