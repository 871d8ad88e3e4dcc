//! Kubernetes objects in YAML files: reading them, and finding the API path of each.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::Api;
use crate::error::{Error, Kind, Result};

/// Resources that every cluster has: group, kind, name in paths, and whether they live in a namespace.
const RESOURCES: &[(&str, &str, &str, bool)] = &[
    ("", "ConfigMap", "configmaps", true),
    ("", "LimitRange", "limitranges", true),
    ("", "Namespace", "namespaces", false),
    ("", "PersistentVolume", "persistentvolumes", false),
    ("", "PersistentVolumeClaim", "persistentvolumeclaims", true),
    ("", "Pod", "pods", true),
    ("", "ResourceQuota", "resourcequotas", true),
    ("", "Secret", "secrets", true),
    ("", "Service", "services", true),
    ("", "ServiceAccount", "serviceaccounts", true),
    (
        "admissionregistration.k8s.io",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        false,
    ),
    (
        "admissionregistration.k8s.io",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        false,
    ),
    (
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        false,
    ),
    ("apiregistration.k8s.io", "APIService", "apiservices", false),
    ("apps", "DaemonSet", "daemonsets", true),
    ("apps", "Deployment", "deployments", true),
    ("apps", "StatefulSet", "statefulsets", true),
    (
        "autoscaling",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        true,
    ),
    ("batch", "CronJob", "cronjobs", true),
    ("batch", "Job", "jobs", true),
    ("networking.k8s.io", "Ingress", "ingresses", true),
    ("networking.k8s.io", "IngressClass", "ingressclasses", false),
    ("networking.k8s.io", "NetworkPolicy", "networkpolicies", true),
    ("policy", "PodDisruptionBudget", "poddisruptionbudgets", true),
    ("rbac.authorization.k8s.io", "ClusterRole", "clusterroles", false),
    (
        "rbac.authorization.k8s.io",
        "ClusterRoleBinding",
        "clusterrolebindings",
        false,
    ),
    ("rbac.authorization.k8s.io", "Role", "roles", true),
    ("rbac.authorization.k8s.io", "RoleBinding", "rolebindings", true),
    ("scheduling.k8s.io", "PriorityClass", "priorityclasses", false),
    ("storage.k8s.io", "StorageClass", "storageclasses", false),
];

/// The objects of a YAML text of one or more documents; empty documents are left out, lists are taken apart.
///
/// # Errors
/// [`Kind::Internal`]: most manifests are ours.
pub(crate) fn objects(name: &str, yaml: &str) -> Result<Vec<Value>> {
    let documents = yaml_serde::Deserializer::from_str(yaml).map(Value::deserialize);
    let objects: Result<Vec<Value>, _> = documents
        .filter(|value| !matches!(value, Ok(Value::Null)))
        .collect();
    let objects = objects.map_err(|source| {
        Error::new(Kind::Internal, format!("manifest {name} is not YAML")).because(source)
    })?;
    Ok(objects.into_iter().flat_map(apart).collect())
}

fn apart(object: Value) -> Vec<Value> {
    match &object["items"] {
        Value::Array(items) if object["kind"] == "List" => items.clone(),
        _ => vec![object],
    }
}

/// Where the API keeps an object.
///
/// # Errors
/// [`Kind::Internal`] for kinds that are not in the table.
pub(crate) fn path(object: &Value) -> Result<String> {
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let (resource, namespaced) = known(version, kind).ok_or_else(|| {
        let name = text(&object["metadata"]["name"]);
        Error::new(
            Kind::Internal,
            format!("no API path known for {version} {kind} {name}"),
        )
    })?;
    Ok(place(object, resource, namespaced))
}

/// Name in paths of a kind that every cluster has, and whether its objects live in a namespace.
fn known(version: &str, kind: &str) -> Option<(&'static str, bool)> {
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let found = RESOURCES
        .iter()
        .find(|(of, name, ..)| (*of, *name) == (group, kind))?;
    Some((found.2, found.3))
}

fn place(object: &Value, resource: &str, namespaced: bool) -> String {
    let (version, name) = (text(&object["apiVersion"]), text(&object["metadata"]["name"]));
    let root = if version.contains('/') { "apis" } else { "api" };
    if !namespaced {
        return format!("/{root}/{version}/{resource}/{name}");
    }
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    format!("/{root}/{version}/namespaces/{namespace}/{resource}/{name}")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Finds the paths of objects of any kind: from the table, from definitions that come with the objects, or by asking the API, once for
/// each group.
pub(crate) struct Places<'a> {
    api: &'a Api,
    /// Name in paths and whether in a namespace, by version and kind.
    learnt: BTreeMap<(String, String), (String, bool)>,
}

