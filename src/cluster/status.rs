//! What a cluster is doing, seen from outside in a fraction of a second: the machine through its driver, Kubernetes through its API.

use std::time::Duration;

use sampan_driver::MachineState;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::events::{self, Event};
use super::machine::Machine;
use super::{Context, Profile, kubeconfig};
use crate::error::{Kind, Result};
use crate::provision::Api;
use crate::supervisor;

/// How long an answer of the API is waited for: `status` says what is, it does not wait for what will be.
const API_DEADLINE: Duration = Duration::from_secs(5);

/// The machine, in minikube's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum HostState {
    /// It runs.
    Running,
    /// It exists and does not run.
    Stopped,
    /// It runs, held still.
    Paused,
    /// There is none.
    Nonexistent,
}

/// The kubelet or the apiserver, in minikube's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ComponentState {
    /// It answers.
    Running,
    /// Its machine does not run, or it does not answer.
    Stopped,
    /// It answers that it is not well.
    Error,
    /// There is no machine.
    Nonexistent,
}

/// The user's kubeconfig, in minikube's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum KubeconfigState {
    /// It points to this cluster.
    Configured,
    /// It does not, or not to where the cluster is.
    Misconfigured,
    /// There is no machine.
    Nonexistent,
}

/// One profile's state.
#[derive(Debug, Clone)]
pub struct Status {
    /// The profile's name.
    pub name: String,
    /// The machine.
    pub host: HostState,
    /// The kubelet: running when it renewed its lease in time, or answers.
    pub kubelet: ComponentState,
    /// The apiserver.
    pub apiserver: ComponentState,
    /// The kubeconfig.
    pub kubeconfig: KubeconfigState,
    /// A verb that is at work on the profile right now.
    pub event: Option<Event>,
    /// Memory that its machine really holds, in bytes, while it has a process; pages shared with others count in proportion.
    pub resident: Option<u64>,
    /// The profile itself.
    pub profile: Profile,
}

/// Looks at a profile.
///
/// # Errors
/// When there is no such profile, it is damaged, or its driver cannot be asked.
pub fn status(ctx: &Context, name: &str) -> Result<Status> {
    let machine = Machine::open(ctx, name)?;
    let profile = &machine.profile;
    let host = match machine.state()? {
        MachineState::Running => HostState::Running,
        MachineState::Stopped => HostState::Stopped,
        MachineState::Paused => HostState::Paused,
        MachineState::Absent => HostState::Nonexistent,
    };
    let (apiserver, kubelet) = match host {
        HostState::Running => components(ctx, profile),
        HostState::Nonexistent => (ComponentState::Nonexistent, ComponentState::Nonexistent),
        HostState::Stopped | HostState::Paused => (ComponentState::Stopped, ComponentState::Stopped),
    };
    let kubeconfig = match host {
        HostState::Nonexistent => KubeconfigState::Nonexistent,
        _ if kubeconfig::is_configured(ctx, profile)? => KubeconfigState::Configured,
        _ => KubeconfigState::Misconfigured,
    };
    let event = events::read(&machine.files);
    // One that is just being started gets its own at the end.
    if host == HostState::Running && event.is_none() && machine.driver.features().publishing {
        supervisor::nudge(ctx, name, false);
    }
    Ok(Status {
        name: name.to_owned(),
        host,
        kubelet,
        apiserver,
        kubeconfig,
        event,
        // Whoever looks at a machine that ends just now sees none.
        resident: machine
            .driver
            .snapshots()
            .and_then(|able| able.resident(&machine.spec).ok()),
        profile: machine.profile,
    })
}

/// The API of a profile's cluster.
///
/// # Errors
/// When its certificates cannot be read.
pub fn api(ctx: &Context, profile: &Profile) -> Result<Api> {
    let pki = ctx.layout.profile(&profile.spec.name).pki();
    Api::new(
        profile.api(),
        &pki.join("ca.crt"),
        &pki.join("admin.crt"),
        &pki.join("admin.key"),
    )
}

/// The apiserver's and the kubelet's state, both from the API.
fn components(ctx: &Context, profile: &Profile) -> (ComponentState, ComponentState) {
    let Ok(api) = api(ctx, profile) else {
        return (ComponentState::Stopped, ComponentState::Stopped);
    };
    let node = profile.node();
    let lease = format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node}");
    // A machine that has just gone on where it was saved has an old lease, and up to ten seconds to renew it.
    let answers = || api.is_ok(&format!("/api/v1/nodes/{node}/proxy/healthz"), API_DEADLINE);
    // One answer tells both: whoever serves a lease from etcd is a working apiserver.
    match api.get_within(&lease, API_DEADLINE) {
        Ok(lease) if is_fresh(&lease, OffsetDateTime::now_utc()) || answers() => {
            (ComponentState::Running, ComponentState::Running)
        }
        Ok(_) => (ComponentState::Running, ComponentState::Stopped),
        Err(error) => match error.kind() {
            Kind::NotFound => (ComponentState::Running, ComponentState::Stopped),
            Kind::ApiStopped => (ComponentState::Stopped, ComponentState::Stopped),
            _ => (ComponentState::Error, ComponentState::Stopped),
        },
    }
}

/// Whether a node's lease has not run out.
fn is_fresh(lease: &Value, now: OffsetDateTime) -> bool {
    let renewed = lease["spec"]["renewTime"]
        .as_str()
        .and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    let seconds = lease["spec"]["leaseDurationSeconds"].as_i64().unwrap_or(40);
    renewed.is_some_and(|renewed| now - renewed < time::Duration::seconds(seconds))
}

/// Whether the API answers and the node is Ready.
pub(super) fn node_is_ready(api: &Api, name: &str) -> bool {
    let node = api.get_within(&format!("/api/v1/nodes/{name}"), API_DEADLINE);
    node.is_ok_and(|node| {
        let conditions = node["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        conditions
            .iter()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_fresh_until_it_runs_out() {
        let lease = serde_json::json!({"spec": {"renewTime": "2026-01-01T00:00:00.000000Z", "leaseDurationSeconds": 40}});
        let at = |text| OffsetDateTime::parse(text, &Rfc3339).unwrap();
        assert!(is_fresh(&lease, at("2026-01-01T00:00:39Z")));
        assert!(!is_fresh(&lease, at("2026-01-01T00:00:40Z")));
        assert!(!is_fresh(&serde_json::json!({}), at("2026-01-01T00:00:00Z")));
    }
}
