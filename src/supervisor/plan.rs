//! From Services and containers to wanted forwards, and from what is there to what is to be changed. Nothing here has an effect.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use sampan_driver::{Forward, Protocol};

use super::containers::{self, Container};
use super::ports::Rule;
use super::service::{Id, Kind, Port, Service};
use super::{ContainerPort, Publication};

/// A place on the host.
pub(super) type Slot = (Protocol, SocketAddr);

/// Forwards by their place.
pub(super) type Forwards = BTreeMap<Slot, u16>;

/// Where a low port is looked for that this user may not listen on: 80 at 8080, 443 at 8443.
const LOW_PORTS_AT: u16 = 8000;

/// What ports are published on.
#[derive(Debug, Clone)]
pub(super) struct Ground {
    /// The profile's address.
    pub(super) address: IpAddr,
    /// The address is the profile's alone, so that ports keep their numbers; else they are shared with everybody.
    pub(super) exact: bool,
    /// What the machine began with; never touched.
    pub(super) reserved: BTreeSet<Slot>,
}

/// A port that was given a place. A container is a service without a namespace, and its ID its uid.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) service: Id,
    pub(super) uid: String,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
    pub(super) for_load_balancer: bool,
}

/// Places that were given before, so that they stay the same.
pub(super) type Given = BTreeMap<Key, u16>;

/// What is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Ports of Services, with where they belong; none where there is trouble already.
    pub(super) services: Vec<(Publication, Option<Forward>)>,
    /// Ports of containers, in the same way.
    pub(super) containers: Vec<(ContainerPort, Option<Forward>)>,
    /// The user's own, in their order.
    pub(super) rules: Vec<(Rule, Result<Forward, String>)>,
    /// Places to be remembered.
    pub(super) given: Given,
}

impl Plan {
    /// All forwards of it.
    pub(super) fn forwards(&self) -> Forwards {
        let services = self.services.iter().filter_map(|(_, forward)| *forward);
        let containers = self.containers.iter().filter_map(|(_, forward)| *forward);
        let rules = self
            .rules
            .iter()
            .filter_map(|(_, forward)| forward.as_ref().ok().copied());
        services.chain(containers).chain(rules).map(entry).collect()
    }
}

pub(super) fn entry(forward: Forward) -> (Slot, u16) {
    ((forward.protocol, forward.host), forward.guest_port)
}

/// What has to be removed, then added, to come from `there` to `wanted`.
pub(super) fn diff(there: &Forwards, wanted: &Forwards) -> (Vec<Forward>, Vec<Forward>) {
    let missing = |from: &Forwards, other: &Forwards| {
        let differs = |(slot, port): &(&Slot, &u16)| other.get(slot) != Some(port);
        let forward = |(&(protocol, host), &guest_port): (&Slot, &u16)| Forward {
            host,
            guest_port,
            protocol,
        };
        from.iter().filter(differs).map(forward).collect()
    };
    (missing(there, wanted), missing(wanted, there))
}

/// Gives every port its place: first the user's own, then ports of the node, then load balancers that had a place before, then containers, then
/// other load balancers from the oldest on. `usable` says whether a place could be listened on.
pub(super) fn plan(
    ground: &Ground,
    services: &[Service],
    containers: &[Container],
    rules: &[Rule],
    given: &Given,
    usable: &mut dyn FnMut(Slot) -> bool,
) -> Plan {
    let lives = |key: &Key| {
        let mut all = services.iter();
        all.any(|service| service.uid == key.uid && service.id() == key.service)
            || containers.iter().any(|container| container.id == key.uid)
    };
    let kept = given.iter().filter(|(key, _)| lives(key));
    let mut planner = Planner {
        ground,
        given,
        kept: kept
            .map(|(key, port)| ((key.protocol, *port), key.clone()))
            .collect(),
        taken: ground.reserved.clone(),
        plan: Plan::default(),
        usable,
    };
    rules.iter().for_each(|rule| planner.rule(*rule));
    let mut services: Vec<&Service> = services.iter().filter(|service| service.kind.is_some()).collect();
    services.sort_by_key(|service| (&service.created, service.id()));
    for service in &services {
        service
            .ports
            .iter()
            .for_each(|port| planner.node_port(service, port));
    }
    let balancers = services
        .iter()
        .filter(|service| service.kind == Some(Kind::LoadBalancer));
    let ports: Vec<_> = balancers
        .flat_map(|service| service.ports.iter().map(move |port| (*service, port)))
        .collect();
    for keeps in [true, false] {
        for (service, port) in &ports {
            planner.balanced_port(service, port, keeps);
        }
        // They are where they were asked for or not at all; who may be anywhere makes room for them, but does not move.
        for container in containers.iter().filter(|_| keeps) {
            container
                .ports
                .iter()
                .for_each(|port| planner.container_port(container, port));
        }
    }
    let order = |entry: &(Publication, Option<Forward>)| {
        let publication = &entry.0;
        (
            publication.namespace.clone(),
            publication.service.clone(),
            publication.for_load_balancer,
        )
    };
    planner.plan.services.sort_by_key(order);
    planner.plan
}

