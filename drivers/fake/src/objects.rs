//! What is in a new cluster, and the states that controllers would bring about: everything that was asked for is there.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Lists by the last part of their path.
const KINDS: &[(&str, &str)] = &[
    ("apiservices", "APIService"),
    ("clusterrolebindings", "ClusterRoleBinding"),
    ("clusterroles", "ClusterRole"),
    ("configmaps", "ConfigMap"),
    ("customresourcedefinitions", "CustomResourceDefinition"),
    ("daemonsets", "DaemonSet"),
    ("deployments", "Deployment"),
    ("events", "Event"),
    ("ingressclasses", "IngressClass"),
    ("ingresses", "Ingress"),
    ("jobs", "Job"),
    ("leases", "Lease"),
    ("namespaces", "Namespace"),
    ("nodes", "Node"),
    ("persistentvolumeclaims", "PersistentVolumeClaim"),
    ("pods", "Pod"),
    ("rolebindings", "RoleBinding"),
    ("roles", "Role"),
    ("secrets", "Secret"),
    ("serviceaccounts", "ServiceAccount"),
    ("services", "Service"),
    ("storageclasses", "StorageClass"),
];

/// A time long ago: nothing here depends on it.
const CREATED: &str = "2026-01-01T00:00:00Z";

/// What a cluster has once its control plane runs, by API path.
pub(crate) fn first(node: &str) -> BTreeMap<String, Value> {
    let mut objects = BTreeMap::new();
    let mut add = |path: String, object: Value| {
        let mut object = object;
        complete(&mut object, &path);
        objects.insert(path, object);
    };
    for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
        add(
            format!("/api/v1/namespaces/{name}"),
            named("v1", "Namespace", name),
        );
    }
    add(
        "/api/v1/namespaces/default/serviceaccounts/default".into(),
        named("v1", "ServiceAccount", "default"),
    );
    let mut service = named("v1", "Service", "kubernetes");
    service["spec"] = json!({ "clusterIP": "10.96.0.1", "ports": [{ "name": "https", "port": 443 }] });
    add("/api/v1/namespaces/default/services/kubernetes".into(), service);
    let mut lease = named("coordination.k8s.io/v1", "Lease", node);
    // Nobody renews it here, so it must not run out.
    lease["spec"] = json!({ "renewTime": "2999-01-01T00:00:00.000000Z", "leaseDurationSeconds": 40 });
    add(
        format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node}"),
        lease,
    );
    let mut object = named("v1", "Node", node);
    object["metadata"]["labels"] = json!({ "kubernetes.io/hostname": node, "kubernetes.io/os": "linux" });
    object["spec"] = json!({});
    add(format!("/api/v1/nodes/{node}"), object);
    objects
}

fn named(version: &str, kind: &str, name: &str) -> Value {
    json!({ "apiVersion": version, "kind": kind, "metadata": { "name": name } })
}

/// Adds what the apiserver adds to every object.
pub(crate) fn complete(object: &mut Value, path: &str) {
    let namespace = path
        .split_once("/namespaces/")
        .and_then(|(_, rest)| rest.split_once('/'));
    if let Some((namespace, _)) = namespace {
        object["metadata"]["namespace"] = json!(namespace);
    }
    let metadata = &mut object["metadata"];
    let generation = metadata["generation"].as_i64().unwrap_or(0) + 1;
    metadata["generation"] = json!(generation);
    metadata["resourceVersion"] = json!(generation.to_string());
    metadata["uid"] = json!(format!("uid-of{}", path.replace('/', "-")));
    metadata["creationTimestamp"] = json!(CREATED);
}

/// Gives a service what the apiserver gives it: an address, and ports of the node.
pub(crate) fn allocate<'a>(object: &mut Value, others: impl Iterator<Item = &'a Value>) {
    if object["kind"] != "Service" || object["spec"]["type"] == "ExternalName" {
        return;
    }
    let count = others.filter(|other| other["kind"] == "Service").count();
    let spec = &mut object["spec"];
    if spec["clusterIP"].is_null() {
        spec["clusterIP"] = json!(format!("10.96.1.{}", count % 250 + 1));
    }
    let on_node = spec["type"] == "NodePort" || spec["type"] == "LoadBalancer";
    for (index, port) in spec["ports"].as_array_mut().into_iter().flatten().enumerate() {
        if on_node && port["nodePort"].is_null() {
            port["nodePort"] = json!(30_100 + count * 10 + index);
        }
    }
}

