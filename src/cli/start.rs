//! `start`: make a cluster, or bring it back up.

use clap::Args;

use super::EventOutput;

/// Make a cluster, or bring it back up
///
/// The first start makes a virtual machine and a single-node Kubernetes cluster in it, and adds it to your kubeconfig. It keeps a
/// ready snapshot of that, from which later clusters of the same size are forked in seconds. A start that was interrupted goes on
/// where it stopped; a stopped cluster goes on where it was saved, a paused one too; one that runs already is left as it is.
///
/// Every setting can also stand in the settings file (`sampan config set memory 4g`) or in the environment (SAMPAN_MEMORY=4g).
#[derive(Debug, Clone, Default, Args)]
pub struct StartArgs {
    /// What runs the virtual machine, as qemu; `sampan driver list` tells what there is [default: the best that works]
    #[arg(
        short,
        long,
        alias = "vm-driver",
        value_name = "NAME",
        help_heading = "Machine"
    )]
    pub driver: Option<String>,
    /// Virtual CPUs, or "max" for all of the host's [default: 2]
    #[arg(long, value_name = "N", help_heading = "Machine")]
    pub cpus: Option<String>,
    /// Memory, as 4g or 4096mb [default: a quarter of the host's, 3 to 6 GiB]
    #[arg(short, long, value_name = "SIZE", help_heading = "Machine")]
    pub memory: Option<String>,
    /// Size of the disk; it takes room on the host only as it fills [default: 20000mb]
    #[arg(long, value_name = "SIZE", help_heading = "Machine")]
    pub disk_size: Option<String>,

    /// Kubernetes version, as v1.36.3 or 1.36 [default: the newest there is]. A cluster that exists is upgraded to a newer one
    #[arg(long, value_name = "VERSION", help_heading = "Kubernetes")]
    pub kubernetes_version: Option<String>,
    /// What runs the containers of pods: containerd, or docker, where the bundle has cri-dockerd [default: containerd]
    #[arg(
        id = "container-runtime",
        short = 'c',
        long,
        value_name = "NAME",
        help_heading = "Kubernetes"
    )]
    pub container_runtime: Option<String>,
    /// Configure a component, as kubelet.maxPods=50; can be repeated. Components: kubelet, kubeadm, apiserver,
    /// controller-manager, scheduler, proxy, etcd
    #[arg(long, value_name = "COMPONENT.KEY=VALUE", help_heading = "Kubernetes")]
    pub extra_config: Vec<String>,
    /// Feature gates, as A=true,B=false
    #[arg(long, value_name = "GATES", help_heading = "Kubernetes")]
    pub feature_gates: Option<String>,
    /// Further names the apiserver's certificate is valid for
    #[arg(long, value_name = "NAME,…", help_heading = "Kubernetes")]
    pub apiserver_names: Vec<String>,
    /// Domain of cluster DNS names [default: cluster.local]
    #[arg(long, value_name = "DOMAIN", help_heading = "Kubernetes")]
    pub dns_domain: Option<String>,
    /// Addresses of services [default: 10.96.0.0/12]
    #[arg(long, value_name = "CIDR", help_heading = "Kubernetes")]
    pub service_cluster_ip_range: Option<String>,
    /// Addresses of pods [default: 10.244.0.0/16]
    #[arg(long, value_name = "CIDR", help_heading = "Kubernetes")]
    pub pod_cidr: Option<String>,

    /// What to wait for: apiserver, system_pods, default_sa, apps_running, node_ready, kubelet, extra; all or none
    /// [default: apiserver,system_pods]
    #[arg(long, value_name = "NAME,…")]
    pub wait: Vec<String>,
    /// How long to wait for it, as 6m or 90s [default: 6m]
    #[arg(long, value_name = "TIME")]
    pub wait_timeout: Option<String>,
    /// Addons to enable; see `sampan addons list`
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub addons: Vec<String>,
    /// Check everything and change nothing
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub dry_run: Option<bool>,
    /// Where the bits of a new cluster come from: auto, upstream, build, a bundle file, a directory, a mirror, or a bundle's key.
    /// auto takes a bundle that is here, else fetches one when upstream answers, else builds one [default: auto]
    #[arg(long, value_name = "SOURCE", help_heading = "Kubernetes")]
    pub source: Option<String>,
    /// Certificates (PEM) of authorities to be trusted besides the system's own when something is fetched
    #[arg(long, value_name = "FILE", help_heading = "Kubernetes")]
    pub ca_file: Option<String>,
    /// Where upstream's images are fetched from when a bundle is, as registry.example/k8s; in the cluster they keep their names
    #[arg(long, value_name = "REPO", help_heading = "Registries")]
    pub image_repository: Option<String>,
    /// Where upstream's kubelet, kubeadm and kubectl are fetched from, instead of https://dl.k8s.io/release
    #[arg(long, value_name = "URL", help_heading = "Registries")]
    pub binary_mirror: Option<String>,
    /// A mirror of Docker Hub that the node asks first, as https://mirror.example; can be repeated. A cluster that exists changes
    /// to what is named, and keeps what it has when nothing is; an empty one takes all away
    #[arg(long, value_name = "URL", help_heading = "Registries")]
    pub registry_mirror: Vec<String>,
    /// A registry that does without TLS, as registry.example:5000, or for Docker a network of them, as 10.0.0.0/8; can be
    /// repeated, and changed like mirrors
    #[arg(long, value_name = "HOST[:PORT]|CIDR", help_heading = "Registries")]
    pub insecure_registry: Vec<String>,
    /// Make or fetch what a start needs, and stop there
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub download_only: Option<bool>,
    /// Boot and initialise a new cluster from the node image instead of forking it from the ready snapshot
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub fresh: Option<bool>,
    /// Leave the current kubectl context as it is
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub keep_context: Option<bool>,
    /// Delete the cluster when its first start fails
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub delete_on_failure: Option<bool>,
    /// Go on where a check says no
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub force: Option<bool>,
    /// How it talks.
    #[command(flatten)]
    pub output: EventOutput,
}

