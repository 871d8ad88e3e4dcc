//! A cluster that exists stays what it was made as: what a start asks for otherwise is told, or is an error. Its registries change.

use crate::error::{Error, Kind, Result};

use super::keys::KEYS;
use super::merge::{Setting, Settings};
use super::quantity::{Amount, count, size_mib};
use super::resolve::{Choices, HOST_KEEPS_MIB, Resolved, known_driver};
use super::versions::numbers;
use super::{ClusterSpec, keys, registries};

/// A cluster that exists stays what it is; what would change it is told, or is an error.
pub(super) fn keep(spec: &ClusterSpec, settings: &Settings, choices: &Choices) -> Result<Resolved> {
    let mut warnings = Vec::new();
    if let Some(setting) = settings.get("driver").filter(|setting| setting.is_deliberate()) {
        let wanted = known_driver(setting, choices)?;
        if wanted != spec.driver {
            return Err(Error::new(
                Kind::DriverMismatch,
                format!(
                    "cluster \"{}\" was made with the driver {}, not {wanted}",
                    spec.name, spec.driver
                ),
            )
            .hint(format!(
                "go on with it: sampan start -p {} --driver {}",
                spec.name, spec.driver
            ))
            .hint(format!(
                "or make it anew, its data is lost then: sampan delete -p {}",
                spec.name
            )));
        }
    }
    if let Some(setting) = settings
        .get("kubernetes-version")
        .filter(|setting| setting.is_deliberate())
    {
        same_version(spec, setting)?;
    }
    for setting in KEYS
        .iter()
        .filter(|key| key.fixed)
        .filter_map(|key| settings.get(key.name))
    {
        if setting.is_deliberate() && differs(spec, setting, choices) {
            warnings.push(format!(
                "`{setting}` is ignored: cluster \"{}\" keeps {}; delete it first to change that",
                spec.name,
                current(spec, setting.key)
            ));
        }
    }
    let mut spec = spec.clone();
    warnings.extend(registries::apply(&mut spec, settings, false)?);
    Ok(Resolved { spec, warnings })
}

fn same_version(spec: &ClusterSpec, setting: &Setting) -> Result<()> {
    let have = &spec.kubernetes_version;
    let wanted = format!("v{}", setting.text.trim_start_matches('v'));
    let same = *have == wanted
        || have.starts_with(&format!("{wanted}."))
        || matches!(wanted.as_str(), "vstable" | "vlatest");
    if same {
        return Ok(());
    }
    if numbers(&wanted) < numbers(have) {
        return Err(Error::new(
            Kind::KubernetesUnsupported,
            format!(
                "cluster \"{}\" runs Kubernetes {have}; going back to {wanted} is not possible",
                spec.name
            ),
        )
        .hint(format!(
            "go on with it: sampan start -p {} --kubernetes-version {have}",
            spec.name
        )));
    }
    Err(Error::new(
        Kind::Unimplemented,
        format!(
            "an upgrade of cluster \"{}\" from Kubernetes {have} to {wanted} is not there yet",
            spec.name
        ),
    )
    .hint(format!(
        "go on with it: sampan start -p {} --kubernetes-version {have}",
        spec.name
    )))
}

/// Whether a setting says something else than what the cluster is.
fn differs(spec: &ClusterSpec, setting: &Setting, choices: &Choices) -> bool {
    let text = setting.text.as_str();
    let size = |mib: u64| size_mib(text) != Ok(Amount::Of(mib));
    match setting.key {
        "cpus" => match count(text) {
            Ok(Amount::Max) => spec.cpus != choices.host_cpus,
            other => other != Ok(Amount::Of(spec.cpus.into())),
        },
        "memory" => match size_mib(text) {
            Ok(Amount::Max) => spec.memory_mib != choices.host_memory_mib.saturating_sub(HOST_KEEPS_MIB),
            _ => size(spec.memory_mib),
        },
        "disk-size" => size(spec.disk_mib),
        "dns-domain" => text != spec.dns_domain,
        "service-cluster-ip-range" => text != spec.service_cidr,
        "pod-cidr" => text != spec.pod_cidr,
        "apiserver-names" => keys::list(text) != spec.apiserver_names,
        "feature-gates" => keys::list(text).join(",") != spec.feature_gates,
        "image-repository" | "binary-mirror" => !text.is_empty(),
        "extra-config" => keys::extra_config(text).as_ref() != Ok(&spec.extra_config),
        _ => false,
    }
}

/// What the cluster is, in the words of the setting.
fn current(spec: &ClusterSpec, key: &str) -> String {
    let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
    match key {
        "cpus" => format!("{} CPUs", spec.cpus),
        "memory" => format!("{} MiB", spec.memory_mib),
        "disk-size" => format!("{} MiB", spec.disk_mib),
        "dns-domain" => spec.dns_domain.clone(),
        "service-cluster-ip-range" => spec.service_cidr.clone(),
        "pod-cidr" => spec.pod_cidr.clone(),
        "apiserver-names" => or_none(spec.apiserver_names.join(",")),
        "feature-gates" => or_none(spec.feature_gates.clone()),
        "image-repository" | "binary-mirror" => "the bundle that it was made from".to_owned(),
        _ => "what it has".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::resolve;
    use crate::settings::resolve::tests::{choices, settings};

    #[test]
    fn an_existing_cluster_stays_what_it_is() {
        let spec = resolve(
            "sampan",
            &settings(&[("cpus", "3"), ("memory", "4g")]),
            None,
            &choices(),
        )
        .unwrap()
        .spec;
        let again = |flags: &[(&str, &str)]| resolve("sampan", &settings(flags), Some(&spec), &choices());

        let same = again(&[
            ("cpus", "3"),
            ("memory", "4096mb"),
            ("driver", "qemu"),
            ("kubernetes-version", "1.36"),
        ]);
        assert_eq!(
            same.unwrap(),
            Resolved {
                spec: spec.clone(),
                warnings: vec![]
            }
        );
        let changed = again(&[("memory", "8g")]).unwrap();
        assert_eq!(changed.spec, spec);
        assert_eq!(
            changed.warnings,
            ["`--memory 8g` is ignored: cluster \"sampan\" keeps 4096 MiB; delete it first to change that"]
        );
        for (flag, text, kind) in [
            ("driver", "fake", Kind::DriverMismatch),
            ("kubernetes-version", "v1.35.9", Kind::KubernetesUnsupported),
            ("kubernetes-version", "v1.9.0", Kind::KubernetesUnsupported),
            ("kubernetes-version", "v1.37.0", Kind::Unimplemented),
        ] {
            assert_eq!(again(&[(flag, text)]).unwrap_err().kind(), kind, "{flag} {text}");
        }
    }
}