/// The kind of objects a list at this path has.
pub(crate) fn kind_of_list(path: &str) -> Option<&'static str> {
    let last = path.rsplit('/').next()?;
    KINDS
        .iter()
        .find(|(name, _)| *name == last)
        .map(|(_, kind)| *kind)
}

/// "v1" for "/api/v1/pods", "apps/v1" for "/apis/apps/v1/deployments".
pub(crate) fn version_of_path(path: &str) -> String {
    let mut parts = path.trim_start_matches('/').split('/');
    match parts.next() {
        Some("apis") => parts.take(2).collect::<Vec<_>>().join("/"),
        _ => parts.next().unwrap_or("v1").to_owned(),
    }
}

/// An object with the status its controller would have given it.
pub(crate) fn live(object: &Value, boot_id: &str) -> Value {
    let mut object = object.clone();
    let generation = object["metadata"]["generation"].clone();
    let replicas = object["spec"]["replicas"].as_i64().unwrap_or(1);
    match object["kind"].as_str().unwrap_or_default() {
        "Deployment" => {
            object["status"] = json!({
                "observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas,
                "readyReplicas": replicas, "availableReplicas": replicas,
                "conditions": [{ "type": "Available", "status": "True" }],
            });
        }
        "DaemonSet" => {
            object["status"] = json!({
                "observedGeneration": generation, "desiredNumberScheduled": 1, "currentNumberScheduled": 1,
                "updatedNumberScheduled": 1, "numberReady": 1, "numberAvailable": 1, "numberMisscheduled": 0,
            });
        }
        "CustomResourceDefinition" => {
            object["status"] = json!({ "conditions": [{ "type": "Established", "status": "True" }] });
        }
        "APIService" => {
            object["status"] = json!({ "conditions": [{ "type": "Available", "status": "True" }] });
        }
        "Job" => {
            object["status"] = json!({ "conditions": [{ "type": "Complete", "status": "True" }] });
        }
        "Node" => {
            object["status"] = json!({
                "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady",
                    "message": "kubelet is posting ready status" }],
                "nodeInfo": { "bootID": boot_id, "kubeletVersion": "v1.36.3",
                    "containerRuntimeVersion": "containerd://2.4.2" },
                "addresses": [{ "type": "InternalIP", "address": "10.0.2.15" }],
            });
        }
        _ => {}
    }
    object
}

/// The pods there would be: one for each replica, and the control plane's own.
pub(crate) fn pods<'a>(objects: impl Iterator<Item = &'a Value>, node: &str) -> Vec<Value> {
    let mut pods: Vec<Value> = [
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
    ]
    .iter()
    .map(|component| {
        let labels = json!({ "component": component, "tier": "control-plane" });
        pod("kube-system", &format!("{component}-{node}"), &labels, node)
    })
    .collect();
    for object in objects.filter(|object| object["kind"] == "Deployment" || object["kind"] == "DaemonSet") {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (
            text(&object["metadata"]["namespace"]),
            text(&object["metadata"]["name"]),
        );
        let labels = &object["spec"]["template"]["metadata"]["labels"];
        for index in 0..object["spec"]["replicas"].as_i64().unwrap_or(1) {
            pods.push(pod(&namespace, &format!("{name}-{index}"), labels, node));
        }
    }
    pods
}

fn pod(namespace: &str, name: &str, labels: &Value, node: &str) -> Value {
    let mut pod = named("v1", "Pod", name);
    pod["metadata"]["namespace"] = json!(namespace);
    pod["metadata"]["labels"] = labels.clone();
    pod["metadata"]["creationTimestamp"] = json!(CREATED);
    pod["spec"] = json!({ "nodeName": node, "containers": [{ "name": "main", "image": "fake" }] });
    pod["status"] = json!({
        "phase": "Running",
        "conditions": [{ "type": "Ready", "status": "True" }, { "type": "PodScheduled", "status": "True" }],
        "containerStatuses": [{ "name": "main", "ready": true, "restartCount": 0, "state": { "running": {} } }],
    });
    pod
}
