//! The node's container images: imported once from the archive on the parts disk.

use std::time::Duration;

use sampan_driver::Command;

use super::base::PARTS;
use super::guest::{self, Stamp};
use super::{Node, runtime};
use crate::error::{Kind, Result};

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
    Stamp::at(node, STAMP).write(&digest(node))
}

fn digest(node: &Node<'_>) -> String {
    super::digest([node.parts.key.as_bytes()])
}