impl StartArgs {
    /// The flags that are settings: name and value, none where the flag was not given.
    pub fn settings(&self) -> Vec<(&'static str, Option<String>)> {
        let joined = |words: &[String], by: &str| (!words.is_empty()).then(|| words.join(by));
        let flag = |flag: Option<bool>| flag.map(|flag| flag.to_string());
        vec![
            ("driver", self.driver.clone()),
            ("cpus", self.cpus.clone()),
            ("memory", self.memory.clone()),
            ("disk-size", self.disk_size.clone()),
            ("kubernetes-version", self.kubernetes_version.clone()),
            ("container-runtime", self.container_runtime.clone()),
            ("extra-config", joined(&self.extra_config, " ")),
            ("feature-gates", self.feature_gates.clone()),
            ("apiserver-names", joined(&self.apiserver_names, ",")),
            ("dns-domain", self.dns_domain.clone()),
            ("service-cluster-ip-range", self.service_cluster_ip_range.clone()),
            ("pod-cidr", self.pod_cidr.clone()),
            ("source", self.source.clone()),
            ("ca-file", self.ca_file.clone()),
            ("image-repository", self.image_repository.clone()),
            ("binary-mirror", self.binary_mirror.clone()),
            ("registry-mirror", joined(&self.registry_mirror, ",")),
            ("insecure-registry", joined(&self.insecure_registry, ",")),
            ("wait", joined(&self.wait, ",")),
            ("wait-timeout", self.wait_timeout.clone()),
            ("keep-context", flag(self.keep_context)),
            ("delete-on-failure", flag(self.delete_on_failure)),
            ("force", flag(self.force)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::KEYS;

    /// Settings of other verbs.
    const OTHERS: [&str; 2] = ["cache-quota", "stop-mode"];

    #[test]
    fn every_setting_has_its_flag_and_every_flag_its_setting() {
        let mut flags: Vec<_> = StartArgs::default()
            .settings()
            .into_iter()
            .map(|(name, _)| name)
            .chain(OTHERS)
            .collect();
        let mut keys: Vec<_> = KEYS.iter().map(|key| key.name).collect();
        flags.sort_unstable();
        keys.sort_unstable();
        assert_eq!(flags, keys);
    }
}
