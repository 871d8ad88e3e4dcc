//! What `--extra-config` and `--feature-gates` ask for: read, checked and handed to the component it is for.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};
use crate::settings::ExtraConfig;
use crate::settings::extra_config::COMPONENTS;

/// One argument of a component's command line.
#[derive(Serialize, Debug, PartialEq, Eq)]
pub(super) struct Arg {
    pub(super) name: String,
    pub(super) value: String,
}

/// Sets a field by its dotted path; nothing where the path leads through something that is no object.
pub(super) fn set(object: &mut Value, path: &str, value: Value) -> Option<()> {
    let (head, rest) = path
        .split_once('.')
        .map_or((path, None), |(head, rest)| (head, Some(rest)));
    let fields = object.as_object_mut()?;
    match rest {
        None => fields
            .insert(head.to_owned(), value)
            .map_or(Some(()), |_| Some(())),
        Some(rest) => set(
            fields.entry(head).or_insert_with(|| Value::Object(Map::new())),
            rest,
            value,
        ),
    }
}

/// Arguments of a component: ours, then feature gates, then the user's, who win.
pub(super) fn args(
    defaults: &[(&str, &str)],
    gates: &str,
    extra: &[ExtraConfig],
    component: &str,
) -> Vec<Arg> {
    let mut values: BTreeMap<&str, &str> = defaults.iter().copied().collect();
    if !gates.is_empty() {
        values.insert("feature-gates", gates);
    }
    let own = extra.iter().filter(|extra| extra.component == component);
    values.extend(own.map(|extra| (extra.key.as_str(), extra.value.as_str())));
    values
        .into_iter()
        .map(|(name, value)| Arg {
            name: name.into(),
            value: value.into(),
        })
        .collect()
}

/// What of `--extra-config kubeadm.…` there is: checks that kubeadm is to pass over.
pub(super) fn preflight(extra: &[ExtraConfig]) -> Result<Vec<String>> {
    let mut ignored = Vec::new();
    for extra in extra.iter().filter(|extra| extra.component == "kubeadm") {
        match extra.key.as_str() {
            "ignore-preflight-errors" => ignored.extend(extra.value.split(',').map(str::to_owned)),
            // Has a setting of its own, which `settings` fills from this.
            "pod-network-cidr" => {}
            other => {
                return Err(Error::new(
                    Kind::Usage,
                    format!("--extra-config kubeadm.{other}: not supported"),
                )
                .hint("supported are kubeadm.ignore-preflight-errors and kubeadm.pod-network-cidr"));
            }
        }
    }
    Ok(ignored)
}

pub(super) fn check_components(extra: &[ExtraConfig]) -> Result<()> {
    let unknown = extra
        .iter()
        .find(|extra| !COMPONENTS.contains(&extra.component.as_str()));
    unknown.map_or(Ok(()), |extra| {
        let message = format!(
            "--extra-config {}.{}: no such component",
            extra.component, extra.key
        );
        Err(Error::new(Kind::Usage, message).hint(format!("components are {}", COMPONENTS.join(", "))))
    })
}

/// "A=true,B=false" as a map.
pub(super) fn gates(text: &str) -> Result<BTreeMap<String, bool>> {
    let gate = |gate: &str| {
        let (name, on) = gate.split_once('=')?;
        Some((name.trim().to_owned(), on.trim().parse().ok()?))
    };
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| {
            gate(part).ok_or_else(|| {
                Error::new(
                    Kind::Usage,
                    format!("--feature-gates: {part:?} is not Name=true or Name=false"),
                )
                .hint("give gates like SomeGate=true,OtherGate=false")
            })
        })
        .collect()
}

/// Gates of kubeadm itself; all others are Kubernetes'.
pub(super) fn kubeadm_gate(gate: &str) -> bool {
    matches!(
        gate,
        "NodeLocalCRISocket" | "PublicKeysECDSA" | "RootlessControlPlane"
    )
}

pub(super) fn kubernetes_gates(gates: &BTreeMap<String, bool>) -> BTreeMap<String, bool> {
    gates
        .iter()
        .filter(|(gate, _)| !kubeadm_gate(gate))
        .map(|(gate, on)| (gate.clone(), *on))
        .collect()
}
