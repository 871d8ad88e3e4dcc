//! Just enough of the Kubernetes API: objects by path, kept in a file; lists; create, apply, merge, delete.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::files::{self, Files};
use crate::http::{Answer, Request};
use crate::objects;

/// The cluster of one machine.
#[derive(Debug)]
pub(crate) struct Cluster {
    file: PathBuf,
    node: String,
    boot_id: String,
    /// By API path.
    objects: BTreeMap<String, Value>,
}

impl Cluster {
    /// The cluster as it was left, or a new one.
    pub(crate) fn open(files: &Files, node: &str, boot_id: &str) -> io::Result<Self> {
        let file = files.objects();
        let objects = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => objects::first(node),
            Err(error) => return Err(error),
        };
        Ok(Self {
            file,
            node: node.to_owned(),
            boot_id: boot_id.to_owned(),
            objects,
        })
    }

    /// Answers one request.
    pub(crate) fn answer(&mut self, request: &Request) -> Answer {
        let path = request.path.as_str();
        match (request.method.as_str(), path) {
            ("GET", "/readyz" | "/livez" | "/healthz") => Answer::Text(200, "ok".to_owned()),
            ("GET", _) if path == format!("/api/v1/nodes/{}/proxy/healthz", self.node) => {
                Answer::Text(200, "ok".to_owned())
            }
            ("GET", "/version") => Answer::Json(
                200,
                json!({ "major": "1", "minor": "36", "gitVersion": "v1.36.3" }),
            ),
            ("GET", _) => self.get(request),
            ("POST", _) => self.create(request),
            ("PATCH", _) => self.patch(request),
            ("PUT", _) => self.replace(request),
            ("DELETE", _) => self.delete(path),
            _ => status(405, "MethodNotAllowed", "method not allowed"),
        }
    }

    fn get(&self, request: &Request) -> Answer {
        if let Some(object) = self.objects.get(&request.path) {
            return Answer::Json(200, self.live(object));
        }
        if let Some(resources) = self.discovery(&request.path) {
            return Answer::Json(200, resources);
        }
        let Some(kind) = self.kind_of_list(&request.path) else {
            return self
                .pod(&request.path)
                .map_or_else(|| not_found(&request.path), |pod| Answer::Json(200, pod));
        };
        let wanted = request.parameter("labelSelector").unwrap_or_default();
        let fields = request.parameter("fieldSelector").unwrap_or_default();
        let mut items: Vec<Value> = self
            .objects
            .iter()
            .filter(|(path, _)| is_in(path, &request.path))
            .map(|(_, object)| self.live(object))
            .collect();
        if kind == "Pod" {
            let pods = objects::pods(self.objects.values(), &self.node);
            items.extend(
                pods.into_iter()
                    .filter(|pod| is_in(&pod_path(pod), &request.path)),
            );
        }
        items.retain(|item| selected(item, &wanted) && has_fields(item, &fields));
        let version = objects::version_of_path(&request.path);
        Answer::Json(
            200,
            json!({ "kind": format!("{kind}List"), "apiVersion": version, "metadata": { "resourceVersion": "1" }, "items": items }),
        )
    }

    /// A pod that some controller would have made.
    fn pod(&self, path: &str) -> Option<Value> {
        objects::pods(self.objects.values(), &self.node)
            .into_iter()
            .find(|pod| pod_path(pod) == path)
    }

    fn create(&mut self, request: &Request) -> Answer {
        let Ok(mut object) = serde_json::from_slice::<Value>(&request.body) else {
            return nonsense();
        };
        if let (None, Some(prefix)) = (
            object["metadata"]["name"].as_str(),
            object["metadata"]["generateName"].as_str(),
        ) {
            object["metadata"]["name"] = json!(format!("{prefix}{:05}", self.objects.len()));
        }
        let Some(name) = object["metadata"]["name"].as_str() else {
            return nonsense();
        };
        let path = format!("{}/{name}", request.path);
        if let Some(refusal) = self.without_namespace(&path) {
            return refusal;
        }
        if self.objects.contains_key(&path) {
            return status(409, "AlreadyExists", &format!("{path} already exists"));
        }
        objects::complete(&mut object, &path);
        self.put(path, object, 201)
    }

    fn patch(&mut self, request: &Request) -> Answer {
        let Ok(change) = serde_json::from_slice::<Value>(&request.body) else {
            return nonsense();
        };
        let path = request.path.trim_end_matches("/status").to_owned();
        if let Some(refusal) = self.without_namespace(&path) {
            return refusal;
        }
        let known = self.objects.get(&path).cloned();
        let status = if known.is_some() { 200 } else { 201 };
        let mut object = match known {
            Some(object) => object,
            None if request.content_type.starts_with("application/apply-patch") => json!({}),
            None => return not_found(&path),
        };
        merge(&mut object, &change);
        objects::complete(&mut object, &path);
        self.put(path, object, status)
    }

    fn replace(&mut self, request: &Request) -> Answer {
        let Ok(mut object) = serde_json::from_slice::<Value>(&request.body) else {
            return nonsense();
        };
        if !self.objects.contains_key(&request.path) {
            return not_found(&request.path);
        }
        objects::complete(&mut object, &request.path);
        self.put(request.path.clone(), object, 200)
    }

    fn put(&mut self, path: String, mut object: Value, status: u16) -> Answer {
        objects::allocate(&mut object, self.objects.values());
        let live = self.live(&object);
        self.objects.insert(path, object);
        self.saved(status, live)
    }

    /// What is in a namespace goes with it, and what a definition defines with the definition.
    fn delete(&mut self, path: &str) -> Answer {
        let Some(object) = self.objects.remove(path) else {
            return not_found(path);
        };
        let mut inside = Vec::new();
        if object["kind"] == "Namespace" {
            inside.push(format!(
                "/namespaces/{}/",
                path.rsplit('/').next().unwrap_or_default()
            ));
        }
        if let Some(group) = object["spec"]["group"]
            .as_str()
            .filter(|_| object["kind"] == "CustomResourceDefinition")
        {
            inside.push(format!("/apis/{group}/"));
        }
        let gone: Vec<String> = self
            .objects
            .keys()
            .filter(|path| inside.iter().any(|part| path.contains(part)))
            .cloned()
            .collect();
        for path in gone {
            self.objects.remove(&path);
        }
        self.saved(200, object)
    }

    /// The refusal of what is to be in a namespace that is not there.
    fn without_namespace(&self, path: &str) -> Option<Answer> {
        let (_, rest) = path.split_once("/namespaces/")?;
        let (namespace, _) = rest.split_once('/')?;
        let there = self
            .objects
            .contains_key(&format!("/api/v1/namespaces/{namespace}"));
        (!there).then(|| status(404, "NotFound", &format!("namespaces \"{namespace}\" not found")))
    }

    /// The definitions of a group's kinds.
    fn definitions(&self) -> impl Iterator<Item = &Value> {
        self.objects
            .values()
            .filter(|object| object["kind"] == "CustomResourceDefinition")
            .map(|object| &object["spec"])
    }

    /// The kinds of a group that definitions brought, for "/apis/GROUP/VERSION".
    fn discovery(&self, path: &str) -> Option<Value> {
        let (group, version) = path.strip_prefix("/apis/")?.split_once('/')?;
        let resources: Vec<Value> = self
            .definitions()
            .filter(|spec| spec["group"] == group)
            .map(|spec| {
                json!({ "name": spec["names"]["plural"], "kind": spec["names"]["kind"],
                    "namespaced": spec["scope"] == "Namespaced" })
            })
            .collect();
        (!resources.is_empty() && !version.contains('/'))
            .then(|| json!({ "kind": "APIResourceList", "resources": resources }))
    }

    /// The kind of objects that a list at this path has.
    fn kind_of_list(&self, path: &str) -> Option<String> {
        if let Some(kind) = objects::kind_of_list(path) {
            return Some(kind.to_owned());
        }
        let last = path.rsplit('/').next()?;
        let spec = self.definitions().find(|spec| spec["names"]["plural"] == last)?;
        Some(spec["names"]["kind"].as_str()?.to_owned())
    }

    fn saved(&self, code: u16, answer: Value) -> Answer {
        let text = serde_json::to_vec(&self.objects).map_err(io::Error::from);
        match text.and_then(|text| files::write(&self.file, &text)) {
            Ok(()) => Answer::Json(code, answer),
            Err(error) => status(500, "InternalError", &error.to_string()),
        }
    }

    /// An object with the status that its controller would have given it by now.
    fn live(&self, object: &Value) -> Value {
        objects::live(object, &self.boot_id)
    }
}

