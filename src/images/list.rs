//! The images that pods of a cluster can use, each once.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::full_name;

/// One image with all its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// Digest, 64 hexadecimal digits.
    pub id: String,
    /// Names with digests.
    pub repo_digests: Vec<String>,
    /// Names with tags; none for an image that lost its last one.
    pub repo_tags: Vec<String>,
    /// Bytes, as a text of digits.
    pub size: String,
}

/// What the lists of an image's names are collected in.
#[derive(Default)]
struct Names {
    tags: BTreeSet<String>,
    digests: BTreeSet<String>,
    size: u64,
}

/// Docker's images ([`super::Engine::images`]), those of the node itself (`own`: full names with tag, and digest) and those that Kubernetes
/// pulled, as the node tells them (`node`, an object of the cluster's API).
pub fn list(docker: &Value, own: &[(String, String)], node: Option<&Value>) -> Vec<Listed> {
    let mut all: BTreeMap<String, Names> = BTreeMap::new();
    let texts = |value: &Value| -> Vec<String> {
        let list = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        list.filter(|name| !name.contains("<none>"))
            .map(full_name)
            .collect()
    };
    for image in docker.as_array().into_iter().flatten() {
        let names = all
            .entry(plain(image["Id"].as_str().unwrap_or_default()))
            .or_default();
        names.tags.extend(texts(&image["RepoTags"]));
        names.digests.extend(texts(&image["RepoDigests"]));
        names.size = image["Size"].as_u64().unwrap_or_default();
    }
    let known = node.and_then(|node| node["status"]["images"].as_array());
    let known: Vec<(Vec<String>, u64)> = known
        .into_iter()
        .flatten()
        .map(|image| {
            (
                texts(&image["names"]),
                image["sizeBytes"].as_u64().unwrap_or_default(),
            )
        })
        .collect();
    for (name, digest) in own {
        let size = known
            .iter()
            .find(|(names, _)| names.contains(name))
            .map(|(_, size)| *size);
        let names = all.entry(plain(digest)).or_default();
        names.tags.insert(name.clone());
        names.size = names.size.max(size.unwrap_or_default());
    }
    // The kubelet tells what there is with some delay. What has a name with a digest, Kubernetes pulled itself; the rest is Docker's,
    // who knows better what there is.
    for (names, size) in &known {
        let digests = names.iter().filter(|name| name.contains("@sha256:"));
        for name in digests.clone() {
            let entry = all.entry(plain(name)).or_default();
            entry.digests.insert(name.clone());
            entry
                .tags
                .extend(names.iter().filter(|name| !name.contains('@')).cloned());
            entry.size = entry.size.max(*size);
        }
    }
    let listed = all.into_iter().map(|(id, names)| Listed {
        id,
        repo_digests: names.digests.into_iter().collect(),
        repo_tags: names.tags.into_iter().collect(),
        size: names.size.to_string(),
    });
    let mut listed: Vec<Listed> = listed.collect();
    listed.sort_by(|a, b| b.repo_tags.cmp(&a.repo_tags).then(a.id.cmp(&b.id)));
    listed
}

/// The digits of a digest, whatever stands before it.
fn plain(digest: &str) -> String {
    digest.rsplit(':').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_image_is_there_once_with_all_its_names() {
        let docker = json!([
            { "Id": "sha256:aa", "RepoTags": ["app:1", "app:2"], "RepoDigests": ["app@sha256:aa"], "Size": 5 },
            { "Id": "sha256:bb", "RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"], "Size": 6 },
            { "Id": "sha256:dd", "RepoTags": null, "RepoDigests": null, "Size": 8 },
        ]);
        let own = [("registry.k8s.io/pause:3".to_owned(), "sha256:cc".to_owned())];
        let node = json!({ "status": { "images": [
            { "names": ["registry.k8s.io/pause:3"], "sizeBytes": 7 },
            { "names": ["docker.io/library/app:1"], "sizeBytes": 5 },
            { "names": ["docker.io/library/removed:1"], "sizeBytes": 5 },
            { "names": ["r.example/pulled@sha256:ee", "r.example/pulled:1"], "sizeBytes": 9 },
        ] } });
        let all = list(&docker, &own, Some(&node));
        let seen: Vec<_> = all
            .iter()
            .map(|image| (image.id.as_str(), image.repo_tags.join(" "), image.size.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                ("cc", "registry.k8s.io/pause:3".to_owned(), "7"),
                ("ee", "r.example/pulled:1".to_owned(), "9"),
                (
                    "aa",
                    "docker.io/library/app:1 docker.io/library/app:2".to_owned(),
                    "5"
                ),
                ("bb", String::new(), "6"),
                ("dd", String::new(), "8"),
            ]
        );
    }
}
