//! The node's labels, and no taint that would keep the user's pods away from the only node there is.

use std::time::Duration;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::macros::format_description;

use super::{Node, guest};
use crate::error::{Error, Kind, Result};

/// The step's name.
pub(super) const ID: &str = "labels";

const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
const UPDATED: &str = "sampan.dev/updated-at";

pub(super) fn is_done(node: &Node<'_>) -> Result<bool> {
    let Some(there) = node.api.find(&path(node))? else {
        return Ok(false);
    };
    let labels = labels(node);
    let right = labels
        .iter()
        .all(|(key, value)| there["metadata"]["labels"][key] == *value);
    Ok(right && taints(&there).is_none())
}

pub(super) fn apply(node: &Node<'_>) -> Result<()> {
    node.reporter.detail("waiting for the node to register");
    let mut there = Value::Null;
    guest::poll(
        node,
        Duration::from_secs(300),
        || {
            there = node.api.find(&path(node))?.unwrap_or_default();
            Ok(there.is_object())
        },
        || {
            let words = super::last_words(node);
            Error::new(
                Kind::ControlPlaneTimeout,
                format!("kubelet did not register the node within 300s{words}"),
            )
            .hint("see `sampan logs`")
        },
    )?;
    let mut labels = labels(node);
    labels.insert(UPDATED.into(), Value::String(now()?));
    let mut change = json!({ "metadata": { "labels": labels } });
    if let Some(taints) = taints(&there) {
        change["spec"] = json!({ "taints": taints });
    }
    node.api.merge(&path(node), &change).map(drop)
}

fn path(node: &Node<'_>) -> String {
    format!("/api/v1/nodes/{}", node.name)
}

fn labels(node: &Node<'_>) -> Map<String, Value> {
    let labels = [
        (CONTROL_PLANE, String::new()),
        ("sampan.dev/name", node.spec.name.clone()),
        ("sampan.dev/primary", "true".to_owned()),
        ("sampan.dev/version", format!("v{}", env!("CARGO_PKG_VERSION"))),
    ];
    labels
        .into_iter()
        .map(|(key, value)| (key.to_owned(), Value::String(value)))
        .collect()
}

/// The node's taints without the control plane's; nothing when it has none of these.
fn taints(there: &Value) -> Option<Vec<Value>> {
    let taints = there["spec"]["taints"].as_array()?;
    let kept: Vec<Value> = taints
        .iter()
        .filter(|taint| taint["key"] != CONTROL_PLANE)
        .cloned()
        .collect();
    (kept.len() != taints.len()).then_some(kept)
}

/// Now, in the letters that a label may have.
fn now() -> Result<String> {
    OffsetDateTime::now_utc()
        .format(format_description!(
            "[year]_[month]_[day]T[hour]_[minute]_[second]Z"
        ))
        .map_err(|source| Error::new(Kind::Internal, "cannot write the time").because(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_control_plane_taint_is_taken_away() {
        let node = |taints: Value| json!({ "spec": { "taints": taints } });
        let (own, other) = (json!({ "key": CONTROL_PLANE }), json!({ "key": "mine" }));
        assert_eq!(taints(&node(json!([own, other]))), Some(vec![other.clone()]));
        assert_eq!(taints(&node(json!([other]))), None);
        assert_eq!(taints(&json!({ "spec": {} })), None);
    }
}
