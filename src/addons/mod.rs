//! Addons: what can be added to a cluster and taken out again, described by data.
//!
//! An addon is a directory with an `addon.toml` ([`About`]) and manifests, which are templates. Those of sampan come with the bundle,
//! a user's own stand beside the settings; [`Registry`] knows both. [`enable`] renders the manifests, applies them server-side, each
//! object with the label [`LABEL`], and waits for what the addon says must be ready; [`disable`] removes all of it. What is enabled is
//! written down in the cluster itself ([`Entry`]), so snapshots and forks carry it.

mod apply;
mod health;
mod manifest;
mod notes;
mod registry;
mod secrets;
mod state;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};

pub use manifest::{About, Open, Ready, ReadyKind, Secret};
pub use notes::Notes;
pub use registry::{Addon, Origin, Registry};
pub use state::{Entry, entries, write as write_entry};

use crate::error::{Error, Kind, Result};
use crate::provision::manifests::{self, Places};
use crate::provision::{self, Node, render};

/// The label that every object of an addon bears; its value is the addon's name.
pub const LABEL: &str = "sampan.dev/addon";

/// How long an addon may take to become healthy.
pub const HEALTHY_DEADLINE: Duration = Duration::from_secs(6 * 60);

/// What a user configured: values by option.
pub type Options = BTreeMap<String, String>;

/// A running cluster, as addons need to know it.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// The node, its API, and what the bundle brought.
    pub node: &'a Node<'a>,
    /// Where the host reaches the cluster.
    pub address: IpAddr,
}

/// An addon's objects for one cluster, ready to be applied.
#[derive(Debug, Clone)]
pub struct Rendered {
    objects: Vec<Value>,
    /// Says whether two sets of objects are the same.
    pub digest: String,
}

impl Rendered {
    /// Namespace and name of the addon's services that are reached from outside the cluster.
    pub fn services(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let outside = |object: &&Value| {
            let kind = object["spec"]["type"].as_str().unwrap_or_default();
            object["kind"] == "Service" && ["NodePort", "LoadBalancer"].contains(&kind)
        };
        let services = self.objects.iter().filter(outside);
        services
            .filter_map(|object| {
                let namespace =
                    text(&object["metadata"]["namespace"]).unwrap_or_else(|| "default".to_owned());
                Some((namespace, text(&object["metadata"]["name"])?))
            })
            .collect()
    }
}

/// Makes an addon's objects of its templates.
///
/// # Errors
/// [`Kind::Bundle`] when the bundle lacks one of its images; [`Kind::HostConfig`] when a template cannot be rendered.
pub fn render(site: &Site<'_>, addon: &Addon, options: &Options) -> Result<Rendered> {
    let node = site.node;
    let mut images = BTreeMap::new();
    for name in &addon.about.images {
        images.insert(name, node.parts.image(name)?);
    }
    let mut values = addon.about.options.clone();
    values.extend(options.clone());
    let context = json!({
        "images": images,
        "address": site.address,
        "node_address": node.address,
        "api_address": node.address,
        "api_port": provision::API_PORT,
        "domain": node.spec.dns_domain,
        "node": node.name,
        "options": values,
    });
    let mut objects = Vec::new();
    for (name, template) in addon.templates()? {
        let wrong = |source: minijinja::Error| {
            Error::new(
                Kind::HostConfig,
                format!("{name}: the template cannot be rendered"),
            )
            .because(source)
        };
        let text = render::fill_in(&name, &template, &context).map_err(wrong)?;
        let found = manifests::objects(&name, &text).map_err(|error| error.with_kind(Kind::HostConfig))?;
        objects.extend(found);
    }
    for object in &mut objects {
        object["metadata"]["labels"][LABEL] = json!(addon.name);
    }
    let texts: Vec<String> = objects.iter().map(Value::to_string).collect();
    let digest = provision::digest(texts.iter().map(String::as_bytes));
    Ok(Rendered { objects, digest })
}

