//! From settings to a [`ClusterSpec`]: defaults filled in, values checked against the host, the drivers and the versions
//! there are, and, for a cluster that exists, against what it was made with.

use std::time::Duration;

use crate::error::{Error, Kind, Result};

use super::keys::Key;
use super::merge::{Setting, Settings};
use super::quantity::{Amount, count, duration, size_mib};
use super::suggest::did_you_mean;
use super::{ClusterSpec, ContainerRuntime, Wait, existing, extra_config, keys, registries, versions};

/// What Kubernetes cannot do without, in MiB.
pub const MIN_MEMORY_MIB: u64 = 1800;
/// What Kubernetes cannot do without.
pub const MIN_CPUS: u32 = 2;
/// The base system, the images and some room, in MiB.
pub const MIN_DISK_MIB: u64 = 4096;
/// minikube's default, in MiB.
const DEFAULT_DISK_MIB: u64 = 20_000;
/// Stays with the host when a machine gets "max", in MiB.
pub(super) const HOST_KEEPS_MIB: u64 = 1024;

/// What there is to choose from, and what the host can give.
#[derive(Debug, Clone)]
pub struct Choices {
    /// Drivers, the default one first.
    pub drivers: Vec<String>,
    /// Kubernetes versions with leading "v" that bundles are there for or can be made for, the default one first.
    pub kubernetes: Vec<String>,
    /// The host's memory.
    pub host_memory_mib: u64,
    /// The host's CPUs.
    pub host_cpus: u32,
}

/// A spec and what the user should know about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// What the cluster is to be.
    pub spec: ClusterSpec,
    /// Warnings, ready to be shown.
    pub warnings: Vec<String>,
}

/// What `start` is to wait for, and for how long.
///
/// # Errors
/// [`Kind::Usage`].
pub fn wait(settings: &Settings) -> Result<(Vec<Wait>, Duration)> {
    let usage = |what: String| Error::new(Kind::Usage, what);
    let waits = match settings.get("wait") {
        Some(setting) => Wait::parse(&setting.text).map_err(usage)?,
        None => Wait::DEFAULT.to_vec(),
    };
    Ok((
        waits,
        duration(settings.text("wait-timeout", "6m")).map_err(usage)?,
    ))
}

/// What a new cluster gets when nobody says anything, in MiB: a quarter of the host's memory in hundreds, but no less than
/// 3072 and no more than 6144.
pub fn default_memory_mib(host_mib: u64) -> u64 {
    (host_mib / 400 * 100).clamp(3072, 6144)
}

/// The spec of a cluster named `name`: that of the existing cluster, or a new one from the settings.
///
/// # Errors
/// [`Kind::Usage`], [`Kind::Memory`], [`Kind::Cores`], [`Kind::Storage`], [`Kind::KubernetesUnsupported`],
/// [`Kind::DriverMismatch`], [`Kind::Unimplemented`], each with what to do.
pub fn resolve(
    name: &str,
    settings: &Settings,
    existing: Option<&ClusterSpec>,
    choices: &Choices,
) -> Result<Resolved> {
    if let Err(what) = keys::label(name) {
        return Err(wrong_name(name, &what));
    }
    match existing {
        Some(spec) => existing::keep(spec, settings, choices),
        None => fresh(name, settings, choices),
    }
}

/// The error of a name that cannot be a profile's.
pub fn wrong_name(name: &str, what: &str) -> Error {
    let (what, hint) = what.split_once("; ").unwrap_or((what, "choose another name"));
    Error::new(Kind::Usage, format!("{name:?} {what}")).hint(hint)
}

fn fresh(name: &str, settings: &Settings, choices: &Choices) -> Result<Resolved> {
    let usage = |what: String| Error::new(Kind::Usage, what);
    let mut checks = Checks {
        force: settings.flag("force"),
        warnings: Vec::new(),
    };
    let mut spec = ClusterSpec {
        name: name.to_owned(),
        driver: driver(settings, choices)?,
        cpus: cpus(settings, choices, &mut checks)?,
        memory_mib: memory(settings, choices, &mut checks)?,
        disk_mib: disk(settings, &mut checks)?,
        kubernetes_version: kubernetes_version(settings, &choices.kubernetes)?,
        container_runtime: ContainerRuntime::read(settings.text("container-runtime", "")).unwrap_or_default(),
        dns_domain: settings.text("dns-domain", "cluster.local").to_owned(),
        service_cidr: settings
            .text("service-cluster-ip-range", "10.96.0.0/12")
            .to_owned(),
        pod_cidr: settings.text("pod-cidr", "10.244.0.0/16").to_owned(),
        apiserver_names: keys::list(settings.text("apiserver-names", "")),
        feature_gates: keys::list(settings.text("feature-gates", "")).join(","),
        insecure_registries: Vec::new(),
        registry_mirrors: Vec::new(),
        extra_config: extra_config::read(settings.text("extra-config", "")).map_err(usage)?,
    };
    checks
        .warnings
        .extend(registries::apply(&mut spec, settings, true)?);
    Ok(Resolved {
        spec,
        warnings: checks.warnings,
    })
}