struct Planner<'a> {
    ground: &'a Ground,
    given: &'a Given,
    /// Whose a place is that was given before; nobody else gets it.
    kept: BTreeMap<(Protocol, u16), Key>,
    taken: BTreeSet<Slot>,
    plan: Plan,
    usable: &'a mut dyn FnMut(Slot) -> bool,
}

impl Planner<'_> {
    fn slot(&self, protocol: Protocol, port: u16) -> Slot {
        (protocol, SocketAddr::new(self.ground.address, port))
    }

    fn rule(&mut self, rule: Rule) {
        let forward = rule.forward(self.ground.address);
        let slot = (forward.protocol, forward.host);
        let result = if self.taken.insert(slot) {
            Ok(forward)
        } else {
            Err(format!("{} {} is sampan's own", slot.0, slot.1))
        };
        self.plan.rules.push((rule, result));
    }

    /// The node's port P is at P; where the address is shared with others and P is not to be had, at the nearest that is.
    fn node_port(&mut self, service: &Service, port: &Port) {
        let mut publication = describe(service, port, false);
        let (Some(protocol), Some(node_port)) = (port.protocol, port.node_port) else {
            if service.kind == Some(Kind::NodePort) {
                publication.trouble = Some(unreachable(port));
                self.plan.services.push((publication, None));
            }
            return;
        };
        let key = key(service, port, protocol, false);
        let place = if self.ground.exact {
            Some(node_port).filter(|port| !self.taken.contains(&self.slot(protocol, *port)))
        } else {
            self.place(&key, protocol, [node_port].into_iter().chain(after(node_port)))
        };
        self.settle(publication, key, place, node_port);
    }

    /// A load balancer's port p is at p, where it may be; a low one else at p + 8000; else at the nearest that is free.
    fn balanced_port(&mut self, service: &Service, port: &Port, keeps: bool) {
        let mut publication = describe(service, port, true);
        let (Some(protocol), Some(node_port)) = (port.protocol, port.node_port) else {
            if !keeps {
                publication.trouble = Some(unreachable(port));
                self.plan.services.push((publication, None));
            }
            return;
        };
        let key = key(service, port, protocol, true);
        let kept = self
            .given
            .get(&key)
            .is_some_and(|at| !self.taken.contains(&self.slot(protocol, *at)));
        if kept != keeps || self.plan.given.contains_key(&key) {
            return;
        }
        let base = if port.port < 1024 {
            port.port + LOW_PORTS_AT
        } else {
            port.port
        };
        let candidates = [port.port, base].into_iter().chain(after(base));
        let place = self.place(&key, protocol, candidates);
        self.settle(publication, key, place, node_port);
    }

    /// A container's port p is at p; a low one that this user may not listen on at p + 8000. Where the address is shared with others, at the
    /// nearest that is free. One that somebody else has is tried all the same, until it is free.
    fn container_port(&mut self, container: &Container, port: &containers::Port) {
        let mut entry = ContainerPort {
            container: container.name.clone(),
            port: port.private,
            guest: port.public,
            protocol: port.protocol.unwrap_or_default(),
            at: None,
            trouble: None,
        };
        let (Some(protocol), None) = (port.protocol, port.only_at) else {
            entry.trouble = Some(match port.only_at {
                Some(at) => format!("it is published at {at} of the node only"),
                None => "SCTP cannot be published".to_owned(),
            });
            self.plan.containers.push((entry, None));
            return;
        };
        let public = port.public;
        let key = container_key(container, public, protocol);
        let low = (public < 1024).then_some(public + LOW_PORTS_AT);
        let others = after(public).filter(|_| !self.ground.exact);
        let candidates: Vec<u16> = [public].into_iter().chain(low).chain(others).collect();
        let own = self.slot(protocol, public);
        let tried = Some(public).filter(|_| !self.taken.contains(&own));
        let Some(place) = self.place(&key, protocol, candidates.into_iter()).or(tried) else {
            entry.trouble = Some(format!(
                "port {public} of {} is in use by sampan itself, a service or `sampan port`",
                self.ground.address
            ));
            self.plan.containers.push((entry, None));
            return;
        };
        let slot = self.slot(protocol, place);
        self.taken.insert(slot);
        if place != public {
            self.plan.given.insert(key, place);
        }
        let forward = Forward {
            host: slot.1,
            guest_port: public,
            protocol,
        };
        self.plan.containers.push((entry, Some(forward)));
    }

    /// The place that was given before, or the first that can be given.
    fn place(&mut self, key: &Key, protocol: Protocol, candidates: impl Iterator<Item = u16>) -> Option<u16> {
        self.given
            .get(key)
            .copied()
            .into_iter()
            .chain(candidates)
            .find(|port| {
                let slot = self.slot(protocol, *port);
                let kept = self.given.get(key) == Some(port);
                let anothers = self
                    .kept
                    .get(&(protocol, *port))
                    .is_some_and(|other| other != key);
                !self.taken.contains(&slot) && !anothers && (kept || (self.usable)(slot))
            })
    }

    fn settle(&mut self, mut publication: Publication, key: Key, place: Option<u16>, node_port: u16) {
        let Some(place) = place else {
            publication.trouble = Some(format!(
                "port {} of {} is in use by sampan itself or by `sampan port`",
                node_port, self.ground.address
            ));
            self.plan.services.push((publication, None));
            return;
        };
        let slot = self.slot(key.protocol, place);
        self.taken.insert(slot);
        let forward = Forward {
            host: slot.1,
            guest_port: node_port,
            protocol: key.protocol,
        };
        if key.for_load_balancer || !self.ground.exact {
            self.plan.given.insert(key, place);
        }
        self.plan.services.push((publication, Some(forward)));
    }
}

