//! Ports of Docker's own containers (`docker run -p`): asking the machine's Docker for them, and again whenever one starts or ends.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Client, Response};
use sampan_driver::Protocol;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant as Tick, sleep, timeout};

use crate::error::{Error, Kind, Result};
use crate::images;
use crate::provision::SERVER_NAME;

/// The oldest version of the API that Docker in a node speaks.
const VERSION: &str = "/v1.40";

/// What is worth asking anew for.
const EVENTS: &str =
    r#"{"type":["container","network"],"event":["start","die","rename","connect","disconnect"]}"#;

/// How long Docker may take to answer; its machine may be busy, or held.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// How long is waited for more events: a burst costs one question.
const GATHER: Duration = Duration::from_millis(40);

/// Nor longer than this while they keep coming.
const GATHER_LIMIT: Duration = Duration::from_millis(400);

/// How long a Docker is left alone that did not answer: after the first failure, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// A Docker that has not answered by then counts as not there, so that nothing else waits for it.
const ABSENT_AFTER: Duration = Duration::from_secs(3);

/// A container that runs and publishes ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) ports: Vec<Port>,
}

/// One port of a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    /// The node's port that leads to it.
    pub(super) public: u16,
    /// None for what cannot be published (SCTP).
    pub(super) protocol: Option<Protocol>,
    /// The one address of the node where it listens, if that is all: then nothing from outside gets there.
    pub(super) only_at: Option<IpAddr>,
    /// The container's own port.
    pub(super) private: u16,
}

/// What is seen of Docker.
#[derive(Debug)]
pub(super) enum Seen {
    /// All containers that publish ports, now.
    Containers(Vec<Container>),
    /// It does not answer, and why.
    Silent(String),
}

/// A task that watches; it ends when this is dropped.
pub(super) struct Watch {
    seen: mpsc::Receiver<Seen>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Watches the Docker at `address`, with the certificates of a directory. To be called within a runtime.
    pub(super) fn new(address: SocketAddr, certificates: PathBuf) -> Self {
        let (sender, seen) = mpsc::channel(4);
        let task = tokio::spawn(async move { watch(address, &certificates, &sender).await });
        Self { seen, task }
    }

