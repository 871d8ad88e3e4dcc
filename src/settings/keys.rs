//! The table of settings: what each is called, what it may hold, what it is for. Everything that knows a setting by name (the
//! file, the environment, `config`, the documentation) reads this table.

use crate::error::{Error, Kind, Result};

use super::suggest::{did_you_mean, nearest};
use super::{ContainerRuntime, Wait, extra_config, quantity, registries};

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name in the file and, with two dashes, on the command line.
    pub name: &'static str,
    /// What it holds.
    pub kind: ValueKind,
    /// An existing cluster keeps what it was made with.
    pub fixed: bool,
    /// What it is for, in one line.
    pub help: &'static str,
}

/// What a setting may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// Any text.
    Text,
    /// A number, or "max".
    Count,
    /// A size, or "max".
    Size,
    /// A duration.
    Duration,
    /// Yes or no.
    Flag,
    /// Words with commas between.
    List,
    /// A `--wait` list.
    Wait,
    /// `component.key=value`, several with spaces between.
    ExtraConfig,
    /// A DNS domain.
    Domain,
    /// An IPv4 network, as 10.96.0.0/12.
    Network,
    /// A Kubernetes version.
    Version,
    /// Registries and networks of them, with commas between.
    Registries,
    /// Addresses of mirrors, with commas between.
    Mirrors,
    /// A repository of images, as registry.example/k8s.
    Repository,
    /// Where files are below, as https://mirror.example/release.
    Address,
    /// What runs containers.
    Runtime,
    /// One of these words.
    Choice(&'static [&'static str]),
}

const fn key(name: &'static str, kind: ValueKind, fixed: bool, help: &'static str) -> Key {
    Key {
        name,
        kind,
        fixed,
        help,
    }
}

/// All settings, in the order of `config view`.
pub const KEYS: &[Key] = &[
    key("driver", ValueKind::Text, false, "what runs the virtual machine"),
    key(
        "cpus",
        ValueKind::Count,
        true,
        "virtual CPUs, or max for all of the host's",
    ),
    key(
        "memory",
        ValueKind::Size,
        true,
        "memory of the machine, as 4g or 4096mb",
    ),
    key(
        "disk-size",
        ValueKind::Size,
        true,
        "size of the machine's disk, as 20g",
    ),
    key(
        "kubernetes-version",
        ValueKind::Version,
        false,
        "Kubernetes version, as v1.36.3",
    ),
    key(
        "container-runtime",
        ValueKind::Runtime,
        true,
        "what runs the containers of pods: containerd, or docker",
    ),
    key(
        "source",
        ValueKind::Text,
        false,
        "where bundles come from: auto, upstream, build, a path or an address",
    ),
    key(
        "ca-file",
        ValueKind::Text,
        false,
        "certificates of authorities to be trusted besides the system's own, for fetching",
    ),
    key(
        "image-repository",
        ValueKind::Repository,
        true,
        "where upstream's images are fetched from, as registry.example/k8s",
    ),
    key(
        "binary-mirror",
        ValueKind::Address,
        true,
        "where upstream's kubelet, kubeadm and kubectl are fetched from",
    ),
    key(
        "registry-mirror",
        ValueKind::Mirrors,
        false,
        "mirrors of Docker Hub that the node asks first, as https://mirror.example",
    ),
    key(
        "insecure-registry",
        ValueKind::Registries,
        false,
        "registries that do without TLS, as registry.example:5000 or 10.0.0.0/8",
    ),
    key(
        "wait",
        ValueKind::Wait,
        false,
        "what start waits for: apiserver,system_pods,node_ready,… or all or none",
    ),
    key(
        "wait-timeout",
        ValueKind::Duration,
        false,
        "how long start waits for it, as 6m",
    ),
    key(
        "dns-domain",
        ValueKind::Domain,
        true,
        "domain of cluster DNS names",
    ),
    key(
        "service-cluster-ip-range",
        ValueKind::Network,
        true,
        "addresses of services",
    ),
    key("pod-cidr", ValueKind::Network, true, "addresses of pods"),
    key(
        "apiserver-names",
        ValueKind::List,
        true,
        "further names the apiserver's certificate is valid for",
    ),
    key(
        "feature-gates",
        ValueKind::List,
        true,
        "Kubernetes feature gates, as A=true,B=false",
    ),
    key(
        "extra-config",
        ValueKind::ExtraConfig,
        true,
        "component.key=value for kubelet, apiserver, …",
    ),
    key(
        "keep-context",
        ValueKind::Flag,
        false,
        "leave the current kubectl context as it is",
    ),
    key(
        "delete-on-failure",
        ValueKind::Flag,
        false,
        "delete the cluster when its first start fails",
    ),
    key("force", ValueKind::Flag, false, "go on where a check says no"),
    key(
        "stop-mode",
        ValueKind::Choice(&["save", "shutdown"]),
        false,
        "what stop does: save the machine with its memory, or shutdown",
    ),
    key(
        "cache-quota",
        ValueKind::Size,
        false,
        "size that cache prune keeps to, as 20g",
    ),
];

