//! What a cluster is to be, after all settings are merged and checked.

use serde::{Deserialize, Serialize};

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
    /// `--extra-config component.key=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_config: Vec<ExtraConfig>,
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
