//! The node's container images: imported once from the archive on the parts disk.

use std::time::Duration;

use sampan_driver::Command;

use super::base::PARTS;
use super::guest::{self, Stamp};
use super::{Node, runtime};
use crate::error::{Error, Kind, Result};

/// The step's name.
pub(super) const ID: &str = "images";

/// In containerd's own directory: whoever wipes its images wipes the record with them.
const STAMP: &str = "/var/lib/containerd/sampan-images";

pub(super) fn is_done(node: &Node<'_>) -> Result<bool> {
    Stamp::at(node, STAMP).is(&digest(node))
}

pub(super) fn apply(node: &Node<'_>) -> Result<()> {
    let import = Command::new("ctr")
        .args([
            "--address",
            runtime::SOCKET,
            "--namespace",
            "k8s.io",
            "images",
            "import",
            "--local",
        ])
        .arg(format!("{PARTS}/images/node.tar"))
        .deadline(Duration::from_secs(600));
    node.cancel.check()?;
    node.runner.run(&import).map_err(|error| {
        let error = guest::of_kind(Kind::Runtime)(error);
        if error.kind() == Kind::Storage {
            error.hint("give the node more disk: `--disk-size`")
        } else {
            error
        }
    })?;
    check(node)?;
    Stamp::at(node, STAMP).write(&digest(node))
}

/// Every image of the bundle has to be there under the name that manifests use.
fn check(node: &Node<'_>) -> Result<()> {
    let list = Command::new("ctr").args([
        "--address",
        runtime::SOCKET,
        "--namespace",
        "k8s.io",
        "images",
        "list",
        "--quiet",
    ]);
    let there = node
        .runner
        .run(&list)
        .map_err(guest::of_kind(Kind::Runtime))?
        .text();
    let there: Vec<&str> = there.lines().collect();
    let wanted = node
        .parts
        .images
        .iter()
        .map(|image| format!("{}:{}", image.name, image.tag));
    let missing: Vec<String> = wanted.filter(|image| !there.contains(&image.as_str())).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Bundle,
        format!(
            "images/node.tar of bundle {} lacks {}",
            node.parts.key,
            missing.join(", ")
        ),
    )
    .hint("build the bundle again: `sampan bundle remove`, then `sampan bundle build`"))
}

fn digest(node: &Node<'_>) -> String {
    super::digest([node.parts.key.as_bytes()])
}