/// Settings of minikube's that have no counterpart yet.
const FOREIGN: &[&str] = &[
    "v",
    "host-only-cidr",
    "log_dir",
    "iso-url",
    "WantUpdateNotification",
    "WantBetaUpdateNotification",
    "ReminderWaitPeriodInHours",
    "WantNoneDriverWarning",
    "WantVirtualBoxDriverWarning",
    "bootstrapper",
    "hyperv-virtual-switch",
    "disable-driver-mounts",
    "cache",
    "EmbedCerts",
    "native-ssh",
    "rootless",
    "MaxAuditEntries",
    "dns-servers",
    "mdns",
];

impl Key {
    /// The setting of that name; "vm-driver" is minikube's old name of "driver".
    ///
    /// # Errors
    /// [`Kind::Usage`] with the nearest name; [`Kind::Unimplemented`] for a setting that only minikube has.
    pub fn find(name: &str) -> Result<&'static Self> {
        let wanted = if name == "vm-driver" { "driver" } else { name };
        if let Some(key) = KEYS.iter().find(|key| key.name == wanted) {
            return Ok(key);
        }
        if FOREIGN.contains(&name) {
            return Err(Error::new(
                Kind::Unimplemented,
                format!("the setting `{name}` of minikube is not there yet"),
            )
            .hint("`sampan config --help` lists the settings there are"));
        }
        let error = Error::new(Kind::Usage, format!("unknown setting `{name}`"));
        Err(match nearest(name, KEYS.iter().map(|key| key.name)) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint("`sampan config --help` lists the settings there are"),
        })
    }

    /// Its name in the environment: SAMPAN_DISK_SIZE.
    pub fn variable(&self) -> String {
        format!("SAMPAN_{}", self.name.replace('-', "_").to_uppercase())
    }

    /// Whether a text can be a value of this setting.
    ///
    /// # Errors
    /// What is wrong with it, in words that follow the value.
    pub fn check(&self, text: &str) -> Result<(), String> {
        match self.kind {
            ValueKind::Text => Ok(()),
            ValueKind::Count => quantity::count(text).map(drop),
            ValueKind::Size => quantity::size_mib(text).map(drop),
            ValueKind::Duration => quantity::duration(text).map(drop),
            ValueKind::Flag => quantity::flag(text).map(drop),
            ValueKind::Wait => Wait::parse(text).map(drop),
            ValueKind::ExtraConfig => extra_config::read(text).map(drop),
            ValueKind::Domain => domain(text),
            ValueKind::Network => network(text),
            ValueKind::Version => version(text),
            ValueKind::Runtime => ContainerRuntime::read(text).map(drop).ok_or_else(|| {
                "is no container runtime of sampan's; there are containerd and docker".to_owned()
            }),
            ValueKind::Choice(words) if words.contains(&text) => Ok(()),
            ValueKind::Choice(words) => {
                Err(format!("is not one of its values; {}", did_you_mean(text, words)))
            }
            ValueKind::Registries => registries::insecure(text).map(drop),
            ValueKind::Mirrors => registries::mirrors(text).map(drop),
            ValueKind::Repository => registries::repository(text).map(drop),
            ValueKind::Address => registries::place(text),
            ValueKind::List if self.name == "feature-gates" => feature_gates(text),
            ValueKind::List => list(text).iter().try_for_each(|name| domain(name)),
        }
    }
}

/// The words of a list: what stands between its commas.
pub fn list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A DNS label: what a profile, and with it a node and a context, may be called.
///
/// # Errors
/// What is wrong with it, in words that follow the value.
pub fn label(text: &str) -> Result<(), String> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty()
        || text.len() > 63
        || !text.chars().all(fine)
        || text.starts_with('-')
        || text.ends_with('-')
    {
        return Err(
            "is not a name for a cluster; use at most 63 lower-case letters, digits and inner dashes"
                .to_owned(),
        );
    }
    Ok(())
}

