//! Makes a booted guest a Kubernetes node: over a [`Runner`] for what has to happen inside it, over the cluster's own API
//! ([`Api`]) for the rest. Knows nothing of drivers.
//!
//! Every step is a module with `is_done` (cheap, changes nothing) and `apply` (does it; doing it twice does no harm).
//! [`STEPS`] lists them in their order; `readiness` then says when the cluster is fit for use. Nothing here ever resets
//! etcd or touches what a user put into the cluster.

mod api;
mod base;
mod certs;
mod cloud;
mod control_plane;
mod cri;
mod docker;
mod extra;
mod guest;
mod images;
mod kubeadm;
mod labels;
pub(crate) mod last_words;
pub(crate) mod manifests;
mod network;
pub mod readiness;
mod registries;
pub(crate) mod render;
mod runtime;
#[cfg(test)]
mod testing;
mod tuning;
mod upgrade;
mod wake;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use sampan_driver::Runner;
use sha2::{Digest, Sha256};

pub use api::{Api, SERVER_NAME};
pub use last_words::last_words;
pub use wake::{rename, renew, wake};

use crate::error::{Error, Kind, Result};
use crate::pki::docker::Served;
use crate::progress::{Cancel, Reporter};
use crate::settings::ClusterSpec;

/// The port the apiserver listens on in the guest.
pub const API_PORT: u16 = 8443;

/// The port Docker listens on in the guest.
pub const DOCKER_PORT: u16 = docker::PORT;

/// A node under construction, and everything the steps need to know of it.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    /// Runs commands in the guest, as root.
    pub runner: &'a dyn Runner,
    /// The cluster's API as the host reaches it. It need not answer yet.
    pub api: &'a Api,
    /// The node's name.
    pub name: &'a str,
    /// What the cluster is to be.
    pub spec: &'a ClusterSpec,
    /// What the bundle brought.
    pub parts: &'a Parts,
    /// The cluster's own certificate authority.
    pub pki: &'a Pki,
    /// The guest's own address, as its pods and its apiserver see it (10.0.2.15 in a user-mode network).
    pub address: IpAddr,
    /// The host, as the guest reaches it (10.0.2.2 in a user-mode network).
    pub host: IpAddr,
    /// Where progress is told.
    pub reporter: &'a dyn Reporter,
    /// Whether the user wants to stop.
    pub cancel: &'a Cancel,
}

/// What of a bundle the node needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The bundle's key; names what is on the parts disk.
    pub key: String,
    /// Whether the base is a cloud image, which cloud-init sets up and which lacks what sampan's own base has.
    pub cloud: bool,
    /// The images in the archives on the parts disk, as in the bundle's manifest.
    pub images: Vec<ImageRef>,
}

/// One container image of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRef {
    /// Name with registry: "registry.k8s.io/kube-apiserver".
    pub name: String,
    /// Tag.
    pub tag: String,
    /// Whether only an addon needs it: it is there once [`ADDON_IMAGES`] is done.
    pub addon: bool,
}

impl Parts {
    /// The full reference of the image whose name ends with `/NAME`.
    ///
    /// # Errors
    /// [`Kind::Bundle`] when the bundle has no such image.
    pub fn image(&self, name: &str) -> Result<String> {
        let image = self
            .images
            .iter()
            .find(|image| image.name.rsplit('/').next() == Some(name));
        image
            .map(|image| format!("{}:{}", image.name, image.tag))
            .ok_or_else(|| {
                Error::new(Kind::Bundle, format!("bundle {} has no image {name}", self.key))
                    .hint("build it again: `sampan bundle build`")
            })
    }
}

/// Authorities and certificates on the host, PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pki {
    /// Certificate of the cluster's authority.
    pub ca_cert: PathBuf,
    /// Its key.
    pub ca_key: PathBuf,
    /// Docker's own.
    pub docker: Served,
}

/// One step of provisioning.
#[derive(Clone, Copy)]
pub struct Step {
    /// Short stable name, for stamps and tests ("runtime").
    pub id: &'static str,
    /// What people read.
    pub title: &'static str,
    /// Whether there is nothing to do. Cheap; changes nothing.
    pub is_done: fn(&Node<'_>) -> Result<bool>,
    /// Does it. Doing it twice does no harm.
    pub apply: fn(&Node<'_>) -> Result<()>,
}

/// Host name, kernel settings, programs.
pub const BASE: Step = Step {
    id: base::ID,
    title: "preparing the node",
    is_done: base::is_done,
    apply: base::apply,
};
/// containerd, runc and the network of pods.
pub const RUNTIME: Step = Step {
    id: runtime::ID,
    title: "starting containerd",
    is_done: runtime::is_done,
    apply: runtime::apply,
};
/// How the kubelet reaches what runs containers: nothing to do for containerd; Docker and a cri-dockerd where pods are to run on Docker.
pub const CRI: Step = Step {
    id: cri::ID,
    title: "starting cri-dockerd",
    is_done: cri::is_done,
    apply: cri::apply,
};
/// Container images.
pub const IMAGES: Step = Step {
    id: images::ID,
    title: "importing container images",
    is_done: images::is_done,
    apply: images::apply,
};
/// Container images of addons; no part of [`STEPS`], as a node is complete without. Ready snapshots have them, other clusters get them
/// when the first addon needs them.
pub const ADDON_IMAGES: Step = Step {
    id: images::ADDONS_ID,
    title: "importing the images of addons",
    is_done: images::are_addons_done,
    apply: images::apply_addons,
};
/// kubelet, etcd, apiserver, controller manager, scheduler; done when the API answers.
pub const CONTROL_PLANE: Step = Step {
    id: control_plane::ID,
    title: "starting the control plane",
    is_done: control_plane::is_done,
    apply: control_plane::apply,
};
/// kube-proxy and CoreDNS. From here on the API must answer.
pub const NETWORK: Step = Step {
    id: network::ID,
    title: "setting up network and DNS",
    is_done: network::is_done,
    apply: network::apply,
};
/// How containerd asks registries.
pub const REGISTRIES: Step = Step {
    id: registries::ID,
    title: "configuring registries",
    is_done: registries::is_done,
    apply: registries::apply,
};
/// Docker, and its images for Kubernetes.
pub const DOCKER: Step = Step {
    id: docker::ID,
    title: "starting Docker",
    is_done: docker::is_done,
    apply: docker::apply,
};
/// The node's labels; waits until it has registered.
pub const LABELS: Step = Step {
    id: labels::ID,
    title: "registering the node",
    is_done: labels::is_done,
    apply: labels::apply,
};

/// All steps, in their order.
pub const STEPS: &[Step] = &[
    BASE,
    RUNTIME,
    IMAGES,
    CRI,
    CONTROL_PLANE,
    NETWORK,
    REGISTRIES,
    DOCKER,
    LABELS,
];

/// Waits until the apiserver says that it works.
///
/// # Errors
/// [`Kind::ControlPlaneTimeout`] with the guest's last words; [`Kind::Interrupted`].
pub fn wait_for_api(node: &Node<'_>, deadline: Duration) -> Result<()> {
    control_plane::wait_for_api(node, deadline)
}

/// A short hash of texts that belong together, for stamps.
pub(crate) fn digest<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.len().to_le_bytes());
        hash.update(text);
    }
    hash.finalize()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
