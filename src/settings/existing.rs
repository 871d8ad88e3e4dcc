//! A cluster that exists stays what it was made as, but for its version of Kubernetes, which may become a newer one, and its registries:
//! what else a start asks for otherwise is told, or is an error.

use crate::error::{Error, Kind, Result};

use super::keys::KEYS;
use super::merge::{Setting, Settings};
use super::quantity::{Amount, count, size_mib};
use super::resolve::{Choices, HOST_KEEPS_MIB, Resolved, known_driver, kubernetes_version};
use super::versions::{is_newer, numbers};
use super::{ClusterSpec, ContainerRuntime, extra_config, keys, registries};

/// The spec of a cluster that exists: its own, perhaps with a newer version.
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
    let kubernetes_version = match settings.get("kubernetes-version") {
        Some(setting) if setting.is_deliberate() => version(spec, setting, settings, &choices.kubernetes)?,
        _ => spec.kubernetes_version.clone(),
    };
    for setting in KEYS
        .iter()
        .filter(|key| key.fixed)
        .filter_map(|key| settings.get(key.name))
    {
        // An upgrade does fetch something.
        let is_used = matches!(setting.key, "image-repository" | "binary-mirror")
            && kubernetes_version != spec.kubernetes_version;
        if setting.is_deliberate() && !is_used && differs(spec, setting, choices) {
            warnings.push(format!(
                "`{setting}` is ignored: cluster \"{}\" keeps {}; delete it first to change that",
                spec.name,
                current(spec, setting.key)
            ));
        }
    }
    let mut spec = ClusterSpec {
        kubernetes_version,
        ..spec.clone()
    };
    warnings.extend(registries::apply(&mut spec, settings, false)?);
    Ok(Resolved { spec, warnings })
}

/// The version that a cluster is to run: its own, or a newer one that it can be upgraded to in one go.
fn version(spec: &ClusterSpec, setting: &Setting, settings: &Settings, there: &[String]) -> Result<String> {
    let have = &spec.kubernetes_version;
    let wanted = match setting.text.as_str() {
        // Nobody goes back because of a word.
        "stable" | "latest" => kubernetes_version(settings, there)?,
        text => format!("v{}", text.trim_start_matches('v')),
    };
    let is_word = !setting
        .text
        .trim_start_matches('v')
        .starts_with(|c: char| c.is_ascii_digit());
    if *have == wanted || have.starts_with(&format!("{wanted}.")) || (is_word && !is_newer(&wanted, have)) {
        return Ok(have.clone());
    }
    if !is_newer(&wanted, have) {
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
        ))
        .hint("a snapshot from before an upgrade brings all of that time back: see `sampan snapshot list`"));
    }
    one_minor_at_a_time(spec, &wanted, there)?;
    kubernetes_version(settings, there)
}

/// kubeadm upgrades from one minor version to the next only.
fn one_minor_at_a_time(spec: &ClusterSpec, wanted: &str, there: &[String]) -> Result<()> {
    let have = &spec.kubernetes_version;
    let (from, to) = (numbers(have), numbers(wanted));
    let minor = |numbers: &[u64]| numbers.get(1).copied().unwrap_or_default();
    if from.first() == to.first() && minor(&to) <= minor(&from) + 1 {
        return Ok(());
    }
    let next = [from.first().copied().unwrap_or_default(), minor(&from) + 1];
    let of_next = there.iter().filter(|version| numbers(version).starts_with(&next));
    let error = Error::new(
        Kind::KubernetesUnsupported,
        format!(
            "cluster \"{}\" runs Kubernetes {have}; an upgrade goes one minor version at a time, and {wanted} is further away",
            spec.name
        ),
    );
    Err(match of_next.max_by_key(|version| numbers(version)) {
        Some(version) => error.hint(format!(
            "upgrade to {version} first: sampan start -p {} --kubernetes-version {version}",
            spec.name
        )),
        None => error.hint(format!(
            "upgrade to a v{}.{} first; this sampan knows none, --source names a bundle that has it",
            next[0], next[1]
        )),
    })
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
        "container-runtime" => ContainerRuntime::read(text) != Some(spec.container_runtime),
        "dns-domain" => text != spec.dns_domain,
        "service-cluster-ip-range" => text != spec.service_cidr,
        "pod-cidr" => text != spec.pod_cidr,
        "apiserver-names" => keys::list(text) != spec.apiserver_names,
        "feature-gates" => keys::list(text).join(",") != spec.feature_gates,
        "image-repository" | "binary-mirror" => !text.is_empty(),
        "extra-config" => extra_config::read(text).as_ref() != Ok(&spec.extra_config),
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
        "container-runtime" => spec.container_runtime.name().to_owned(),
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
            ("kubernetes-version", "v1.36.9", Kind::KubernetesUnsupported),
            ("kubernetes-version", "v1.37.0", Kind::KubernetesUnsupported),
        ] {
            assert_eq!(again(&[(flag, text)]).unwrap_err().kind(), kind, "{flag} {text}");
        }
    }

    /// The version that a cluster runs after it was asked for another, by a sampan that has these.
    fn upgrade(have: &str, wanted: &str, there: &[&str]) -> Result<String> {
        let fresh = resolve("sampan", &settings(&[]), None, &choices()).unwrap().spec;
        let spec = ClusterSpec {
            kubernetes_version: have.to_owned(),
            ..fresh
        };
        let choices = Choices {
            kubernetes: there.iter().map(|&version| version.to_owned()).collect(),
            ..choices()
        };
        let flags = settings(&[("kubernetes-version", wanted)]);
        Ok(resolve("sampan", &flags, Some(&spec), &choices)?
            .spec
            .kubernetes_version)
    }

    #[test]
    fn a_newer_version_is_an_upgrade_of_one_minor_at_most() {
        let there = ["v1.36.3", "v1.36.5", "v1.35.9", "v1.35.8"];
        for (have, wanted, version) in [
            ("v1.36.3", "v1.36.5", "v1.36.5"),
            ("v1.36.3", "1.36", "v1.36.3"),
            ("v1.35.8", "1.36.5", "v1.36.5"),
            ("v1.35.8", "1.36", "v1.36.3"),
            ("v1.35.8", "stable", "v1.36.3"),
            ("v1.35.8", "latest", "v1.36.5"),
            ("v1.36.5", "stable", "v1.36.5"),
            ("v1.37.0", "latest", "v1.37.0"),
        ] {
            assert_eq!(upgrade(have, wanted, &there).unwrap(), version, "{have} {wanted}");
        }
        let error = upgrade("v1.34.2", "v1.36.5", &there).unwrap_err();
        assert_eq!(error.kind(), Kind::KubernetesUnsupported);
        assert_eq!(
            error.hints(),
            ["upgrade to v1.35.9 first: sampan start -p sampan --kubernetes-version v1.35.9"]
        );
        let error = upgrade("v1.33.0", "latest", &there).unwrap_err();
        assert!(
            error.hints()[0].starts_with("upgrade to a v1.34 first"),
            "{error:?}"
        );
        assert!(upgrade("v1.36.3", "v2.0.0", &["v2.0.0"]).is_err());
    }
}
