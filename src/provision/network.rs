//! The cluster's own network services: kube-proxy and CoreDNS, and the rights they and the node need.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::{API_PORT, Node, kubeadm, manifests, render};
use crate::error::{Error, Kind, Result};

/// The step's name.
pub(super) const ID: &str = "network";

pub(super) fn is_done(node: &Node<'_>) -> Result<bool> {
    manifests::is_applied(node.api, &objects(node)?)
}

pub(super) fn apply(node: &Node<'_>) -> Result<()> {
    node.cancel.check()?;
    node.api.apply(&objects(node)?)
}

fn objects(node: &Node<'_>) -> Result<Vec<Value>> {
    let config = kubeadm::to_yaml(&kubeadm::proxy(node.spec)?)?;
    let proxy = json!({
        "server": format!("https://{}:{API_PORT}", node.address),
        "config": config,
        "config_digest": super::digest([config.as_bytes()]),
        "image": node.parts.image("kube-proxy")?,
    });
    let dns = json!({
        "domain": node.spec.dns_domain,
        "address": dns_address(&node.spec.service_cidr)?.to_string(),
        "image": node.parts.image("coredns")?,
        "host": node.host,
        "api_address": node.address,
        "api_port": API_PORT,
    });
    let mut objects = Vec::new();
    for (name, context) in [
        ("manifests/kube-proxy.yaml", proxy),
        ("manifests/rbac.yaml", json!({})),
        ("manifests/coredns.yaml", dns),
    ] {
        objects.extend(manifests::objects(name, &render::render(name, context)?)?);
    }
    manifests::stamp(&mut objects);
    Ok(objects)
}

/// The address of cluster DNS: the tenth of the services' range, as kubeadm tells kubelet.
///
/// # Errors
/// [`Kind::Usage`] when the range is no IPv4 range or too small.
pub(super) fn dns_address(cidr: &str) -> Result<Ipv4Addr> {
    let wrong = || {
        Error::new(
            Kind::Usage,
            format!("service addresses {cidr}: not an IPv4 range of at least 16 addresses"),
        )
        .hint("give one like 10.96.0.0/12")
    };
    let (address, bits) = cidr.split_once('/').ok_or_else(wrong)?;
    let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
    let bits: u32 = bits
        .parse()
        .ok()
        .filter(|bits| (8..=28).contains(bits))
        .ok_or_else(wrong)?;
    Ok(Ipv4Addr::from(
        (u32::from(address) & (u32::MAX << (32 - bits))) + 10,
    ))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn proxy_and_dns_as_they_are_applied() {
        insta::assert_snapshot!(kubeadm::to_yaml(&objects(&Fixture::new().node()).unwrap()).unwrap());
    }

    #[test]
    fn dns_is_the_tenth_address_of_the_services() {
        assert_eq!(dns_address("10.96.0.0/12").unwrap(), Ipv4Addr::new(10, 96, 0, 10));
        assert_eq!(dns_address("10.43.7.9/16").unwrap(), Ipv4Addr::new(10, 43, 0, 10));
        for wrong in ["10.96.0.0", "10.96.0.0/30", "fd00::/108"] {
            assert!(dns_address(wrong).is_err(), "{wrong}");
        }
    }
}