/// Checks that `--force` turns into warnings.
struct Checks {
    force: bool,
    warnings: Vec<String>,
}

impl Checks {
    fn fail(&mut self, error: Error) -> Result<()> {
        if !self.force {
            return Err(error);
        }
        self.warnings
            .push(format!("{error} (going on because of --force)"));
        Ok(())
    }
}

fn driver(settings: &Settings, choices: &Choices) -> Result<String> {
    let default = choices.drivers.first().cloned().unwrap_or_default();
    match settings.get("driver") {
        None => Ok(default),
        Some(setting) => known_driver(setting, choices).map(str::to_owned),
    }
}

/// The driver a setting names.
pub(super) fn known_driver<'a>(setting: &Setting, choices: &'a Choices) -> Result<&'a str> {
    // minikube's other names of the same thing.
    let wanted = match setting.text.to_lowercase().as_str() {
        "qemu2" => "qemu".to_owned(),
        other => other.to_owned(),
    };
    if let Some(driver) = choices.drivers.iter().find(|driver| **driver == wanted) {
        return Ok(driver);
    }
    Err(
        Error::new(Kind::Usage, format!("`{setting}`: there is no such driver"))
            .hint(did_you_mean(&wanted, &choices.drivers)),
    )
}

fn cpus(settings: &Settings, choices: &Choices, checks: &mut Checks) -> Result<u32> {
    let usage = |what: String| Error::new(Kind::Usage, what);
    let wanted = match count(settings.text("cpus", "2")).map_err(usage)? {
        Amount::Max => choices.host_cpus.max(MIN_CPUS),
        Amount::Of(number) => u32::try_from(number).unwrap_or(u32::MAX),
    };
    if wanted < MIN_CPUS {
        checks.fail(
            Error::new(
                Kind::Cores,
                format!("{wanted} CPU asked for, and Kubernetes needs {MIN_CPUS}"),
            )
            .hint(format!("ask for more: --cpus {MIN_CPUS}")),
        )?;
    } else if wanted > choices.host_cpus && settings.get("cpus").is_some() {
        checks.fail(
            Error::new(
                Kind::Cores,
                format!("{wanted} CPUs asked for, and this host has {}", choices.host_cpus),
            )
            .hint("ask for fewer: --cpus max takes as many as there are"),
        )?;
    }
    Ok(wanted)
}

fn memory(settings: &Settings, choices: &Choices, checks: &mut Checks) -> Result<u64> {
    let usage = |what: String| Error::new(Kind::Usage, what);
    let host = choices.host_memory_mib;
    let wanted = match settings.get("memory") {
        None => default_memory_mib(host),
        Some(setting) => match size_mib(&setting.text).map_err(usage)? {
            Amount::Max => host.saturating_sub(HOST_KEEPS_MIB),
            Amount::Of(mib) => mib,
        },
    };
    if wanted < MIN_MEMORY_MIB {
        checks.fail(
            Error::new(
                Kind::Memory,
                format!("{wanted} MiB of memory asked for, and Kubernetes needs {MIN_MEMORY_MIB} MiB"),
            )
            .hint("ask for more: --memory 3g"),
        )?;
    } else if wanted > host {
        checks.fail(
            Error::new(
                Kind::Memory,
                format!("{wanted} MiB of memory asked for, and this host has {host} MiB"),
            )
            .hint(format!(
                "ask for less: --memory {}mb",
                default_memory_mib(host).min(host / 2)
            )),
        )?;
    }
    Ok(wanted)
}

fn disk(settings: &Settings, checks: &mut Checks) -> Result<u64> {
    let Some(setting) = settings.get("disk-size") else {
        return Ok(DEFAULT_DISK_MIB);
    };
    let mib = match size_mib(&setting.text).map_err(|what| Error::new(Kind::Usage, what))? {
        Amount::Max => return Err(setting.wrong(Kind::Usage, "says no size; write 20g")),
        Amount::Of(mib) => mib,
    };
    if mib < MIN_DISK_MIB {
        checks.fail(
            Error::new(
                Kind::Storage,
                format!("a disk of {mib} MiB asked for, and a node needs {MIN_DISK_MIB} MiB"),
            )
            .hint("ask for more: --disk-size 20g"),
        )?;
    }
    Ok(mib)
}

/// The version to run: the default one, or the one asked for if it is there. "v1.36" is the default one when that is of its kind,
/// as it can be had from everywhere, else the newest of its kind; "stable" is the default one, "latest" the newest of all.
///
/// # Errors
/// [`Kind::KubernetesUnsupported`] for a version that there is not.
pub fn kubernetes_version(settings: &Settings, versions: &[String]) -> Result<String> {
    let setting = settings.get("kubernetes-version");
    let newest = || versions.iter().max_by_key(|version| versions::numbers(version));
    let default = versions.first();
    let found = match setting.map(|setting| setting.text.as_str()) {
        None | Some("stable") => default,
        Some("latest") => newest(),
        Some(text) => {
            let wanted = format!("v{}", text.trim_start_matches('v'));
            let of_it = format!("{wanted}.");
            let exact = versions.iter().find(|version| **version == wanted);
            let found = exact.or_else(|| versions.iter().find(|version| version.starts_with(&of_it)));
            return found
                .cloned()
                .ok_or_else(|| versions::not_there(&wanted, versions));
        }
    };
    Ok(found.cloned().unwrap_or_default())
}