    /// What is seen next; waits for ever when there is nothing to watch.
    pub(super) async fn next(&mut self) -> Seen {
        match self.seen.recv().await {
            Some(seen) => seen,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Goes on until nobody listens any more.
async fn watch(address: SocketAddr, certificates: &Path, sender: &mpsc::Sender<Seen>) {
    let begun = Tick::now();
    let (mut pause, mut told, mut answered) = (BACKOFF.0, false, false);
    loop {
        // Certificates may have been made anew since.
        let why = match connect(address, certificates) {
            // A machine without Docker has none, and gets none while it runs.
            Err(error) if error.kind() == Kind::HostConfig => {
                let _ = sender.send(Seen::Silent(error.to_string())).await;
                return;
            }
            Err(error) => error.to_string(),
            Ok(docker) => match docker.follow(sender, &mut pause).await {
                Ok(Some(why)) => {
                    answered = true;
                    told = false;
                    why
                }
                Ok(None) => return,
                Err(error) => error.to_string(),
            },
        };
        if !told && (answered || begun.elapsed() >= ABSENT_AFTER) {
            told = true;
            if sender.send(Seen::Silent(why)).await.is_err() {
                return;
            }
        }
        sleep(pause).await;
        let limit = if told { BACKOFF.1 } else { ABSENT_AFTER / 6 };
        pause = (pause * 2).min(limit);
    }
}

struct Docker {
    client: Client,
    base: String,
}

fn connect(address: SocketAddr, certificates: &Path) -> Result<Docker> {
    let (authority, identity) = images::trust(certificates)?;
    let client = Client::builder()
        .tls_built_in_root_certs(false)
        .add_root_certificate(authority)
        .identity(identity)
        .resolve(SERVER_NAME, address)
        .no_proxy()
        .connect_timeout(ANSWER_LIMIT)
        .build()
        .map_err(|source| Error::new(Kind::Internal, "cannot set up TLS").because(source))?;
    Ok(Docker {
        client,
        base: format!("https://{SERVER_NAME}:{}{VERSION}", address.port()),
    })
}

impl Docker {
    /// Tells what there is, and again after every event, until the stream of events ends; then why, or none when nobody listens.
    async fn follow(
        &self,
        sender: &mpsc::Sender<Seen>,
        pause: &mut Duration,
    ) -> Result<Option<String>, reqwest::Error> {
        // Listening first: what happens while the containers are listed is not missed.
        let mut events = self.get("/events", &[("filters", EVENTS)]).await?;
        loop {
            let list: Vec<Listed> = match timeout(ANSWER_LIMIT, self.list()).await {
                Ok(list) => list?,
                Err(_) => return Ok(Some("it does not answer in time".to_owned())),
            };
            *pause = BACKOFF.0;
            let containers = list.into_iter().filter_map(reduce).collect();
            if sender.send(Seen::Containers(containers)).await.is_err() {
                return Ok(None);
            }
            if events.chunk().await?.is_none() {
                return Ok(Some("it has ended".to_owned()));
            }
            let limit = Tick::now() + GATHER_LIMIT;
            while Tick::now() < limit
                && let Ok(more) = timeout(GATHER, events.chunk()).await
            {
                if more?.is_none() {
                    return Ok(Some("it has ended".to_owned()));
                }
            }
        }
    }

    async fn list(&self) -> Result<Vec<Listed>, reqwest::Error> {
        self.get("/containers/json", &[]).await?.json().await
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Response, reqwest::Error> {
        let request = self.client.get(format!("{}{path}", self.base)).query(query);
        request.send().await?.error_for_status()
    }
}

/// A container as Docker lists it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    ports: Vec<ListedPort>,
}

#[derive(Debug, Deserialize)]
struct ListedPort {
    #[serde(rename = "IP")]
    ip: Option<String>,
    #[serde(rename = "PrivatePort")]
    private: u16,
    /// None for a port that is only exposed.
    #[serde(rename = "PublicPort", default)]
    public: u16,
    #[serde(rename = "Type", default)]
    kind: String,
}

/// Reduces a container to what matters; none when it publishes nothing.
fn reduce(listed: Listed) -> Option<Container> {
    let mut ports: Vec<Port> = listed.ports.into_iter().filter_map(port).collect();
    ports.sort();
    // An address for each family is one port to us; where one of them is any address, it is reached.
    ports.dedup_by_key(|port| (port.public, port.protocol));
    let name = listed.names.first().unwrap_or(&listed.id);
    let name = name.trim_start_matches('/').to_owned();
    (!ports.is_empty()).then_some(Container {
        id: listed.id,
        name,
        ports,
    })
}

fn port(port: ListedPort) -> Option<Port> {
    let at: Option<IpAddr> = port.ip.and_then(|ip| ip.parse().ok());
    (port.public != 0).then_some(Port {
        public: port.public,
        private: port.private,
        protocol: match port.kind.as_str() {
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            _ => None,
        },
        only_at: at.filter(|at| at.is_loopback()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reduced(ports: &str) -> Vec<Port> {
        let text = format!(r#"{{"Id": "abc", "Names": ["/web"], "Ports": {ports}}}"#);
        reduce(serde_json::from_str(&text).unwrap()).map_or_else(Vec::new, |container| {
            assert_eq!((container.id.as_str(), container.name.as_str()), ("abc", "web"));
            container.ports
        })
    }

    #[test]
    fn one_port_is_one_port_whatever_addresses_it_has() {
        let tcp = Port {
            public: 8080,
            protocol: Some(Protocol::Tcp),
            only_at: None,
            private: 80,
        };
        let both = r#"[{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}, {"PrivatePort": 9, "Type": "tcp"}]"#;
        assert_eq!(reduced(both), std::slice::from_ref(&tcp));
        let one = r#"[{"IP": "127.0.0.1", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            {"IP": "10.0.2.15", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            {"IP": "127.0.0.1", "PrivatePort": 53, "PublicPort": 53, "Type": "udp"},
            {"IP": "0.0.0.0", "PrivatePort": 5, "PublicPort": 5, "Type": "sctp"}]"#;
        let local = Port {
            public: 53,
            protocol: Some(Protocol::Udp),
            only_at: Some([127, 0, 0, 1].into()),
            private: 53,
        };
        let sctp = Port {
            public: 5,
            protocol: None,
            only_at: None,
            private: 5,
        };
        assert_eq!(reduced(one), [sctp, local, tcp]);
        assert_eq!(reduced(r#"[{"PrivatePort": 80, "Type": "tcp"}]"#), []);
        assert_eq!(reduced("[]"), []);
    }

    #[tokio::test]
    async fn a_machine_without_docker_is_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(([127, 0, 0, 1], 1).into(), dir.path().to_owned());
        let seen = timeout(Duration::from_secs(10), watch.next()).await.unwrap();
        assert!(matches!(seen, Seen::Silent(why) if why.contains("certificates")));
    }
}
