//! What a cluster has of addons: a config map in it, so that its snapshots and forks know it too.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Options;
use crate::error::{Error, Kind, Result};
use crate::provision::Api;

/// The config map's name in kube-system.
const NAME: &str = "sampan-addons";

/// Where the API keeps it.
const PATH: &str = "/api/v1/namespaces/kube-system/configmaps/sampan-addons";

/// One addon in a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// Whether it is to be there.
    pub enabled: bool,
    /// Digest of the objects that were applied, all of them; empty before.
    pub applied: String,
    /// What was configured.
    pub options: Options,
    /// API paths of all that was made.
    pub objects: Vec<String>,
}

/// The addons that the cluster knows of, by name.
///
/// # Errors
/// Those of the API; an entry that is damaged counts as none.
pub fn entries(api: &Api) -> Result<BTreeMap<String, Entry>> {
    let map = api.find(PATH)?.unwrap_or_default();
    let data = map["data"].as_object().into_iter().flatten();
    Ok(data
        .filter_map(|(name, text)| Some((name.clone(), serde_json::from_str(text.as_str()?).ok()?)))
        .collect())
}

/// Writes one of them.
///
/// # Errors
/// Those of the API.
pub fn write(api: &Api, name: &str, entry: &Entry) -> Result<()> {
    let text = serde_json::to_string(entry)
        .map_err(|error| Error::new(Kind::Internal, "cannot describe an addon").because(error))?;
    let change = json!({ "data": { name: text } });
    match api.merge(PATH, &change) {
        Err(error) if error.kind() == Kind::NotFound => {
            let mut map = json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": { "name": NAME, "namespace": "kube-system" },
            });
            map["data"] = change["data"].clone();
            api.apply(&[map]).map(drop)
        }
        other => other.map(|_: Value| ()),
    }
}
