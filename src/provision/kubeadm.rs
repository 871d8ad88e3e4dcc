//! The configuration that kubeadm reads, and the ones of kubelet and kube-proxy: typed, with what `--extra-config` and
//! `--feature-gates` ask for merged in.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::extra::{Arg, args, check_components, gates, kubeadm_gate, kubernetes_gates, preflight, set};
use super::{API_PORT, Node, SERVER_NAME, cri, tuning};
use crate::error::{Error, Kind, Result};
use crate::settings::{ClusterSpec, ContainerRuntime, is_newer};

/// Where strategic patches for the manifests of the control plane lie in the guest.
pub(super) const PATCHES: &str = "/etc/kubernetes/sampan/patches";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InitConfiguration {
    api_version: &'static str,
    kind: &'static str,
    #[serde(rename = "localAPIEndpoint")]
    local_api_endpoint: ApiEndpoint,
    node_registration: NodeRegistration,
    patches: Patches,
    timeouts: Timeouts,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiEndpoint {
    advertise_address: String,
    bind_port: u16,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeRegistration {
    name: String,
    cri_socket: String,
    /// None: the only node has to take the user's pods too.
    taints: [String; 0],
    kubelet_extra_args: Vec<Arg>,
    image_pull_policy: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ignore_preflight_errors: Vec<String>,
}

#[derive(Serialize)]
struct Patches {
    directory: &'static str,
}

/// Generous: the guest may be emulated.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Timeouts {
    control_plane_component_health_check: &'static str,
    kubelet_health_check: &'static str,
    #[serde(rename = "kubernetesAPICall")]
    kubernetes_api_call: &'static str,
    #[serde(rename = "etcdAPICall")]
    etcd_api_call: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterConfiguration {
    api_version: &'static str,
    kind: &'static str,
    cluster_name: String,
    kubernetes_version: String,
    control_plane_endpoint: String,
    encryption_algorithm: &'static str,
    certificate_validity_period: &'static str,
    networking: Networking,
    etcd: Etcd,
    api_server: ApiServer,
    controller_manager: Component,
    scheduler: Component,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    feature_gates: BTreeMap<String, bool>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Networking {
    dns_domain: String,
    pod_subnet: String,
    service_subnet: String,
}

#[derive(Serialize)]
struct Etcd {
    local: LocalEtcd,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LocalEtcd {
    data_dir: &'static str,
    extra_args: Vec<Arg>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiServer {
    #[serde(rename = "certSANs")]
    cert_sans: Vec<String>,
    extra_args: Vec<Arg>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Component {
    extra_args: Vec<Arg>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KubeletConfiguration {
    api_version: &'static str,
    kind: &'static str,
    cgroup_driver: &'static str,
    #[serde(rename = "containerRuntimeEndpoint")]
    runtime: String,
    resolv_conf: &'static str,
    fail_swap_on: bool,
    /// Local disks: what fills them is the user's, and evicting a single node's pods helps nobody.
    eviction_hard: BTreeMap<&'static str, &'static str>,
    #[serde(rename = "imageGCHighThresholdPercent")]
    image_gc_high_threshold_percent: u8,
    /// What a pod pulled from a registry under one name, another one may run under the name Docker gave it: the kubelet would ask for
    /// credentials of each name otherwise, and there is one user.
    #[serde(skip_serializing_if = "Option::is_none")]
    image_pull_credentials_verification_policy: Option<&'static str>,
    sync_frequency: &'static str,
    file_check_frequency: &'static str,
    node_status_update_frequency: &'static str,
    node_status_report_frequency: &'static str,
    node_lease_duration_seconds: u32,
    volume_stats_agg_period: &'static str,
    cpu_manager_reconcile_period: &'static str,
    runtime_request_timeout: &'static str,
    container_log_max_size: &'static str,
    container_log_monitor_interval: &'static str,
    /// kube-proxy speaks nftables: nobody needs the chains that kubelet would otherwise look after every minute.
    #[serde(rename = "makeIPTablesUtilChains")]
    make_iptables_util_chains: bool,
    max_parallel_image_pulls: u32,
    serialize_image_pulls: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    feature_gates: BTreeMap<String, bool>,
}

/// The whole file for kubeadm: four documents.
///
/// # Errors
/// [`Kind::Usage`] for extra configuration or feature gates that cannot be used.
pub(super) fn configuration(node: &Node<'_>) -> Result<String> {
    check_components(&node.spec.extra_config)?;
    let gates = gates(&node.spec.feature_gates)?;
    let documents = [
        to_yaml(&init(node)?)?,
        to_yaml(&cluster(node, &gates)?)?,
        to_yaml(&kubelet(node.spec, &gates))?,
        to_yaml(&proxy(node.spec)?)?,
    ];
    Ok(documents.join("---\n"))
}

fn init(node: &Node<'_>) -> Result<InitConfiguration> {
    Ok(InitConfiguration {
        api_version: "kubeadm.k8s.io/v1beta4",
        kind: "InitConfiguration",
        local_api_endpoint: ApiEndpoint {
            advertise_address: node.address.to_string(),
            bind_port: API_PORT,
        },
        node_registration: NodeRegistration {
            name: node.name.to_owned(),
            cri_socket: cri::endpoint(node.spec),
            taints: [],
            kubelet_extra_args: args(
                &[
                    ("node-ip", &node.address.to_string()),
                    ("housekeeping-interval", "30s"),
                ],
                "",
                &node.spec.extra_config,
                "kubelet",
            ),
            image_pull_policy: "IfNotPresent",
            ignore_preflight_errors: preflight(&node.spec.extra_config)?,
        },
        patches: Patches { directory: PATCHES },
        timeouts: Timeouts {
            control_plane_component_health_check: "20m0s",
            kubelet_health_check: "10m0s",
            kubernetes_api_call: "10m0s",
            etcd_api_call: "10m0s",
        },
    })
}

fn cluster(node: &Node<'_>, gates: &BTreeMap<String, bool>) -> Result<ClusterConfiguration> {
    let spec = node.spec;
    let theirs: Vec<String> = kubernetes_gates(gates)
        .iter()
        .map(|(gate, on)| format!("{gate}={on}"))
        .collect();
    let theirs = theirs.join(",");
    let own =
        |component: &str, defaults: &[(&str, &str)]| args(defaults, &theirs, &spec.extra_config, component);
    let mut sans = vec![
        SERVER_NAME.to_owned(),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        node.address.to_string(),
    ];
    sans.extend(spec.apiserver_names.iter().cloned());
    sans.dedup();
    Ok(ClusterConfiguration {
        api_version: "kubeadm.k8s.io/v1beta4",
        kind: "ClusterConfiguration",
        // Not the profile's name: forks keep what the cluster was made with.
        cluster_name: node.name.to_owned(),
        kubernetes_version: spec.kubernetes_version.clone(),
        control_plane_endpoint: format!("{}:{API_PORT}", node.address),
        encryption_algorithm: "ECDSA-P256",
        certificate_validity_period: "26280h0m0s",
        networking: Networking {
            dns_domain: spec.dns_domain.clone(),
            pod_subnet: spec.pod_cidr.clone(),
            service_subnet: spec.service_cidr.clone(),
        },
        // etcd knows nothing of Kubernetes' feature gates.
        etcd: Etcd {
            local: LocalEtcd {
                data_dir: "/var/lib/etcd",
                extra_args: args(tuning::ETCD, "", &spec.extra_config, "etcd"),
            },
        },
        api_server: ApiServer {
            cert_sans: sans,
            extra_args: own("apiserver", tuning::API_SERVER),
        },
        controller_manager: Component {
            extra_args: own("controller-manager", tuning::CONTROLLER_MANAGER),
        },
        scheduler: Component {
            extra_args: own("scheduler", tuning::SCHEDULER),
        },
        feature_gates: gates
            .iter()
            .filter(|(gate, _)| kubeadm_gate(gate))
            .map(|(k, v)| (k.clone(), *v))
            .collect(),
    })
}

/// Whether the kubelet has that policy: with the feature switched off, it does not start when it is told one.
fn verifies_pulls(gates: &BTreeMap<String, bool>) -> bool {
    let gate = |name| gates.get(name).copied();
    gate("KubeletEnsureSecretPulledImages")
        .or(gate("AllBeta"))
        .unwrap_or(true)
}

/// Whether the kubelet would speak to cri-dockerd in a way that it does not understand: it gives addresses without a scheme, and `kubectl exec`
/// fails. <https://github.com/Mirantis/cri-dockerd/issues/569>
fn is_too_new_for_cri_dockerd(spec: &ClusterSpec) -> bool {
    spec.container_runtime == ContainerRuntime::Docker && !is_newer("v1.36.0", &spec.kubernetes_version)
}

fn kubelet(spec: &ClusterSpec, gates: &BTreeMap<String, bool>) -> KubeletConfiguration {
    let mut feature_gates = kubernetes_gates(gates);
    if is_too_new_for_cri_dockerd(spec) {
        feature_gates
            .entry("ExtendWebSocketsToKubelet".to_owned())
            .or_insert(false);
    }
    KubeletConfiguration {
        api_version: "kubelet.config.k8s.io/v1beta1",
        kind: "KubeletConfiguration",
        cgroup_driver: "systemd",
        runtime: cri::endpoint(spec),
        resolv_conf: "/run/systemd/resolve/resolv.conf",
        fail_swap_on: false,
        eviction_hard: BTreeMap::from([
            ("imagefs.available", "0%"),
            ("nodefs.available", "0%"),
            ("nodefs.inodesFree", "0%"),
        ]),
        image_gc_high_threshold_percent: 100,
        image_pull_credentials_verification_policy: verifies_pulls(gates).then_some("NeverVerify"),
        sync_frequency: "2m0s",
        file_check_frequency: "1m0s",
        node_status_update_frequency: "30s",
        node_status_report_frequency: "5m0s",
        node_lease_duration_seconds: 120,
        volume_stats_agg_period: "5m0s",
        cpu_manager_reconcile_period: "1m0s",
        runtime_request_timeout: "10m0s",
        container_log_max_size: "10Mi",
        container_log_monitor_interval: "1m0s",
        make_iptables_util_chains: false,
        max_parallel_image_pulls: 3,
        serialize_image_pulls: false,
        feature_gates,
    }
}

/// The configuration of kube-proxy, also for its config map.
///
/// # Errors
/// [`Kind::Usage`] for extra configuration that does not fit.
pub(super) fn proxy(spec: &ClusterSpec) -> Result<Value> {
    let gates = kubernetes_gates(&gates(&spec.feature_gates)?);
    let mut config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": spec.pod_cidr,
        "bindAddress": "0.0.0.0",
        "clientConnection": { "kubeconfig": "/var/lib/kube-proxy/kubeconfig.conf" },
        // The node's own limit stands.
        "conntrack": { "maxPerCore": 0 },
        "nftables": { "syncPeriod": "5m0s" },
        "configSyncPeriod": "15m0s",
    });
    if !gates.is_empty() {
        config["featureGates"] = json!(gates);
    }
    for extra in spec
        .extra_config
        .iter()
        .filter(|extra| extra.component == "proxy")
    {
        let value = yaml_serde::from_str(&extra.value).unwrap_or_else(|_| Value::String(extra.value.clone()));
        set(&mut config, &extra.key, value).ok_or_else(|| {
            Error::new(
                Kind::Usage,
                format!("--extra-config proxy.{}: no such field can be set", extra.key),
            )
            .hint("fields are those of KubeProxyConfiguration, like proxy.mode or proxy.conntrack.maxPerCore")
        })?;
    }
    Ok(config)
}

/// A value as YAML.
///
/// # Errors
/// [`Kind::Internal`]: values are ours.
pub(super) fn to_yaml(value: &impl Serialize) -> Result<String> {
    yaml_serde::to_string(value).map_err(|source| {
        Error::new(Kind::Internal, "a configuration cannot be written as YAML").because(source)
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn the_configuration_of_a_plain_cluster() {
        insta::assert_snapshot!(configuration(&Fixture::new().node()).unwrap());
    }

    #[test]
    fn extra_configuration_and_feature_gates_reach_their_components() {
        let mut fixture = Fixture::new()
            .extra("kubelet", "max-pods", "50")
            .extra("apiserver", "profiling", "true")
            .extra("controller-manager", "v", "4")
            .extra("scheduler", "v", "5")
            .extra("etcd", "heartbeat-interval", "100")
            .extra("proxy", "mode", "iptables")
            .extra("proxy", "conntrack.maxPerCore", "7")
            .extra("kubeadm", "ignore-preflight-errors", "NumCPU,Mem");
        fixture.spec.feature_gates = "Some=true, PublicKeysECDSA=false".into();
        fixture.spec.apiserver_names = vec!["mine.test".into()];
        insta::assert_snapshot!(configuration(&fixture.node()).unwrap());
    }

    #[test]
    fn a_kubelet_is_told_no_policy_that_it_does_not_have() {
        let fixture = Fixture::new();
        let policy = |gates: &[(&str, bool)]| {
            let gates = gates.iter().map(|&(name, on)| (name.to_owned(), on)).collect();
            kubelet(&fixture.spec, &gates).image_pull_credentials_verification_policy
        };
        assert_eq!(policy(&[]), Some("NeverVerify"));
        assert_eq!(policy(&[("KubeletEnsureSecretPulledImages", false)]), None);
        assert_eq!(policy(&[("AllBeta", false)]), None);
        let own = [("AllBeta", false), ("KubeletEnsureSecretPulledImages", true)];
        assert_eq!(policy(&own), Some("NeverVerify"));
    }

    #[test]
    fn a_kubelet_on_docker_speaks_as_cri_dockerd_does() {
        let mut fixture = Fixture::new();
        let gate = |fixture: &Fixture, own: &[(&str, bool)]| {
            let own = own.iter().map(|&(name, on)| (name.to_owned(), on)).collect();
            let gates = kubelet(&fixture.spec, &own).feature_gates;
            gates.get("ExtendWebSocketsToKubelet").copied()
        };
        assert_eq!(gate(&fixture, &[]), None);
        fixture.spec.container_runtime = ContainerRuntime::Docker;
        assert_eq!(gate(&fixture, &[]), Some(false));
        assert_eq!(gate(&fixture, &[("ExtendWebSocketsToKubelet", true)]), Some(true));
        // An older one has no such gate, and does not start with what it does not know.
        fixture.spec.kubernetes_version = "v1.35.4".into();
        assert_eq!(gate(&fixture, &[]), None);
    }

    #[test]
    fn what_cannot_be_used_is_an_error_that_says_what_can() {
        for (component, key, hint) in [
            ("kublet", "x", "kubelet, kubeadm"),
            ("kubeadm", "x", "ignore-preflight-errors"),
            ("proxy", "mode.x", "proxy.mode"),
        ] {
            let error = configuration(&Fixture::new().extra(component, key, "1").node()).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert!(error.hints()[0].contains(hint), "{error} {:?}", error.hints());
        }
        let mut fixture = Fixture::new();
        fixture.spec.feature_gates = "Some".into();
        assert_eq!(configuration(&fixture.node()).unwrap_err().kind(), Kind::Usage);
    }
}