impl<'a> Places<'a> {
    pub(crate) fn new(api: &'a Api) -> Self {
        Self {
            api,
            learnt: BTreeMap::new(),
        }
    }

    /// Learns the kinds that are defined by custom resource definitions among these objects.
    pub(crate) fn learn(&mut self, objects: &[Value]) {
        for definition in objects
            .iter()
            .filter(|object| object["kind"] == "CustomResourceDefinition")
        {
            let spec = &definition["spec"];
            for version in spec["versions"].as_array().into_iter().flatten() {
                let version = format!("{}/{}", text(&spec["group"]), text(&version["name"]));
                let names = &spec["names"];
                let resource = (text(&names["plural"]).to_owned(), spec["scope"] == "Namespaced");
                self.learnt
                    .insert((version, text(&names["kind"]).to_owned()), resource);
            }
        }
    }

    /// Where the API keeps an object.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a kind that the cluster does not have; those of [`Api::get`].
    pub(crate) fn path(&mut self, object: &Value) -> Result<String> {
        let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        if let Some((resource, namespaced)) = known(version, kind) {
            return Ok(place(object, resource, namespaced));
        }
        let key = (version.to_owned(), kind.to_owned());
        if !self.learnt.contains_key(&key) {
            self.ask(version)?;
        }
        let (resource, namespaced) = self.learnt.get(&key).ok_or_else(|| unknown(version, kind))?;
        Ok(place(object, resource, *namespaced))
    }

    fn ask(&mut self, version: &str) -> Result<()> {
        let root = if version.contains('/') { "apis" } else { "api" };
        let Some(list) = self.api.find(&format!("/{root}/{version}"))? else {
            return Ok(());
        };
        for resource in list["resources"].as_array().into_iter().flatten() {
            let (name, kind) = (text(&resource["name"]), text(&resource["kind"]));
            if !name.contains('/') {
                let namespaced = resource["namespaced"] == true;
                self.learnt.insert(
                    (version.to_owned(), kind.to_owned()),
                    (name.to_owned(), namespaced),
                );
            }
        }
        Ok(())
    }
}

fn unknown(version: &str, kind: &str) -> Error {
    Error::new(
        Kind::NotFound,
        format!("the cluster has no kind {kind} in {version}"),
    )
    .hint("bring its CustomResourceDefinition, or see `kubectl api-resources`")
}

/// The annotation that says which version of a set an object was applied from.
const STAMP: &str = "sampan.dev/applied";

/// Marks the last object of a set with the digest of the whole set. It is applied last, so its mark speaks for all of them.
pub(super) fn stamp(objects: &mut [Value]) {
    let texts: Vec<String> = objects.iter().map(Value::to_string).collect();
    let digest = super::digest(texts.iter().map(String::as_bytes));
    if let Some(last) = objects.last_mut() {
        last["metadata"]["annotations"][STAMP] = Value::String(digest);
    }
}

/// Whether the cluster has this very set.
///
/// # Errors
/// As [`Api::get`].
pub(super) fn is_applied(api: &Api, objects: &[Value]) -> Result<bool> {
    let Some(last) = objects.last() else {
        return Ok(true);
    };
    let there = api.find(&path(last)?)?.unwrap_or_default();
    Ok(there["metadata"]["annotations"][STAMP] == last["metadata"]["annotations"][STAMP])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_found_where_the_api_keeps_them() {
        let yaml = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n# nothing\n---\n\
                    apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: b, namespace: a}\n";
        let paths: Vec<String> = objects("test", yaml)
            .unwrap()
            .iter()
            .map(|object| path(object).unwrap())
            .collect();
        assert_eq!(
            paths,
            ["/api/v1/namespaces/a", "/apis/apps/v1/namespaces/a/deployments/b"]
        );
    }

    #[test]
    fn definitions_teach_their_kinds_and_lists_are_taken_apart() {
        let fixture = super::super::testing::Fixture::new();
        let yaml = "apiVersion: v1\nkind: List\nitems:\n\
                    - {apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: as.x.io}, spec: \
                    {group: x.io, scope: Cluster, names: {kind: A, plural: as}, versions: [{name: v1}]}}\n\
                    - {apiVersion: x.io/v1, kind: A, metadata: {name: a}}\n";
        let objects = objects("test", yaml).unwrap();
        let node = fixture.node();
        let mut places = Places::new(node.api);
        places.learn(&objects);
        assert_eq!(places.path(&objects[1]).unwrap(), "/apis/x.io/v1/as/a");
        assert_eq!(
            places.path(&objects[0]).unwrap(),
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/as.x.io"
        );
    }

    #[test]
    fn an_unknown_kind_is_an_error() {
        assert!(path(&json!({"apiVersion": "v1", "kind": "Nonsense", "metadata": {"name": "x"}})).is_err());
    }
}
