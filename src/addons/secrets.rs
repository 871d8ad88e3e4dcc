//! TLS secrets of addons: made on the host, as a guest has better things to do. Those of one authority are made together; its key
//! is kept nowhere.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::registry::Addon;
use super::{LABEL, Secret};
use crate::error::Result;
use crate::pki::{self, Pair, Subject};
use crate::provision::{self, Api};

/// On the pods of an addon: changes when its certificates do, so that the pods are made anew.
const ANNOTATION: &str = "sampan.dev/certificates";

/// The addon's secrets as they are to be: those that are there and good, else all of the same authority anew.
///
/// # Errors
/// Those of the API; when a certificate cannot be made.
pub(super) fn ensure(api: &Api, addon: &Addon) -> Result<Vec<Value>> {
    let wanted = &addon.about.secret;
    let authorities: BTreeSet<&str> = wanted.iter().map(|secret| secret.authority.as_str()).collect();
    let mut all = Vec::new();
    for authority in authorities {
        let group: Vec<&Secret> = wanted.iter().filter(|one| one.authority == authority).collect();
        let pairs = match there(api, &group)? {
            Some(pairs) => pairs,
            None => make(authority, &group)?,
        };
        all.extend(
            group
                .iter()
                .zip(pairs)
                .map(|(secret, (ca, pair))| object(addon, secret, &ca, &pair)),
        );
    }
    Ok(all)
}

/// Certificates with the authority's, when all of a group are there, good, and of one authority.
fn there(api: &Api, group: &[&Secret]) -> Result<Option<Vec<(String, Pair)>>> {
    let mut pairs: Vec<(String, Pair)> = Vec::new();
    for secret in group {
        let path = format!("/api/v1/namespaces/{}/secrets/{}", secret.namespace, secret.name);
        let Some((ca, pair)) = api.find(&path)?.as_ref().and_then(read) else {
            return Ok(None);
        };
        let same = pairs.first().is_none_or(|(first, _)| *first == ca);
        if !same || !pki::is_good(&pair, &ca) {
            return Ok(None);
        }
        pairs.push((ca, pair));
    }
    Ok(Some(pairs))
}

fn read(secret: &Value) -> Option<(String, Pair)> {
    let text = |key: &str| {
        let bytes = STANDARD.decode(secret["data"][key].as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    let (cert, key) = (text("tls.crt")?, text("tls.key")?);
    Some((text("ca.crt")?, Pair { cert, key }))
}

fn make(authority: &str, group: &[&Secret]) -> Result<Vec<(String, Pair)>> {
    let ca = pki::authority(&format!("sampan {authority}"))?;
    let issue = |secret: &&Secret| {
        let name = secret.names.first().map_or(authority, String::as_str);
        let subject = Subject {
            peer: true,
            ..Subject::server(name, secret.names.clone(), Vec::new())
        };
        Ok((ca.cert.clone(), pki::issue(&ca, &subject)?))
    };
    group.iter().map(issue).collect()
}

fn object(addon: &Addon, secret: &Secret, ca: &str, pair: &Pair) -> Value {
    let data: BTreeMap<&str, String> = [("ca.crt", ca), ("tls.crt", &pair.cert), ("tls.key", &pair.key)]
        .map(|(key, text)| (key, STANDARD.encode(text)))
        .into();
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {
            "name": secret.name, "namespace": secret.namespace, "labels": { LABEL: addon.name },
        },
        "data": data,
    })
}

/// Has the pods of an addon made anew when its certificates were.
pub(super) fn restart_with(secrets: &[Value], objects: &mut [Value]) {
    if secrets.is_empty() {
        return;
    }
    let certificates: Vec<&str> = secrets
        .iter()
        .filter_map(|secret| secret["data"]["tls.crt"].as_str())
        .collect();
    let digest = provision::digest(certificates.iter().map(|text| text.as_bytes()));
    for object in objects {
        if ["Deployment", "DaemonSet", "StatefulSet"].contains(&object["kind"].as_str().unwrap_or_default()) {
            object["spec"]["template"]["metadata"]["annotations"][ANNOTATION] = json!(digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str) -> Secret {
        Secret {
            namespace: "a".into(),
            name: name.into(),
            names: vec![name.into()],
            authority: "both".into(),
        }
    }

    #[test]
    fn secrets_of_one_authority_trust_each_other_and_are_read_back() {
        let (server, client) = (secret("server"), secret("client"));
        let pairs = make("both", &[&server, &client]).unwrap();
        assert_eq!(pairs[0].0, pairs[1].0);
        let addon = super::super::registry::tests_addon("x");
        for (secret, (ca, pair)) in [&server, &client].into_iter().zip(&pairs) {
            assert!(pki::is_good(pair, ca));
            let object = object(&addon, secret, ca, pair);
            assert_eq!(read(&object).unwrap().0, *ca);
            assert_eq!(object["metadata"]["labels"][LABEL], "x");
        }
        let (other, _) = make("both", &[&server]).unwrap().remove(0);
        assert!(!pki::is_good(&pairs[0].1, &other));
    }

    #[test]
    fn pods_are_made_anew_with_their_certificates() {
        let with = |text: &str| {
            let mut objects = [json!({ "kind": "Deployment" }), json!({ "kind": "Service" })];
            restart_with(&[json!({ "data": { "tls.crt": text } })], &mut objects);
            assert_eq!(objects[1], json!({ "kind": "Service" }));
            objects[0].clone()
        };
        assert_ne!(with("a"), with("b"));
        assert_eq!(with("a"), with("a"));
    }
}