pub(super) fn container_key(container: &Container, public: u16, protocol: Protocol) -> Key {
    Key {
        service: (String::new(), container.name.clone()),
        uid: container.id.clone(),
        protocol,
        port: public,
        for_load_balancer: false,
    }
}

fn key(service: &Service, port: &Port, protocol: Protocol, for_load_balancer: bool) -> Key {
    Key {
        service: service.id(),
        uid: service.uid.clone(),
        protocol,
        port: port.port,
        for_load_balancer,
    }
}

fn describe(service: &Service, port: &Port, for_load_balancer: bool) -> Publication {
    Publication {
        namespace: service.namespace.clone(),
        service: service.name.clone(),
        port_name: port.name.clone(),
        port: port.port,
        node_port: port.node_port,
        protocol: port.protocol.unwrap_or_default(),
        at: None,
        for_load_balancer,
        trouble: None,
    }
}

fn unreachable(port: &Port) -> String {
    if port.protocol.is_none() {
        return "SCTP cannot be published".to_owned();
    }
    "it has no node port (allocateLoadBalancerNodePorts is false), and only node ports lead into the machine"
        .to_owned()
}

/// Ports above this one, then those from 1024 on.
fn after(port: u16) -> impl Iterator<Item = u16> {
    (port.max(1023)..=u16::MAX).skip(1).chain(1024..port)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
