//! When a cluster is fit for use: a table of what has to be true, walked with one deadline for all.

use std::time::{Duration, Instant};

use sampan_driver::Command;
use serde_json::Value;

use super::last_words::{is_ready, last_words, state, why};
use super::{Node, guest, network, render};
use crate::error::{Error, Kind, Result};
pub use crate::settings::Wait as Component;

/// Something that has to be true.
struct Check {
    /// What people read: "waiting for …".
    what: &'static str,
    /// Which `--wait` names ask for it.
    asked_by: &'static [Component],
    /// Looks once.
    probe: fn(&Node<'_>) -> Result<State>,
    /// What to do when it does not come true.
    hint: &'static str,
    /// Whether `start` fails without it; a warning otherwise.
    fatal: bool,
}

/// What a look at something showed.
enum State {
    /// It is true.
    Ready,
    /// Not yet, because.
    NotYet(String),
}

use Component::{ApiServer, AppsRunning, DefaultServiceAccount, Extra, Kubelet, NodeReady, SystemPods};

/// Cheap ones first; each needs those before it.
const CHECKS: &[Check] = &[
    Check {
        what: "kubelet",
        asked_by: &[Kubelet],
        probe: kubelet,
        hint: "see `sampan ssh -- systemctl status kubelet`",
        fatal: true,
    },
    Check {
        what: "the apiserver",
        asked_by: &[
            ApiServer,
            SystemPods,
            DefaultServiceAccount,
            AppsRunning,
            NodeReady,
            Extra,
        ],
        probe: api_server,
        hint: "see `sampan logs`; on a busy host a longer --wait-timeout may do",
        fatal: true,
    },
    Check {
        what: "kubelet's answers",
        asked_by: &[Kubelet, Extra],
        probe: kubelet_answers,
        hint: "without them there are no logs and no exec: see `sampan ssh -- journalctl -u kubelet`",
        fatal: true,
    },
    Check {
        what: "the default service account",
        asked_by: &[DefaultServiceAccount],
        probe: default_service_account,
        hint: "the controller manager makes it: see `sampan kubectl -- -n kube-system get pods`",
        fatal: true,
    },
    Check {
        what: "the node",
        asked_by: &[NodeReady, SystemPods, AppsRunning, Extra],
        probe: node_ready,
        hint: "see `sampan kubectl -- describe node`",
        fatal: true,
    },
    Check {
        what: "kube-proxy",
        asked_by: &[SystemPods, AppsRunning, Extra],
        probe: kube_proxy,
        hint: "see `sampan kubectl -- -n kube-system logs ds/kube-proxy`",
        fatal: true,
    },
    Check {
        what: "CoreDNS",
        asked_by: &[SystemPods, AppsRunning, Extra],
        probe: core_dns,
        hint: "see `sampan kubectl -- -n kube-system logs deploy/coredns`",
        fatal: true,
    },
    Check {
        what: "answers of cluster DNS",
        asked_by: &[SystemPods, AppsRunning, Extra],
        probe: dns_answers,
        hint: "kube-proxy or CoreDNS does not do its work: see `sampan kubectl -- -n kube-system get pods`",
        fatal: true,
    },
    Check {
        what: "storage",
        asked_by: &[SystemPods, AppsRunning, Extra],
        probe: storage,
        hint: "see `sampan kubectl -- -n kube-system logs deploy/local-path-provisioner`",
        fatal: false,
    },
    Check {
        what: "the pods of the system",
        asked_by: &[SystemPods, Extra],
        probe: system_pods,
        hint: "see `sampan kubectl -- -n kube-system get pods`",
        fatal: true,
    },
];

/// A cluster that was healthy when its machine was saved.
const AWAKE: &[Check] = &[
    Check {
        what: "the apiserver",
        asked_by: &[],
        probe: api_server,
        hint: "see `sampan logs`; `sampan stop --shutdown` and `sampan start` boot the machine",
        fatal: true,
    },
    Check {
        what: "kubelet's answers",
        asked_by: &[],
        probe: kubelet_answers,
        hint: "see `sampan ssh -- journalctl -u kubelet`",
        fatal: true,
    },
    Check {
        what: "the node",
        asked_by: &[],
        probe: node_says_ready,
        hint: "see `sampan kubectl -- describe node`",
        fatal: true,
    },
];

/// Waits until everything that `components` ask for is true.
///
/// # Errors
/// [`Kind::ControlPlaneTimeout`] with what was missing, why, and the guest's last words; [`Kind::Interrupted`]; whatever keeps
/// the guest from being asked at all.
pub fn wait(node: &Node<'_>, components: &[Component], deadline: Duration) -> Result<()> {
    let asked = |check: &&Check| check.asked_by.iter().any(|one| components.contains(one));
    walk(node, CHECKS.iter().filter(asked), deadline)
}

/// Waits until a cluster that was healthy when its machine was saved goes on: apiserver and kubelet answer, the node is Ready.
///
/// # Errors
/// As [`wait`].
pub fn wait_awake(node: &Node<'_>, deadline: Duration) -> Result<()> {
    walk(node, AWAKE.iter(), deadline)
}

fn walk<'a>(node: &Node<'_>, checks: impl Iterator<Item = &'a Check>, deadline: Duration) -> Result<()> {
    let end = Instant::now() + deadline;
    for check in checks {
        if let Err(reason) = until(node, check, end)? {
            let message = format!(
                "{} not ready within {}s: {reason}",
                check.what,
                deadline.as_secs()
            );
            if check.fatal {
                let message = format!("{message}{}", last_words(node));
                return Err(Error::new(Kind::ControlPlaneTimeout, message).hint(check.hint));
            }
            node.reporter.warn(&format!("{message} ({})", check.hint));
        }
    }
    Ok(())
}

