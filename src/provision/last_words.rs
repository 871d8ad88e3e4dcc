//! What the guest itself has to say when something does not come up: journals of its units, pods that are not well with their
//! events and logs. Best effort: nothing here fails, and nothing takes long.

use std::fmt::Write;
use std::time::Duration;

use sampan_driver::Command;
use serde_json::Value;

use super::{Api, Node};

/// At most so many lines of each thing.
const LINES: usize = 12;

/// The guest's last words, ready to follow a message: empty, or lines that begin with a line break.
pub fn last_words(node: &Node<'_>) -> String {
    if node.cancel.is_set() {
        return String::new();
    }
    let pods = if node.api.is_ok("/livez", Duration::from_secs(5)) {
        pods(node.api, "kube-system", "")
    } else {
        static_pods(node)
    };
    format!(
        "{}{pods}",
        journal(node, &["kubelet.service", "containerd.service"], LINES)
    )
}

/// The last lines of units' journals.
pub(super) fn journal(node: &Node<'_>, units: &[&str], lines: usize) -> String {
    let mut text = String::new();
    for unit in units {
        let ask = Command::new("journalctl")
            .args(["--no-pager", "--output=cat", "--quiet", "--lines"])
            .arg(lines.to_string())
            .arg(format!("--unit={unit}"))
            .deadline(Duration::from_secs(15));
        if let Ok(output) = node.runner.run(&ask) {
            section(&mut text, &format!("journal of {unit}"), &output.text(), lines);
        }
    }
    text
}

/// While the API does not answer: what etcd and the apiserver wrote.
fn static_pods(node: &Node<'_>) -> String {
    let mut text = String::new();
    for name in ["etcd", "kube-apiserver"] {
        let script = format!("tail -n {LINES} /var/log/pods/kube-system_{name}-*/{name}/*.log");
        if let Ok(output) = node
            .runner
            .run(&Command::shell(script).deadline(Duration::from_secs(15)))
        {
            section(&mut text, &format!("log of {name}"), &output.text(), LINES);
        }
    }
    text
}

/// Pods of a namespace that are not ready: why, and what happened to them. `selector` chooses among them, as it stands in a query.
pub(crate) fn pods(api: &Api, namespace: &str, selector: &str) -> String {
    let mut text = String::new();
    let root = format!("/api/v1/namespaces/{namespace}");
    let Ok(list) = api.get(&format!("{root}/pods?labelSelector={selector}")) else {
        return text;
    };
    for pod in list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|pod| !is_ready(pod))
    {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        section(&mut text, &format!("pod {name}"), &state(pod), LINES);
        let path = format!("{root}/events?fieldSelector=involvedObject.name={name}&limit=20");
        if let Ok(events) = api.get(&path) {
            section(&mut text, &format!("events of {name}"), &messages(&events), LINES);
        }
        if let Ok(log) = api.text(&format!("{root}/pods/{name}/log?tailLines={LINES}")) {
            section(&mut text, &format!("log of {name}"), &log, LINES);
        }
    }
    text
}

/// Why pods are not ready, in their own words; none when there is no pod that is not.
pub(crate) fn why(api: &Api, namespace: &str, selector: &str) -> Option<String> {
    let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector={selector}");
    let list = api.get(&path).ok()?;
    let pod = list["items"].as_array()?.iter().find(|pod| !is_ready(pod))?;
    Some(format!("{} is {}", pod["metadata"]["name"].as_str()?, state(pod)))
}

/// Whether a pod is ready, or has done its work.
pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let ready = conditions
        .into_iter()
        .flatten()
        .any(|one| one["type"] == "Ready" && one["status"] == "True");
    ready || pod["status"]["phase"] == "Succeeded"
}

/// Phase of a pod, and why its containers wait or ended.
pub(crate) fn state(pod: &Value) -> String {
    let mut text = pod["status"]["phase"]
        .as_str()
        .unwrap_or("unknown")
        .to_lowercase();
    for container in pod["status"]["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten()
    {
        for state in ["waiting", "terminated"] {
            let state = &container["state"][state];
            if let Some(reason) = state["reason"].as_str() {
                let message = state["message"].as_str().unwrap_or_default();
                let _ = write!(text, ", {reason} {message}");
            }
        }
    }
    for condition in pod["status"]["conditions"].as_array().into_iter().flatten() {
        if condition["type"] == "PodScheduled" && condition["status"] == "False" {
            let _ = write!(text, ", {}", condition["message"].as_str().unwrap_or_default());
        }
    }
    text.trim_end().to_owned()
}

fn messages(events: &Value) -> String {
    let line = |event: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        format!("{}: {}", text(&event["reason"]), text(&event["message"]))
    };
    events["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Adds a titled section with the last lines of `body`, unless it is empty.
fn section(text: &mut String, title: &str, body: &str, lines: usize) {
    let body: Vec<&str> = body.lines().filter(|line| !line.trim().is_empty()).collect();
    if body.is_empty() {
        return;
    }
    let _ = write!(text, "\n  {title}:");
    for line in &body[body.len().saturating_sub(lines)..] {
        let line: String = line.chars().take(240).collect();
        let _ = write!(text, "\n    {line}");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_that_waits_says_why() {
        let pod = json!({ "status": {
            "phase": "Pending",
            "containerStatuses": [{ "state": { "waiting": { "reason": "ErrImagePull", "message": "not found" } } }],
        }});
        assert_eq!(state(&pod), "pending, ErrImagePull not found");
        assert!(!is_ready(&pod));
        assert!(is_ready(&json!({ "status": { "phase": "Succeeded" } })));
    }

    #[test]
    fn sections_keep_the_last_lines_and_leave_out_empty_bodies() {
        let mut text = String::new();
        section(&mut text, "nothing", "\n  \n", 2);
        section(&mut text, "log", "a\nb\nc\n", 2);
        assert_eq!(text, "\n  log:\n    b\n    c");
    }
}
