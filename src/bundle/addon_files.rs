//! Tests of `images/addons`: what is read at run time, long after the bundle was built, is looked at here.

use std::collections::BTreeMap;

use minijinja::{Environment, UndefinedBehavior};
use serde::Deserialize;
use serde_json::{Value, json};

use super::catalog::Catalog;
use super::manifest::Archive;
use super::tree;

/// As much of addon.toml as these tests need.
#[derive(Deserialize)]
struct Addon {
    description: String,
    #[serde(default)]
    coming: bool,
    #[serde(default)]
    default: bool,
    images: Vec<String>,
    #[serde(default)]
    secret: Vec<Named>,
    #[serde(default)]
    ready: Vec<Named>,
    #[serde(default)]
    options: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    namespace: String,
    name: String,
}

/// All addons with the texts of their manifests.
fn addons() -> BTreeMap<String, (Addon, Vec<(String, String)>)> {
    let dir = tempfile::tempdir().unwrap();
    tree::write_addons(dir.path()).unwrap();
    let list = |path: &std::path::Path| {
        let mut names: Vec<_> = std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort();
        names
    };
    let mut addons = BTreeMap::new();
    for path in list(dir.path()) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let addon = toml::from_str(&std::fs::read_to_string(path.join("addon.toml")).unwrap()).unwrap();
        let manifests = list(&path)
            .into_iter()
            .filter(|file| file.extension().is_some_and(|extension| extension == "yaml"))
            .map(|file| (file.display().to_string(), std::fs::read_to_string(file).unwrap()))
            .collect();
        addons.insert(name, (addon, manifests));
    }
    addons
}

fn reference(catalog: &Catalog, image: &str) -> Option<String> {
    let mut images = catalog.images.iter();
    let found = images.find(|found| found.name.rsplit('/').next() == Some(image))?;
    Some(format!("{}:{}", found.name, found.tag))
}

/// All objects of an addon, with some of its options set otherwise.
fn objects(
    catalog: &Catalog,
    addon: &Addon,
    manifests: &[(String, String)],
    options: &[(&str, &str)],
) -> Vec<Value> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    let images: BTreeMap<_, _> = addon
        .images
        .iter()
        .map(|image| (image, reference(catalog, image)))
        .collect();
    let mut all = addon.options.clone();
    all.extend(
        options
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
    );
    let context = json!({
        "images": images, "options": all, "address": "127.77.0.9", "node_address": "10.0.2.15",
        "api_address": "10.0.2.15", "api_port": 8443, "domain": "cluster.local", "node": "sampan",
    });
    let mut objects = Vec::new();
    for (file, text) in manifests {
        let text = environment
            .render_str(text, &context)
            .unwrap_or_else(|error| panic!("{file}: {error:#}"));
        for document in yaml_serde::Deserializer::from_str(&text) {
            let value = Value::deserialize(document).unwrap_or_else(|error| panic!("{file}: {error}"));
            if !value.is_null() {
                objects.push(value);
            }
        }
    }
    objects
}

fn strings<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match value {
                    Value::String(text) if name == key => found.push(text),
                    _ => strings(value, key, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| strings(value, key, found)),
        _ => {}
    }
}

#[test]
fn every_addon_is_whole() {
    let catalog = super::catalog().unwrap();
    let all: Vec<String> = catalog
        .images
        .iter()
        .map(|image| format!("{}:{}", image.name, image.tag))
        .collect();
    for (name, (addon, manifests)) in addons() {
        assert!(!addon.description.is_empty(), "{name}");
        assert_eq!(addon.coming, manifests.is_empty(), "{name}");
        for image in &addon.images {
            assert!(
                reference(&catalog, image).is_some(),
                "{name}: {image} is not in the catalog"
            );
        }
        let objects = objects(&catalog, &addon, &manifests, &[]);
        for object in &objects {
            for field in ["apiVersion", "kind"] {
                assert!(object[field].is_string(), "{name}: {object}");
            }
            assert!(object["metadata"]["name"].is_string(), "{name}: {object}");
            // Modes as YAML 1.2 has them: what looks octal is a string.
            let mut modes = Vec::new();
            strings(object, "defaultMode", &mut modes);
            assert!(modes.is_empty(), "{name}: {modes:?}");
            let mut images = Vec::new();
            strings(object, "image", &mut images);
            for image in images {
                assert!(all.iter().any(|known| known == image), "{name}: {image}");
            }
        }
        let has = |kind: &str, wanted: &Named| {
            objects.iter().any(|object| {
                object["kind"] == kind
                    && object["metadata"]["name"] == wanted.name.as_str()
                    && object["metadata"]["namespace"].as_str().unwrap_or_default() == wanted.namespace
            })
        };
        for ready in &addon.ready {
            assert!(
                has(&ready.kind, ready),
                "{name} waits for a {} {}, which it has not",
                ready.kind,
                ready.name
            );
        }
        let mounted: Vec<_> = objects
            .iter()
            .flat_map(|object| {
                let mut names = Vec::new();
                strings(object, "secretName", &mut names);
                names
            })
            .collect();
        let made: Vec<_> = addon.secret.iter().map(|secret| secret.name.as_str()).collect();
        assert_eq!(mounted, made, "{name}");
    }
}

#[test]
fn what_is_on_by_default_needs_nothing_that_a_new_node_lacks() {
    let catalog = super::catalog().unwrap();
    let of = |archive| {
        let images = catalog
            .images
            .iter()
            .filter(move |image| image.archive == archive);
        images.map(|image| image.name.rsplit('/').next().unwrap())
    };
    let addons = addons();
    let default: Vec<_> = addons
        .iter()
        .filter(|(_, (addon, _))| addon.default)
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(default, ["default-storageclass", "storage-provisioner"]);
    for name in default {
        for image in &addons[name].0.images {
            assert!(of(Archive::Node).any(|known| known == image), "{name}: {image}");
        }
    }
    // And nothing is carried along that no addon uses.
    for image in of(Archive::Addons) {
        assert!(
            addons
                .values()
                .any(|(addon, _)| addon.images.iter().any(|used| used == image)),
            "{image}"
        );
    }
}

#[test]
fn the_gateway_api_comes_with_its_option_only() {
    let catalog = super::catalog().unwrap();
    let addons = addons();
    let (addon, manifests) = &addons["ingress"];
    let kinds = |options: &[(&str, &str)]| {
        let objects = objects(&catalog, addon, manifests, options);
        let gateways = objects.iter().filter(|object| {
            let text = object.to_string();
            text.contains("gateway.networking.k8s.io") && object["kind"] != "ClusterRole"
        });
        gateways
            .map(|object| object["kind"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(&[]), Vec::<String>::new());
    let on = kinds(&[("gateway-api", "true")]);
    for kind in ["CustomResourceDefinition", "GatewayClass", "Gateway"] {
        assert!(on.iter().any(|found| found == kind), "{on:?}");
    }
}

#[test]
fn probes_wait_for_an_emulated_processor() {
    let catalog = super::catalog().unwrap();
    for (name, (addon, manifests)) in addons() {
        for object in objects(&catalog, &addon, &manifests, &[]) {
            if !["Deployment", "DaemonSet"].contains(&object["kind"].as_str().unwrap()) {
                continue;
            }
            for container in object["spec"]["template"]["spec"]["containers"]
                .as_array()
                .unwrap()
            {
                for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
                    let probe = &container[probe];
                    assert!(
                        probe.is_null() || probe["timeoutSeconds"].as_u64() >= Some(5),
                        "{name}: {probe}"
                    );
                }
            }
        }
    }
}
