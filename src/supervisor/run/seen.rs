//! What the apiserver and Docker say, and what it is worth.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1;
use kube::runtime::watcher;
use tokio::time::Instant as Tick;

use super::super::containers;
use super::super::service::reduce;
use super::Supervisor;

/// How long an apiserver is left alone that did not answer: after the first failure, and after each further one.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

impl Supervisor<'_> {
    /// Takes note of what the apiserver says.
    pub(super) fn seen(&mut self, event: Option<Result<watcher::Event<v1::Service>, watcher::Error>>) {
        let event = match event {
            Some(Ok(event)) => event,
            Some(Err(error)) => return self.unanswered(&error.to_string()),
            None => return self.unanswered("the watch has ended"),
        };
        let address = self.address;
        match event {
            watcher::Event::Init => self.listed = Some(BTreeMap::new()),
            watcher::Event::InitApply(service) => {
                let service = reduce(service);
                if let Some(listed) = self.listed.as_mut().filter(|_| service.matters(address)) {
                    listed.insert(service.id(), service);
                }
            }
            watcher::Event::InitDone => {
                self.services = self.listed.take().unwrap_or_default();
                self.synced = true;
                self.answered();
                self.gather();
            }
            watcher::Event::Apply(service) => {
                let service = reduce(service);
                let known = self.services.get(&service.id());
                if service.matters(address) {
                    if known != Some(&service) {
                        self.services.insert(service.id(), service);
                        self.gather();
                    }
                } else if known.is_some() {
                    self.services.remove(&service.id());
                    self.gather();
                }
                self.answered();
            }
            watcher::Event::Delete(service) => {
                if self.services.remove(&reduce(service).id()).is_some() {
                    self.gather();
                }
                self.answered();
            }
        }
    }

    /// Takes note of what Docker says. While it is silent, what is known of its containers stays: they run on without it.
    pub(super) fn seen_docker(&mut self, seen: containers::Seen) {
        let now = match seen {
            containers::Seen::Containers(now) => now,
            containers::Seen::Silent(why) => {
                self.log.line(&format!("docker does not answer: {why}"));
                self.containers.clone().unwrap_or_default()
            }
        };
        if self.containers.as_ref() != Some(&now) {
            self.containers = Some(now);
            self.gather();
        }
        self.state
            .send_if_modified(|state| !std::mem::replace(&mut state.docker, true));
    }

    fn answered(&mut self) {
        if self.listed.is_none() && self.state.borrow().trouble.is_some() {
            self.log.line("the apiserver answers again");
            self.state.send_modify(|state| state.trouble = None);
        }
        self.asks_again = None;
    }

    fn unanswered(&mut self, why: &str) {
        let pause = match self.state.borrow().trouble {
            Some(_) => BACKOFF.1,
            None => BACKOFF.0,
        };
        self.asks_again = Some((Tick::now() + pause, pause));
        if self.state.borrow().trouble.is_none() {
            self.log.line(&format!("the apiserver does not answer: {why}"));
        }
        self.state
            .send_modify(|state| state.trouble = Some(why.to_owned()));
    }
}