/// Makes the addon be in the cluster, and waits until it is healthy. Doing it twice does no harm.
///
/// # Errors
/// [`Kind::Addon`] with what is not ready and its last words; [`Kind::Interrupted`]; those of [`render`] and of the API.
pub fn enable(site: &Site<'_>, addon: &Addon, options: &Options) -> Result<Rendered> {
    let rendered = apply(site, addon, options)?;
    health::wait(site.node, addon, HEALTHY_DEADLINE)?;
    Ok(rendered)
}

/// As [`enable`], without waiting until it is healthy.
///
/// # Errors
/// As [`enable`].
pub fn apply(site: &Site<'_>, addon: &Addon, options: &Options) -> Result<Rendered> {
    let node = site.node;
    let rendered = render(site, addon, options)?;
    bring_images(node, addon)?;
    node.reporter
        .detail(&format!("{}: applying its objects", addon.name));
    let mut objects = rendered.objects.clone();
    let mut places = Places::new(node.api);
    places.learn(&objects);
    let secrets = secrets::ensure(node.api, addon)?;
    secrets::restart_with(&secrets, &mut objects);
    let placed = apply::place(&mut places, objects)?;
    let paths = apply::paths(&placed, &secrets);
    // Written down before anything is made: whoever is interrupted can still disable it.
    let mut entry = Entry {
        enabled: true,
        applied: String::new(),
        options: options.clone(),
        objects: paths,
    };
    remove_former(site, addon, &entry)?;
    state::write(node.api, &addon.name, &entry)?;
    apply::apply(node, &placed, &secrets)?;
    entry.applied.clone_from(&rendered.digest);
    state::write(node.api, &addon.name, &entry)?;
    Ok(rendered)
}

/// Removes what an earlier version of the addon, or other options, had made and this one has not.
fn remove_former(site: &Site<'_>, addon: &Addon, entry: &Entry) -> Result<()> {
    let former = state::entries(site.node.api)?
        .remove(&addon.name)
        .unwrap_or_default();
    let gone: Vec<String> = former
        .objects
        .into_iter()
        .filter(|path| !entry.objects.contains(path))
        .collect();
    apply::remove(site.node, &addon.name, &gone)
}

/// Takes the addon out of the cluster with all that it made, and waits until it is gone.
///
/// # Errors
/// [`Kind::Addon`] when something does not go; [`Kind::Interrupted`]; those of the API.
pub fn disable(site: &Site<'_>, addon: &Addon, entry: Option<&Entry>) -> Result<()> {
    let api = site.node.api;
    let entry = entry.cloned().unwrap_or_default();
    let mut paths = entry.objects.clone();
    // An addon that cannot be rendered any more still goes by what was written down.
    if let Ok(rendered) = render(site, addon, &entry.options) {
        let mut places = Places::new(api);
        places.learn(&rendered.objects);
        for object in &rendered.objects {
            match places.path(object) {
                Ok(path) if !paths.contains(&path) => paths.push(path),
                // A kind that the cluster does not know has no objects.
                Err(error) if error.kind() != Kind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    site.node
        .reporter
        .detail(&format!("{}: removing its objects", addon.name));
    apply::remove_labelled(site.node, &addon.name, &paths)?;
    let entry = Entry {
        options: entry.options,
        ..Entry::default()
    };
    state::write(api, &addon.name, &entry)
}

/// Sees to it that pods find the addon's images in the node: ready snapshots have them.
fn bring_images(node: &Node<'_>, addon: &Addon) -> Result<()> {
    let step = provision::ADDON_IMAGES;
    let needs = |name: &String| {
        let of_addons = node.parts.images.iter().filter(|image| image.addon);
        of_addons
            .map(|image| image.name.as_str())
            .any(|image| image.rsplit('/').next() == Some(name))
    };
    if !addon.about.images.iter().any(needs) || (step.is_done)(node)? {
        return Ok(());
    }
    node.reporter.detail(&format!("{}: {}", addon.name, step.title));
    (step.apply)(node)
}
