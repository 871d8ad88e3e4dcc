//! Reports as CloudEvents, one JSON object a line, in the shapes of minikube.
//!
//! Types and data keys are minikube's own (`io.k8s.sigs.minikube.step`, …), so what reads `minikube start -o json` reads this too;
//! only `source` tells the two apart. All data are strings, as there.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

const SOURCE: &str = "https://sampan.dev/";

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Step,
    Info,
    Warning,
    Error,
    Download,
    DownloadProgress,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Step => "io.k8s.sigs.minikube.step",
            Self::Info => "io.k8s.sigs.minikube.info",
            Self::Warning => "io.k8s.sigs.minikube.warning",
            Self::Error => "io.k8s.sigs.minikube.error",
            Self::Download => "io.k8s.sigs.minikube.download",
            Self::DownloadProgress => "io.k8s.sigs.minikube.download.progress",
        }
    }
}

/// Makes events that differ in their id, also from those of other runs.
#[derive(Debug)]
pub(super) struct Events {
    run: u64,
    next: AtomicU64,
}

impl Events {
    pub(super) fn new() -> Self {
        // The standard library seeds each of these differently: enough for a name that must be unique, not secret.
        Self {
            run: RandomState::new().hash_one(std::process::id()),
            next: AtomicU64::new(0),
        }
    }

    /// One event as a line, with its newline.
    pub(super) fn line(&self, event: Type, data: &[(&str, String)]) -> String {
        let data: serde_json::Map<String, Value> = data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Value::String(value.clone())))
            .collect();
        let event = json!({
            "specversion": "1.0",
            "id": format!("{:016x}-{}", self.run, self.next.fetch_add(1, Ordering::Relaxed)),
            "source": SOURCE,
            "type": event.name(),
            "datacontenttype": "application/json",
            "data": data,
        });
        format!("{event}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_minikubes_shape() {
        let events = Events {
            run: 1,
            next: AtomicU64::new(7),
        };
        let line = events.line(
            Type::Step,
            &[("currentstep", "3".to_owned()), ("message", "a\nb".to_owned())],
        );
        assert_eq!(
            line,
            concat!(
                r#"{"specversion":"1.0","id":"0000000000000001-7","source":"https://sampan.dev/","#,
                r#""type":"io.k8s.sigs.minikube.step","datacontenttype":"application/json","#,
                r#""data":{"currentstep":"3","message":"a\nb"}}"#,
                "\n"
            )
        );
        assert_ne!(Events::new().run, Events::new().run);
    }
}
