//! What is published: the driver's forwards are made equal to the plan. Blocks as long as the driver does.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use sampan_driver::{Driver, DriverError, Forward, MachineSpec, PortForward, Protocol, refused};

use super::containers::Container;
use super::plan::{self, Forwards, Given, Ground, Plan, Slot};
use super::ports::{Rule, RuleState};
use super::service::Service;
use super::{ContainerPort, Publication};

/// How often places are chosen anew in one go, when somebody else was quicker.
const ROUNDS: usize = 4;

/// What Services, containers and the user want right now.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// None before the apiserver was asked: then what is published of Services stays.
    pub(super) services: Option<Vec<Service>>,
    /// None before Docker was asked: then all that is published stays.
    pub(super) containers: Option<Vec<Container>>,
    pub(super) rules: Vec<Rule>,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome {
    pub(super) published: Vec<Publication>,
    pub(super) containers: Vec<ContainerPort>,
    pub(super) rules: Vec<RuleState>,
    /// Services were known.
    pub(super) complete: bool,
    /// Lines for the log.
    pub(super) done: Vec<String>,
    /// Something is not as it is wanted, and may be later.
    pub(super) again: bool,
}

/// The forwards of one machine.
pub(super) struct Board {
    pub(super) driver: Box<dyn Driver>,
    pub(super) spec: MachineSpec,
    pub(super) ground: Ground,
    given: Option<Given>,
}

impl Board {
    pub(super) fn new(driver: Box<dyn Driver>, spec: MachineSpec, address: std::net::IpAddr) -> Self {
        let ground = Ground {
            address,
            exact: driver.features().loopback_range,
            reserved: spec
                .forwards
                .iter()
                .map(|forward| (forward.protocol, forward.host))
                .collect(),
        };
        Self {
            driver,
            spec,
            ground,
            given: None,
        }
    }

    /// Makes what is published equal to what is wanted, as far as it goes.
    pub(super) fn apply(&mut self, wanted: &Wanted) -> Outcome {
        let mut outcome = Outcome {
            complete: wanted.services.is_some(),
            ..Outcome::default()
        };
        if let Err(error) = self.try_apply(wanted, &mut outcome) {
            outcome.done.push(format!("trouble: {error}"));
            outcome.again = true;
        }
        outcome
    }

    fn try_apply(&mut self, wanted: &Wanted, outcome: &mut Outcome) -> Result<(), DriverError> {
        let Self {
            driver, spec, ground, ..
        } = self;
        let Some(ports) = driver.port_forward() else {
            return Ok(());
        };
        let there = |ports: &dyn PortForward| -> Result<Forwards, DriverError> {
            let all = ports.list(spec)?.into_iter().map(plan::entry);
            Ok(all.filter(|(slot, _)| !ground.reserved.contains(slot)).collect())
        };
        let mut avoid = BTreeSet::new();
        let services = wanted.services.as_deref();
        let containers = wanted.containers.as_deref().unwrap_or_default();
        let all_known = services.is_some() && wanted.containers.is_some();
        for round in 1..=ROUNDS {
            let now = there(ports)?;
            let given = match (&self.given, services) {
                (Some(given), _) => given.clone(),
                // What another supervisor of this machine chose stays.
                (None, Some(services)) => recovered(services, containers, &now),
                (None, None) => Given::new(),
            };
            let mut usable = |slot: Slot| {
                !avoid.contains(&slot) && (now.contains_key(&slot) || refused(slot.0, slot.1).is_none())
            };
            let plan = plan::plan(
                ground,
                services.unwrap_or_default(),
                containers,
                &wanted.rules,
                &given,
                &mut usable,
            );
            let troubles = change(ports, spec, &now, &plan, all_known, outcome);
            let movable = |slot: &Slot| plan.given.values().any(|port| *port == slot.1.port());
            let moved: Vec<Slot> = troubles
                .iter()
                .map(|(forward, _)| (forward.protocol, forward.host))
                .filter(movable)
                .collect();
            let mut given = plan.given.clone();
            given.retain(|key, port| {
                !moved
                    .iter()
                    .any(|(protocol, host)| (*protocol, host.port()) == (key.protocol, *port))
            });
            self.given = all_known.then_some(given);
            if moved.is_empty() || round == ROUNDS {
                finish(plan, &troubles, outcome);
                break;
            }
            avoid.extend(moved);
        }
        Ok(())
    }
}

