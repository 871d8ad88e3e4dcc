//! What a cluster is to be, after all settings are merged and checked.

use serde::{Deserialize, Serialize};

/// What runs the containers of pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerRuntime {
    /// The containerd that Docker runs on, too.
    #[default]
    Containerd,
    /// Docker itself, by way of a cri-dockerd.
    Docker,
}

impl ContainerRuntime {
    /// "containerd" or "docker".
    pub fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Docker => "docker",
        }
    }

    /// What a setting says; none for words that are no runtime of ours.
    pub(super) fn read(text: &str) -> Option<Self> {
        match text {
            "" | "auto" | "containerd" => Some(Self::Containerd),
            "docker" => Some(Self::Docker),
            _ => None,
        }
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A validated description of one cluster. Stored in the profile, so that the next `start` makes the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSpec {
    /// Profile, context, cluster, user and node name: a DNS label of at most 63 characters.
    pub name: String,
    /// Driver name.
    pub driver: String,
    /// Virtual CPUs, at least 2.
    pub cpus: u32,
    /// Memory in MiB, at least 1800.
    pub memory_mib: u64,
    /// Disk in MiB, at least 4096.
    pub disk_mib: u64,
    /// Kubernetes version with leading "v".
    pub kubernetes_version: String,
    /// What runs the containers of pods.
    #[serde(default, skip_serializing_if = "ContainerRuntime::is_default")]
    pub container_runtime: ContainerRuntime,
    /// Domain of cluster DNS names.
    pub dns_domain: String,
    /// Addresses of services.
    pub service_cidr: String,
    /// Addresses of pods.
    pub pod_cidr: String,
    /// Further names the apiserver's certificate is valid for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apiserver_names: Vec<String>,
    /// `--feature-gates` as given ("A=true,B=false"); empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub feature_gates: String,
    /// Registries, HOST or HOST:PORT, and networks of them that do without TLS. A running cluster takes others over, so they are no part of what
    /// ready layers are made for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub insecure_registries: Vec<String>,
    /// Addresses of mirrors of Docker Hub, asked in this order; as the above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registry_mirrors: Vec<String>,
    /// `--extra-config component.key=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_config: Vec<ExtraConfig>,
}

impl ClusterSpec {
    /// What of it a ready layer is made for, under the name of the layer's cluster.
    pub(crate) fn of_layer(&self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            insecure_registries: Vec::new(),
            registry_mirrors: Vec::new(),
            ..self.clone()
        }
    }

    /// Takes over what of another one a running cluster can change to.
    pub(crate) fn follow(&mut self, other: &Self) {
        self.insecure_registries.clone_from(&other.insecure_registries);
        self.registry_mirrors.clone_from(&other.registry_mirrors);
    }
}

/// One `--extra-config component.key=value`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraConfig {
    /// kubelet, kubeadm, apiserver, controller-manager, scheduler, proxy or etcd.
    pub component: String,
    /// The flag or configuration field.
    pub key: String,
    /// Its value.
    pub value: String,
}
