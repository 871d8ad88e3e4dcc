//! The node's container images, imported from archives on the parts disk: those that every node needs when it is made, those of
//! addons before the ready snapshot is taken, or else when an addon needs them.

use std::time::Duration;

use sampan_driver::Command;

use super::base::PARTS;
use super::guest::{self, Stamp};
use super::{Node, runtime};
use crate::error::{Kind, Result};
use crate::settings::ContainerRuntime;

/// The step's name.
pub(super) const ID: &str = "images";

/// The name of the step for addons.
pub(super) const ADDONS_ID: &str = "addon-images";

/// In containerd's own directory: whoever wipes its images wipes the records with them.
const STAMP: &str = "/var/lib/containerd/sampan-images";
const ADDONS_STAMP: &str = "/var/lib/containerd/sampan-addon-images";

/// Tells the kubelet not to remove an image when the disk fills up: nothing could bring it back.
const PINNED: &str = "io.cri-containerd.pinned=pinned";

pub(super) fn is_done(node: &Node<'_>) -> Result<bool> {
    Stamp::at(node, STAMP).is(&digest(node))
}

pub(super) fn apply(node: &Node<'_>) -> Result<()> {
    node.cancel.check()?;
    import(node, "node.tar", &[])?;
    Stamp::at(node, STAMP).write(&digest(node))
}

/// Also done when the bundle is one from before addons had images: whoever asks for one of them is told then.
pub(super) fn are_addons_done(node: &Node<'_>) -> Result<bool> {
    Ok(!has_addons(node) || Stamp::at(node, ADDONS_STAMP).is(&digest(node))?)
}

pub(super) fn apply_addons(node: &Node<'_>) -> Result<()> {
    if !has_addons(node) {
        return Ok(());
    }
    node.cancel.check()?;
    import(node, "addons.tar", &["--label", PINNED])?;
    Stamp::at(node, ADDONS_STAMP).write(&digest(node))
}

fn has_addons(node: &Node<'_>) -> bool {
    node.parts.images.iter().any(|image| image.addon)
}

/// Imports and unpacks an archive: a pod finds all of it done. Docker is given the images by image-mirror where pods run on it.
fn import(node: &Node<'_>, archive: &str, more: &[&str]) -> Result<()> {
    // Docker unpacks for itself what it makes containers of.
    let unpack = match node.spec.container_runtime {
        ContainerRuntime::Containerd => None,
        ContainerRuntime::Docker => Some("--no-unpack"),
    };
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
        .args(unpack)
        .args(more.iter().copied())
        .arg(format!("{PARTS}/images/{archive}"))
        .deadline(Duration::from_secs(600));
    node.runner.run(&import).map(drop).map_err(|error| {
        let error = guest::of_kind(Kind::Runtime)(error);
        if error.kind() == Kind::Storage {
            error.hint("give the node more disk: `--disk-size`")
        } else {
            error
        }
    })
}

fn digest(node: &Node<'_>) -> String {
    super::digest([node.parts.key.as_bytes()])
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use sampan_driver::{CommandError, Failure, Host, Runner, Stream};

    use super::super::testing::Fixture;
    use super::*;

    /// A guest with no stamps, which remembers its commands.
    #[derive(Default)]
    struct Bare(Mutex<Vec<String>>);

    impl Runner for Bare {
        fn place(&self) -> String {
            "test".into()
        }

        fn run_streamed(
            &self,
            command: &Command,
            _: &mut dyn FnMut(Stream, &[u8]),
        ) -> Result<(), CommandError> {
            self.0.lock().unwrap().push(command.to_string());
            if command.program != "cat" {
                return Ok(());
            }
            Err(Host::error(command, Failure::Status(1)))
        }
    }

    #[test]
    fn images_of_addons_are_imported_apart_and_kept() {
        let (fixture, guest) = (Fixture::new(), Bare::default());
        let node = Node {
            runner: &guest,
            ..fixture.node()
        };
        assert!(!are_addons_done(&node).unwrap());
        apply_addons(&node).unwrap();
        apply(&node).unwrap();
        // Without the quotes that a shell would want.
        let commands = guest.0.into_inner().unwrap();
        let commands: Vec<String> = commands.iter().map(|command| command.replace('\'', "")).collect();
        let imports: Vec<_> = commands
            .iter()
            .filter(|command| command.contains(" import "))
            .collect();
        assert!(
            imports[0]
                .ends_with("--label io.cri-containerd.pinned=pinned /opt/sampan/parts/images/addons.tar")
        );
        assert!(imports[1].ends_with("--local /opt/sampan/parts/images/node.tar"));
        assert!(
            commands.iter().any(|command| command.contains(ADDONS_STAMP)),
            "{commands:?}"
        );
    }

    #[test]
    fn nothing_is_unpacked_twice_where_pods_run_on_docker() {
        let (mut fixture, guest) = (Fixture::new(), Bare::default());
        fixture.spec.container_runtime = ContainerRuntime::Docker;
        let node = Node {
            runner: &guest,
            ..fixture.node()
        };
        apply(&node).unwrap();
        let commands = guest.0.into_inner().unwrap();
        assert!(
            commands[0].contains("--namespace k8s.io images import --local --no-unpack "),
            "{commands:?}"
        );
    }

    #[test]
    fn a_bundle_without_images_of_addons_has_nothing_to_import() {
        let mut fixture = Fixture::new();
        fixture.parts.images.retain(|image| !image.addon);
        let guest = Bare::default();
        let node = Node {
            runner: &guest,
            ..fixture.node()
        };
        assert!(are_addons_done(&node).unwrap());
        apply_addons(&node).unwrap();
        assert_eq!(guest.0.into_inner().unwrap(), Vec::<String>::new());
    }
}