/// The value a setting has when nobody says anything, for `config defaults`.
pub fn default_text(key: &Key, choices: &Choices) -> String {
    match key.name {
        "driver" => choices.drivers.first().cloned().unwrap_or_default(),
        "cpus" => MIN_CPUS.to_string(),
        "memory" => format!("{}mb", default_memory_mib(choices.host_memory_mib)),
        "disk-size" => format!("{DEFAULT_DISK_MIB}mb"),
        "kubernetes-version" => choices.kubernetes.first().cloned().unwrap_or_default(),
        "wait" => Wait::DEFAULT.map(Wait::name).join(","),
        "wait-timeout" => "6m0s".to_owned(),
        "container-runtime" => ContainerRuntime::default().name().to_owned(),
        "dns-domain" => "cluster.local".to_owned(),
        "service-cluster-ip-range" => "10.96.0.0/12".to_owned(),
        "pod-cidr" => "10.244.0.0/16".to_owned(),
        "source" => "auto".to_owned(),
        "stop-mode" => "save".to_owned(),
        "keep-context" | "delete-on-failure" | "force" => "false".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::settings) fn choices() -> Choices {
        Choices {
            drivers: vec!["qemu".into(), "fake".into()],
            kubernetes: vec![
                "v1.36.3".into(),
                "v1.36.5".into(),
                "v1.35.9".into(),
                "v1.35.8".into(),
            ],
            host_memory_mib: 24_000,
            host_cpus: 4,
        }
    }

    pub(in crate::settings) fn settings(flags: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::default();
        for (name, text) in flags {
            settings.add_flag(name, Some((*text).to_owned())).unwrap();
        }
        settings
    }

    fn resolve_new(flags: &[(&str, &str)]) -> Result<Resolved> {
        resolve("sampan", &settings(flags), None, &choices())
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let resolved = resolve_new(&[]).unwrap();
        let spec = resolved.spec;
        assert_eq!(
            (spec.driver.as_str(), spec.cpus, spec.memory_mib, spec.disk_mib),
            ("qemu", 2, 6000, 20_000)
        );
        assert_eq!(
            (spec.kubernetes_version.as_str(), spec.dns_domain.as_str()),
            ("v1.36.3", "cluster.local")
        );
        assert!(resolved.warnings.is_empty());
        assert_eq!(
            [8_000, 16_000, 40_000].map(default_memory_mib),
            [3072, 4000, 6144]
        );
    }

    #[test]
    fn what_cannot_be_says_why_and_what_to_do() {
        for (flag, text, kind, hint) in [
            ("memory", "1799", Kind::Memory, "ask for more: --memory 3g"),
            ("memory", "100g", Kind::Memory, "ask for less: --memory 6000mb"),
            ("cpus", "1", Kind::Cores, "ask for more: --cpus 2"),
            (
                "cpus",
                "64",
                Kind::Cores,
                "ask for fewer: --cpus max takes as many as there are",
            ),
            ("disk-size", "1g", Kind::Storage, "ask for more: --disk-size 20g"),
            ("driver", "qmeu", Kind::Usage, "did you mean `qemu`?"),
            ("driver", "xen", Kind::Usage, "choose one of qemu, fake"),
            (
                "kubernetes-version",
                "v1.36.9",
                Kind::KubernetesUnsupported,
                "choose from v1.36.3 to v1.36.5, v1.35.8 to v1.35.9",
            ),
        ] {
            let error = resolve_new(&[(flag, text)]).unwrap_err();
            assert_eq!(
                (error.kind(), error.hints()[0].as_str()),
                (kind, hint),
                "{flag} {text}"
            );
        }
        assert_eq!(
            resolve("My_Cluster", &settings(&[]), None, &choices())
                .unwrap_err()
                .kind(),
            Kind::Usage
        );
        let forced = resolve_new(&[("memory", "1000"), ("force", "true")]).unwrap();
        assert_eq!((forced.spec.memory_mib, forced.warnings.len()), (1000, 1));
    }

    #[test]
    fn a_version_may_be_a_minor_one_or_a_word() {
        for (text, version) in [
            ("1.35", "v1.35.9"),
            ("v1.36", "v1.36.3"),
            ("1.36.5", "v1.36.5"),
            ("v1.35.8", "v1.35.8"),
            ("stable", "v1.36.3"),
            ("latest", "v1.36.5"),
        ] {
            assert_eq!(
                resolve_new(&[("kubernetes-version", text)])
                    .unwrap()
                    .spec
                    .kubernetes_version,
                version
            );
        }
    }
}
