//! `--extra-config`: flags and fields of Kubernetes' own components.

use super::ExtraConfig;
use super::suggest::did_you_mean;

/// The parts of the cluster that `--extra-config` can reach.
pub(crate) const COMPONENTS: [&str; 7] = [
    "kubelet",
    "kubeadm",
    "apiserver",
    "controller-manager",
    "scheduler",
    "proxy",
    "etcd",
];

/// Reads `component.key=value`, several with white space between.
///
/// # Errors
/// What is wrong with it, in words that follow the value.
pub(super) fn read(text: &str) -> Result<Vec<ExtraConfig>, String> {
    text.split_whitespace().map(one).collect()
}

fn one(text: &str) -> Result<ExtraConfig, String> {
    let form = || format!("has `{text}`, which is not of the form component.key=value");
    let (path, value) = text.split_once('=').ok_or_else(form)?;
    let (component, key) = path.split_once('.').ok_or_else(form)?;
    if key.is_empty() {
        return Err(form());
    }
    // minikube's own spellings of two components.
    let component = match component {
        "kube-proxy" => "proxy",
        "controller" => "controller-manager",
        other => other,
    };
    if !COMPONENTS.contains(&component) {
        return Err(format!(
            "names no known component with `{component}`; {}",
            did_you_mean(component, &COMPONENTS)
        ));
    }
    Ok(ExtraConfig {
        component: component.to_owned(),
        key: key.to_owned(),
        value: value.to_owned(),
    })
}
