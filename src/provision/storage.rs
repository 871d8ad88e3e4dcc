//! The default storage class `standard`: directories on the node's disk, made by local-path-provisioner.

use serde_json::{Value, json};

use super::{API_PORT, Node, manifests, render};
use crate::error::Result;

/// The step's name.
pub(super) const ID: &str = "storage";

pub(super) fn is_done(node: &Node<'_>) -> Result<bool> {
    manifests::is_applied(node.api, &objects(node)?)
}

pub(super) fn apply(node: &Node<'_>) -> Result<()> {
    node.cancel.check()?;
    node.api.apply(&objects(node)?)
}

fn objects(node: &Node<'_>) -> Result<Vec<Value>> {
    let context = json!({
        "image": node.parts.image("local-path-provisioner")?,
        "api_address": node.address,
        "api_port": API_PORT,
        "helper": node.parts.image("helper")?,
    });
    let name = "manifests/storage.yaml";
    let mut objects = manifests::objects(name, &render::render(name, context)?)?;
    manifests::stamp(&mut objects);
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::super::kubeadm;
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn storage_as_it_is_applied() {
        insta::assert_snapshot!(kubeadm::to_yaml(&objects(&Fixture::new().node()).unwrap()).unwrap());
    }
}