/// Looks until it is true, or until `end`: then says why it is not. Everything gets one look at least.
fn until(node: &Node<'_>, check: &Check, end: Instant) -> Result<Result<(), String>> {
    loop {
        node.cancel.check()?;
        // An apiserver that does not answer this once may answer the next time.
        let state = match (check.probe)(node) {
            Err(error) if matches!(error.kind(), Kind::ApiStopped | Kind::ControlPlane) => {
                State::NotYet(error.to_string())
            }
            other => other?,
        };
        let State::NotYet(reason) = state else {
            return Ok(Ok(()));
        };
        if Instant::now() >= end {
            return Ok(Err(reason));
        }
        node.reporter
            .detail(&format!("waiting for {}: {reason}", check.what));
        std::thread::sleep(guest::PAUSE);
    }
}

fn unless(ready: bool, reason: impl FnOnce() -> String) -> State {
    if ready {
        State::Ready
    } else {
        State::NotYet(reason())
    }
}

fn kubelet(node: &Node<'_>) -> Result<State> {
    Ok(unless(guest::active(node, &["kubelet.service"])?, || {
        "the unit is not active".into()
    }))
}

fn api_server(node: &Node<'_>) -> Result<State> {
    let ok = node.api.is_ok("/readyz", Duration::from_secs(10));
    Ok(unless(ok, || "/readyz does not say ok".into()))
}

/// Asked through the apiserver, as `kubectl logs` and `exec` do.
fn kubelet_answers(node: &Node<'_>) -> Result<State> {
    let answer = node
        .api
        .text(&format!("/api/v1/nodes/{}/proxy/healthz", node.name));
    Ok(match answer {
        Ok(text) => unless(text.trim() == "ok", || text),
        Err(error) if error.kind() == Kind::NotFound => {
            State::NotYet("the node is not registered yet".into())
        }
        Err(error) => return Err(error),
    })
}

fn default_service_account(node: &Node<'_>) -> Result<State> {
    let there = node
        .api
        .find("/api/v1/namespaces/default/serviceaccounts/default")?;
    Ok(unless(there.is_some(), || "not made yet".into()))
}

/// Ready, and said so since the guest booted: what an earlier life of the node reported does not count.
fn node_ready(node: &Node<'_>) -> Result<State> {
    let there = match find_node(node)? {
        Ok(there) => there,
        Err(reason) => return Ok(State::NotYet(reason)),
    };
    let boot = node
        .runner
        .run(&Command::new("cat").arg("/proc/sys/kernel/random/boot_id"))?
        .text();
    Ok(unless(there["status"]["nodeInfo"]["bootID"] == *boot, || {
        "no report since the machine started".into()
    }))
}

/// Ready, as the apiserver has it.
fn node_says_ready(node: &Node<'_>) -> Result<State> {
    Ok(find_node(node)?.map_or_else(State::NotYet, |_| State::Ready))
}

/// The node, or why it is not Ready.
fn find_node(node: &Node<'_>) -> Result<Result<Value, String>> {
    let Some(there) = node.api.find(&format!("/api/v1/nodes/{}", node.name))? else {
        return Ok(Err("not registered yet".into()));
    };
    let conditions = there["status"]["conditions"].as_array();
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|one| one["type"] == "Ready");
    Ok(match ready {
        None => Err("no status yet".into()),
        Some(ready) if ready["status"] != "True" => {
            Err(ready["message"].as_str().unwrap_or("not ready").to_owned())
        }
        Some(_) => Ok(there),
    })
}

fn kube_proxy(node: &Node<'_>) -> Result<State> {
    let set = node
        .api
        .get("/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy")?;
    Ok(match set_rolled_out(&set) {
        Ok(()) => State::Ready,
        Err(reason) => {
            let why = why(node.api, "kube-system", "k8s-app%3Dkube-proxy");
            State::NotYet(why.unwrap_or(reason))
        }
    })
}

fn core_dns(node: &Node<'_>) -> Result<State> {
    let coredns = deployment(node, "coredns", "k8s-app%3Dkube-dns")?;
    Ok(coredns.unwrap_or_else(|| State::NotYet("it is not there".into())))
}

