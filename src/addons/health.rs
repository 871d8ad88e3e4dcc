//! Whether an addon does its work: the table in its `addon.toml`, walked with one deadline for all.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::registry::Addon;
use super::{Ready, ReadyKind};
use crate::error::{Error, Kind, Result};
use crate::provision::{Api, Node, last_words, readiness};

const PAUSE: Duration = Duration::from_millis(400);

/// Waits until everything that the addon says must be ready is.
///
/// # Errors
/// [`Kind::Addon`] with what is not, why, and the last words of its pods; [`Kind::Interrupted`].
pub(super) fn wait(node: &Node<'_>, addon: &Addon, deadline: Duration) -> Result<()> {
    let end = Instant::now() + deadline;
    for ready in &addon.about.ready {
        let what = format!("{} {}", ready.kind.words(), ready.name);
        loop {
            node.cancel.check()?;
            // An apiserver that does not answer this once may answer the next time.
            let reason = match look(node.api, ready) {
                Ok(Ok(())) => break,
                Ok(Err(reason)) => reason,
                Err(error) if matches!(error.kind(), Kind::ApiStopped | Kind::ControlPlane) => {
                    error.to_string()
                }
                Err(error) => return Err(error),
            };
            if Instant::now() >= end {
                return Err(late(
                    node.api,
                    addon,
                    ready,
                    &format!("{what}: {reason}"),
                    deadline,
                ));
            }
            node.reporter
                .detail(&format!("{}: waiting for {what}: {reason}", addon.name));
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

fn late(api: &Api, addon: &Addon, ready: &Ready, why: &str, deadline: Duration) -> Error {
    let words = match ready.kind {
        ReadyKind::Deployment | ReadyKind::DaemonSet | ReadyKind::Job => {
            last_words::pods(api, &ready.namespace, "")
        }
        _ => String::new(),
    };
    let name = &addon.name;
    let message = format!(
        "the addon {name} is not healthy after {}s: {why}{words}",
        deadline.as_secs()
    );
    Error::new(Kind::Addon, message).hint(format!(
        "run `sampan addons enable {name}` again to go on waiting, or `sampan addons disable {name}`"
    ))
}

/// Whether it is ready right now; the inner error says why not.
fn look(api: &Api, ready: &Ready) -> Result<Result<(), String>> {
    let Some(object) = api.find(&path(ready))? else {
        return Ok(Err("it is not there yet".to_owned()));
    };
    let state = match ready.kind {
        ReadyKind::Deployment => readiness::rolled_out(&object),
        ReadyKind::DaemonSet => readiness::set_rolled_out(&object),
        ReadyKind::CustomResourceDefinition => condition(&object, "Established"),
        ReadyKind::ApiService => condition(&object, "Available"),
        ReadyKind::Job => condition(&object, "Complete"),
        ReadyKind::Service => match object["status"]["loadBalancer"]["ingress"].as_array() {
            Some(places) if !places.is_empty() => Ok(()),
            _ => Err("it has no address yet".to_owned()),
        },
    };
    Ok(state.map_err(|reason| words_of_pods(api, ready, &object).unwrap_or(reason)))
}

/// Why the pods behind something are not ready.
fn words_of_pods(api: &Api, ready: &Ready, object: &Value) -> Option<String> {
    let labels = object["spec"]["selector"]["matchLabels"].as_object()?;
    let selector: Vec<String> = labels
        .iter()
        .filter_map(|(key, value)| Some(format!("{key}%3D{}", value.as_str()?)))
        .collect();
    last_words::why(api, &ready.namespace, &selector.join(","))
}

fn condition(object: &Value, kind: &str) -> Result<(), String> {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|one| one["type"] == kind);
    match found {
        Some(one) if one["status"] == "True" => Ok(()),
        Some(one) => Err(one["message"].as_str().unwrap_or("not yet").to_owned()),
        None => Err("not yet".to_owned()),
    }
}

fn path(ready: &Ready) -> String {
    let Ready { namespace, name, .. } = ready;
    match ready.kind {
        ReadyKind::Deployment => format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}"),
        ReadyKind::DaemonSet => format!("/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}"),
        ReadyKind::CustomResourceDefinition => {
            format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
        }
        ReadyKind::ApiService => format!("/apis/apiregistration.k8s.io/v1/apiservices/{name}"),
        ReadyKind::Job => format!("/apis/batch/v1/namespaces/{namespace}/jobs/{name}"),
        ReadyKind::Service => format!("/api/v1/namespaces/{namespace}/services/{name}"),
    }
}

impl ReadyKind {
    /// What people call it.
    fn words(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::DaemonSet => "daemon set",
            Self::CustomResourceDefinition => "definition",
            Self::ApiService => "API",
            Self::Job => "job",
            Self::Service => "service",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_condition_must_be_true_and_says_why_it_is_not() {
        let object = |status: &str| json!({ "status": { "conditions": [{ "type": "Available", "status": status, "message": "no endpoints" }] } });
        assert_eq!(condition(&object("True"), "Available"), Ok(()));
        assert_eq!(
            condition(&object("False"), "Available"),
            Err("no endpoints".to_owned())
        );
        assert_eq!(condition(&json!({}), "Available"), Err("not yet".to_owned()));
    }
}
