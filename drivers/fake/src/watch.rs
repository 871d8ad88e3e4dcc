//! Watching a collection: what a list says is looked at again and again, and differences are told as events.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{Answer, Request};
use crate::machine::Server;

/// How often the collection is looked at.
const TICK: Duration = Duration::from_millis(20);

/// How long a watch lasts that names no time.
const LONGEST: u64 = 300;

/// Lines of events, until its time is over or the apiserver is gone. It begins with everything that is there: what happened since the
/// list that the client has seen is not remembered.
pub(crate) struct Watch {
    server: Server,
    list: Request,
    known: BTreeMap<String, Value>,
    end: Instant,
    lines: Vec<String>,
}

impl Watch {
    /// The watch that is asked for, if one is.
    pub(crate) fn wanted(server: &Server, request: &Request) -> Option<Self> {
        let watches = request.parameter("watch")?;
        if request.method != "GET" || !matches!(watches.as_str(), "true" | "1") {
            return None;
        }
        let seconds = request
            .parameter("timeoutSeconds")
            .and_then(|text| text.parse().ok());
        Some(Self {
            server: server.clone(),
            list: request.clone(),
            known: BTreeMap::new(),
            end: Instant::now() + Duration::from_secs(seconds.unwrap_or(LONGEST)),
            lines: Vec::new(),
        })
    }

    fn look(&mut self) -> Option<()> {
        let Answer::Json(200, mut list) = self.server.answer(&self.list)? else {
            return None;
        };
        let Value::Array(items) = list["items"].take() else {
            return None;
        };
        let mut gone = std::mem::take(&mut self.known);
        for mut item in items {
            // Items of a list have none, events do.
            item["apiVersion"] = list["apiVersion"].clone();
            let name = item["metadata"]["uid"].to_string();
            match gone.remove(&name) {
                Some(before) if before == item => {}
                Some(_) => self.lines.push(event("MODIFIED", &item)),
                None => self.lines.push(event("ADDED", &item)),
            }
            self.known.insert(name, item);
        }
        self.lines
            .extend(gone.values().map(|item| event("DELETED", item)));
        Some(())
    }
}

impl Iterator for Watch {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        while self.lines.is_empty() {
            if Instant::now() >= self.end {
                return None;
            }
            self.look()?;
            if self.lines.is_empty() {
                thread::sleep(TICK);
            }
        }
        Some(self.lines.remove(0))
    }
}

fn event(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({ "type": kind, "object": object }))
}