/// An addon: whoever disabled it does not wait for it.
fn storage(node: &Node<'_>) -> Result<State> {
    let storage = deployment(node, "local-path-provisioner", "app%3Dlocal-path-provisioner")?;
    Ok(storage.unwrap_or(State::Ready))
}

/// None when there is no such deployment.
fn deployment(node: &Node<'_>, name: &str, selector: &str) -> Result<Option<State>> {
    let path = format!("/apis/apps/v1/namespaces/kube-system/deployments/{name}");
    let Some(there) = node.api.find(&path)? else {
        return Ok(None);
    };
    if let Err(reason) = rolled_out(&there) {
        let why = why(node.api, "kube-system", selector);
        return Ok(Some(State::NotYet(why.unwrap_or(reason))));
    }
    Ok(Some(State::Ready))
}

/// Whether a deployment runs as it was specified last; else how far it is.
pub(crate) fn rolled_out(deployment: &Value) -> Result<(), String> {
    let status = |field: &str| deployment["status"][field].as_i64().unwrap_or(0);
    let wanted = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
    let (available, updated) = (status("availableReplicas"), status("updatedReplicas"));
    if available >= wanted && updated >= wanted && is_observed(deployment) {
        return Ok(());
    }
    Err(format!("{available} of {wanted} pods available"))
}

/// Whether a daemon set runs as it was specified last; else how far it is.
pub(crate) fn set_rolled_out(set: &Value) -> Result<(), String> {
    let number = |field: &str| set["status"][field].as_i64().unwrap_or(0);
    let (ready, wanted) = (number("numberReady"), number("desiredNumberScheduled"));
    if wanted > 0 && ready >= wanted && number("updatedNumberScheduled") >= wanted && is_observed(set) {
        return Ok(());
    }
    Err(format!("{ready} of {wanted} pods ready"))
}

/// Whether the status is about the present specification.
fn is_observed(object: &Value) -> bool {
    object["status"]["observedGeneration"].as_i64() >= object["metadata"]["generation"].as_i64()
}

/// The whole way that a pod's question takes: the service's address, kube-proxy's rules, CoreDNS, the apiserver behind it.
fn dns_answers(node: &Node<'_>) -> Result<State> {
    let server = network::dns_address(&node.spec.service_cidr)?.to_string();
    let name = format!("kubernetes.default.svc.{}.", node.spec.dns_domain);
    Ok(unless(
        node.runner.succeeds(&question(&server, 53, &name)?)?,
        || format!("{name} is not resolved by {server}"),
    ))
}

fn question(server: &str, port: u16, name: &str) -> Result<Command> {
    Ok(Command::new("bash")
        .args(["-s", "--", server, &port.to_string(), name])
        .stdin(render::file("ready/resolves")?)
        .deadline(Duration::from_secs(30)))
}

fn system_pods(node: &Node<'_>) -> Result<State> {
    let list = node.api.get("/api/v1/namespaces/kube-system/pods")?;
    let pods = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let waiting = pods
        .iter()
        .find(|pod| !is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null());
    Ok(match waiting {
        _ if pods.is_empty() => State::NotYet("there are none yet".into()),
        Some(pod) => State::NotYet(format!(
            "{} is {}",
            pod["metadata"]["name"].as_str().unwrap_or("one"),
            state(pod)
        )),
        None => State::Ready,
    })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use sampan_driver::{Host, Runner};

    use super::*;

    /// A server of one answer.
    fn server(answer: fn(&[u8]) -> Vec<u8>) -> u16 {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let mut bytes = [0; 512];
            let (length, from) = socket.recv_from(&mut bytes).unwrap();
            socket.send_to(&answer(&bytes[..length]), from).unwrap();
        });
        port
    }

    #[test]
    fn a_name_is_asked_for_as_pods_do() {
        let resolves = |port| {
            let question = question("127.0.0.1", port, "kubernetes.default.svc.cluster.local.").unwrap();
            Host.succeeds(&question).unwrap()
        };
        // A label of ten letters is as long as a line feed is; it does not end the datagram.
        assert!(resolves(server(|question| {
            let name = b"\x0akubernetes\x07default\x03svc\x07cluster\x05local\0\0\x01\0\x01";
            assert_eq!(&question[2..12], b"\x01\0\0\x01\0\0\0\0\0\0");
            assert_eq!(&question[12..], name);
            [&question[..2], b"\x85\x80\0\x01\0\x01\0\0\0\0", name].concat()
        })));
        let no_such_name = |question: &[u8]| [&question[..2], b"\x85\x83\0\x01\0\0\0\0\0\0"].concat();
        assert!(!resolves(server(no_such_name)));
        let no_address = |question: &[u8]| [&question[..2], b"\x85\x80\0\x01\0\0\0\0\0\0"].concat();
        assert!(!resolves(server(no_address)));
        let nobody = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        assert!(!resolves(nobody));
    }

    #[test]
    fn every_component_asks_for_something() {
        for component in Component::ALL {
            assert!(
                CHECKS.iter().any(|check| check.asked_by.contains(&component)),
                "{component:?}"
            );
        }
    }
}