/// Removes and adds; gives what could not be added, and why.
fn change(
    ports: &dyn PortForward,
    spec: &MachineSpec,
    now: &Forwards,
    plan: &Plan,
    complete: bool,
    outcome: &mut Outcome,
) -> Vec<(Forward, String)> {
    let (remove, add) = plan::diff(now, &plan.forwards());
    for forward in remove.iter().filter(|_| complete) {
        match ports.remove(spec, forward) {
            Ok(()) => outcome.done.push(format!("withdrawn {forward}")),
            Err(error) => {
                outcome
                    .done
                    .push(format!("trouble: {forward} cannot be withdrawn: {error}"));
                outcome.again = true;
            }
        }
    }
    let mut troubles = Vec::new();
    for forward in add {
        match ports.add(spec, &forward) {
            Ok(()) => outcome.done.push(format!("published {forward}")),
            Err(error) => troubles.push((forward, explain(forward.protocol, forward.host, &error))),
        }
    }
    troubles
}

fn explain(protocol: Protocol, host: SocketAddr, error: &DriverError) -> String {
    match error {
        DriverError::PortTaken { .. } => {
            format!(
                "{protocol} port {} of {} is in use by another program",
                host.port(),
                host.ip()
            )
        }
        DriverError::PortRefused { .. } => format!(
            "the system does not allow this user to listen on {protocol} port {} of {}",
            host.port(),
            host.ip()
        ),
        other => other.to_string(),
    }
}

/// Puts together what is to be told.
fn finish(plan: Plan, troubles: &[(Forward, String)], outcome: &mut Outcome) {
    outcome.again |= !troubles.is_empty();
    let trouble = |forward: &Forward| {
        troubles
            .iter()
            .find(|(troubled, _)| troubled == forward)
            .map(|(_, why)| why.clone())
    };
    for (mut publication, forward) in plan.services {
        if let Some(forward) = forward {
            publication.trouble = trouble(&forward);
            publication.at = publication.trouble.is_none().then_some(forward.host);
        }
        outcome.published.push(publication);
    }
    for (mut port, forward) in plan.containers {
        if let Some(forward) = forward {
            port.trouble = trouble(&forward);
            port.at = port.trouble.is_none().then_some(forward.host);
        }
        outcome.containers.push(port);
    }
    for (rule, forward) in plan.rules {
        let trouble = match &forward {
            Ok(forward) => trouble(forward),
            Err(why) => Some(why.clone()),
        };
        let at = forward
            .ok()
            .filter(|_| trouble.is_none())
            .map(|forward| forward.host);
        outcome.rules.push(RuleState { rule, at, trouble });
    }
}

/// Places of load balancers and containers, from forwards that are there: those that lead to their node port and are not it.
fn recovered(services: &[Service], containers: &[Container], now: &Forwards) -> Given {
    let mut given = Given::new();
    let found = |protocol: Protocol, node_port: u16| {
        let leads = |((of, host), guest): &(&Slot, &u16)| {
            *of == protocol && **guest == node_port && host.port() != node_port
        };
        now.iter().find(leads).map(|((_, host), _)| host.port())
    };
    for container in containers {
        for port in &container.ports {
            if let Some(protocol) = port.protocol
                && let Some(host) = found(protocol, port.public)
            {
                given.insert(plan::container_key(container, port.public, protocol), host);
            }
        }
    }
    for service in services {
        for port in &service.ports {
            let (Some(protocol), Some(node_port)) = (port.protocol, port.node_port) else {
                continue;
            };
            if let Some(host) = found(protocol, node_port) {
                let key = plan::Key {
                    service: service.id(),
                    uid: service.uid.clone(),
                    protocol,
                    port: port.port,
                    for_load_balancer: service.kind == Some(super::service::Kind::LoadBalancer),
                };
                given.insert(key, host);
            }
        }
    }
    given
}

#[cfg(test)]
#[path = "board_tests.rs"]
pub(super) mod tests;