fn domain(text: &str) -> Result<(), String> {
    if text.len() <= 253
        && text
            .trim_end_matches('.')
            .split('.')
            .all(|part| label(part).is_ok())
    {
        return Ok(());
    }
    Err(format!("is not a DNS name ({text:?}); write it as cluster.local"))
}

fn network(text: &str) -> Result<(), String> {
    let wrong = || "is not an IPv4 network; write it as 10.96.0.0/12".to_owned();
    let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
    let address: std::net::Ipv4Addr = address.parse().map_err(|_| wrong())?;
    let bits: u32 = bits.parse().map_err(|_| wrong())?;
    if !(8..=28).contains(&bits) {
        return Err("has a prefix outside of /8 to /28".to_owned());
    }
    if address.to_bits() & (u32::MAX >> bits) != 0 {
        return Err(format!("has address bits behind its prefix of {bits}"));
    }
    Ok(())
}

fn version(text: &str) -> Result<(), String> {
    let numbers = text.strip_prefix('v').unwrap_or(text);
    let parts: Vec<&str> = numbers.split('.').collect();
    let minor_only = parts.len() == 2 && parts.iter().all(|part| part.parse::<u32>().is_ok());
    if matches!(text, "stable" | "latest") || minor_only || semver::Version::parse(numbers).is_ok() {
        return Ok(());
    }
    Err("is not a Kubernetes version; write it as v1.36.3, or stable".to_owned())
}

fn feature_gates(text: &str) -> Result<(), String> {
    for gate in list(text) {
        match gate.split_once('=') {
            Some((name, "true" | "false"))
                if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric()) => {}
            _ => {
                return Err(format!(
                    "has `{gate}`, which is not of the form Name=true or Name=false"
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, text: &str) -> Result<(), String> {
        Key::find(name).unwrap().check(text)
    }

    #[test]
    fn names_are_found_and_mistakes_get_a_suggestion() {
        assert_eq!(Key::find("vm-driver").unwrap().name, "driver");
        assert_eq!(Key::find("disk-size").unwrap().variable(), "SAMPAN_DISK_SIZE");
        let wrong = Key::find("memry").unwrap_err();
        assert_eq!(
            (wrong.kind(), wrong.hints()),
            (Kind::Usage, &["did you mean `memory`?".to_owned()][..])
        );
        assert_eq!(Key::find("iso-url").unwrap_err().kind(), Kind::Unimplemented);
    }

    #[test]
    fn values_are_checked_by_their_kind() {
        for (name, good, bad) in [
            ("service-cluster-ip-range", "10.96.0.0/12", "10.96.0.1/12"),
            ("pod-cidr", "10.244.0.0/16", "10.244.0.0"),
            ("kubernetes-version", "v1.36.3", "v1.x"),
            ("kubernetes-version", "1.36", "36"),
            ("dns-domain", "corp.local", "corp_local"),
            ("apiserver-names", "a.example,b", "a.example,B!"),
            ("feature-gates", "A=true,B=false", "A=yes"),
            ("extra-config", "kubelet.maxPods=20 etcd.x=y", "kubelt.maxPods=20"),
            ("keep-context", "true", "maybe"),
            ("stop-mode", "shutdown", "sleep"),
            (
                "insecure-registry",
                "r.example:5000,10.0.0.0/8",
                "http://r.example",
            ),
            ("registry-mirror", "https://m.example", "m.example"),
            ("image-repository", "r.example/k8s", "auto"),
            ("binary-mirror", "https://m.example/release", "m.example"),
            ("cache-quota", "20g", "much"),
        ] {
            assert_eq!(check(name, good), Ok(()), "{name}");
            assert!(check(name, bad).is_err(), "{name} {bad}");
        }
    }

    #[test]
    fn a_profile_name_is_a_dns_label() {
        for good in ["a", "my-cluster", "7", &"a".repeat(63)] {
            assert_eq!(label(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a.b",
            "a_b",
            "a/b",
            "..",
            "ä",
            &"a".repeat(64),
        ] {
            assert!(label(bad).is_err(), "{bad}");
        }
    }
}
