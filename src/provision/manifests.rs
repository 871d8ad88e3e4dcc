//! Kubernetes objects in YAML files: reading them, and finding the API path of each.

use serde::Deserialize;
use serde_json::Value;

use super::Api;
use crate::error::{Error, Kind, Result};

/// Resources by kind: their name in paths, and whether they live in a namespace.
const RESOURCES: &[(&str, &str, bool)] = &[
    ("ClusterRole", "clusterroles", false),
    ("ClusterRoleBinding", "clusterrolebindings", false),
    ("ConfigMap", "configmaps", true),
    ("DaemonSet", "daemonsets", true),
    ("Deployment", "deployments", true),
    ("Namespace", "namespaces", false),
    ("Role", "roles", true),
    ("RoleBinding", "rolebindings", true),
    ("Secret", "secrets", true),
    ("Service", "services", true),
    ("ServiceAccount", "serviceaccounts", true),
    ("StorageClass", "storageclasses", false),
];

/// The objects of a YAML text of one or more documents; empty documents are left out.
///
/// # Errors
/// [`Kind::Internal`]: manifests are ours.
pub(super) fn objects(name: &str, yaml: &str) -> Result<Vec<Value>> {
    let documents = yaml_serde::Deserializer::from_str(yaml).map(Value::deserialize);
    let objects: Result<Vec<Value>, _> = documents
        .filter(|value| !matches!(value, Ok(Value::Null)))
        .collect();
    objects
        .map_err(|source| Error::new(Kind::Internal, format!("manifest {name} is not YAML")).because(source))
}

/// Where the API keeps an object.
///
/// # Errors
/// [`Kind::Internal`] for kinds that are not in the table.
pub(super) fn path(object: &Value) -> Result<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let name = text(&object["metadata"]["name"]);
    let Some((_, resource, namespaced)) = RESOURCES.iter().find(|(known, ..)| *known == kind) else {
        return Err(Error::new(
            Kind::Internal,
            format!("no API path known for {version} {kind} {name}"),
        ));
    };
    let root = if version.contains('/') { "apis" } else { "api" };
    if !namespaced {
        return Ok(format!("/{root}/{version}/{resource}/{name}"));
    }
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    Ok(format!(
        "/{root}/{version}/namespaces/{namespace}/{resource}/{name}"
    ))
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
    fn an_unknown_kind_is_an_error() {
        assert!(path(&json!({"apiVersion": "v1", "kind": "Nonsense", "metadata": {"name": "x"}})).is_err());
    }
}
