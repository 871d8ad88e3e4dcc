//! The supervisor: one detached process for each running profile (`sampan supervise`) that keeps the host's ports equal to what the
//! cluster's Services and Docker's own containers want, and the guest's clock right. It is found through a socket in the profile's directory; if it dies, what is
//! published stays, and the next command that needs it starts it again. It ends with the machine.
//!
//! | module    | responsible for                                                                 |
//! |-----------|---------------------------------------------------------------------------------|
//! | `client`  | finding, starting, asking and ending it, for everybody else                     |
//! | `protocol`, `socket` | what is said, and the socket it is said through                      |
//! | `ports`   | the user's own forwards: `ports.toml`                                           |
//! | `service` | what of a Service matters here                                                  |
//! | `containers` | ports of Docker's own containers                                            |
//! | `plan`    | from Services to wanted forwards, and what to change; no side effects            |
//! | `board`   | what is published: makes the driver's forwards equal to the plan                 |
//! | `api`     | watching Services; their status and events                                      |
//! | `clock`   | whether the host slept or its clock was set                                     |
//! | `log`     | `supervisor.log`                                                                |
//! | `run`, `server` | the process itself                                                        |

mod api;
mod board;
mod client;
mod clock;
mod containers;
mod log;
mod plan;
pub mod ports;
mod protocol;
mod run;
mod server;
mod service;
mod socket;

use std::net::SocketAddr;

pub use sampan_driver::Protocol;
use serde::{Deserialize, Serialize};

pub(crate) use client::{end, nudge};
pub use client::{ensure, follow, published, rules};
pub use run::run;

/// One port of one of Docker's own containers, and where the host reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPort {
    /// The container's name.
    pub container: String,
    /// The port in the container.
    pub port: u16,
    /// The node's port that leads to it (`docker run -p`).
    pub guest: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where the host reaches it; none while there is trouble.
    pub at: Option<SocketAddr>,
    /// Why it is not reached, in words for people.
    pub trouble: Option<String>,
}

/// One port of one Service, and where the host reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub service: String,
    /// The name of its port, if it has one.
    pub port_name: Option<String>,
    /// The Service's own port.
    pub port: u16,
    /// The node's port that leads to it, if there is one.
    pub node_port: Option<u16>,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where the host reaches it; none while there is trouble.
    pub at: Option<SocketAddr>,
    /// Published as a port of a load balancer, not as a node's port: a Service of type LoadBalancer has both.
    pub for_load_balancer: bool,
    /// Why it is not reached, in words for people.
    pub trouble: Option<String>,
}