/// Whether an object's path is in the collection, also in one over all namespaces.
fn is_in(path: &str, collection: &str) -> bool {
    let direct = |path: &str| {
        path.rsplit_once('/')
            .is_some_and(|(parent, _)| parent == collection)
    };
    let without_namespace = || {
        let (head, rest) = path.split_once("/namespaces/")?;
        Some(format!("{head}/{}", rest.split_once('/')?.1))
    };
    direct(path) || without_namespace().is_some_and(|path| direct(&path))
}

fn pod_path(pod: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!(
        "/api/v1/namespaces/{}/pods/{}",
        text(&pod["metadata"]["namespace"]),
        text(&pod["metadata"]["name"])
    )
}

/// Whether an object has all labels of "a=b,c=d".
fn selected(object: &Value, selector: &str) -> bool {
    selector
        .split(',')
        .filter_map(|part| part.split_once('='))
        .all(|(key, value)| {
            let (key, value) = (key.trim_end_matches('='), value.trim_start_matches('='));
            object["metadata"]["labels"][key] == value
        })
}

/// Whether an object has all fields of "status.phase=Running,metadata.name=a".
fn has_fields(object: &Value, selector: &str) -> bool {
    selector
        .split(',')
        .filter_map(|part| part.split_once('='))
        .all(|(path, value)| {
            let found = path.split('.').fold(object, |object, key| &object[key]);
            *found == value.trim_start_matches('=')
        })
}

/// RFC 7396: null removes, objects are merged, all else replaces.
fn merge(target: &mut Value, change: &Value) {
    let Some(fields) = change.as_object() else {
        *target = change.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            if let Some(target) = target.as_object_mut() {
                target.remove(key);
            }
        } else {
            merge(&mut target[key.as_str()], value);
        }
    }
}

fn not_found(path: &str) -> Answer {
    status(404, "NotFound", &format!("{path} not found"))
}

fn nonsense() -> Answer {
    status(400, "BadRequest", "the body is not an object with a name")
}

fn status(code: u16, reason: &str, message: &str) -> Answer {
    Answer::Json(
        code,
        json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": code }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_in_their_collection_and_in_the_one_of_all_namespaces() {
        let path = "/apis/apps/v1/namespaces/a/deployments/b";
        assert!(is_in(path, "/apis/apps/v1/namespaces/a/deployments"));
        assert!(is_in(path, "/apis/apps/v1/deployments"));
        assert!(!is_in(path, "/apis/apps/v1/namespaces/c/deployments"));
    }

    #[test]
    fn a_merge_removes_replaces_and_keeps() {
        let mut object = json!({ "a": { "b": 1, "c": 2 }, "d": [1] });
        merge(&mut object, &json!({ "a": { "b": null, "e": 3 }, "d": [2] }));
        assert_eq!(object, json!({ "a": { "c": 2, "e": 3 }, "d": [2] }));
    }
}
