//! Docker on the node's containerd, reached over TLS with client certificates only, and the mirror that gives Kubernetes what
//! Docker builds. See docs/decisions/0015.

use std::fs;
use std::path::Path;

use sampan_driver::Command;
use serde_json::{Value, json};

use super::guest::{self, Entry, Stamp};
use super::{Node, render, runtime};
use crate::error::{Error, Kind, Result};
use crate::settings::{ClusterSpec, ContainerRuntime};

/// The step's name.
pub(super) const ID: &str = "docker";

/// The port Docker listens on in the guest.
pub(super) const PORT: u16 = 2376;

/// The newest of the programs that this takes.
const PROGRAM: &str = "/opt/sampan/parts/bin/image-mirror";

const DOCKER: &str = "docker.service";
const MIRROR: &str = "image-mirror.service";

const DOCKER_UNIT: &str = "/etc/systemd/system/docker.service";
const MIRROR_UNIT: &str = "/etc/systemd/system/image-mirror.service";
const CONFIG: &str = "/etc/docker/daemon.json";
const OWN_IMAGES: &str = "/etc/sampan/own-images";
const CA: &str = "/etc/docker/tls/ca.pem";
const CERT: &str = "/etc/docker/tls/server-cert.pem";
const KEY: &str = "/etc/docker/tls/server-key.pem";

/// Prints which certificate Docker shows, if it has one.
pub(super) const SHOW: &str = "if [ -e /etc/docker/tls/server-cert.pem ]; then echo \"docker $(sha256sum </etc/docker/tls/server-cert.pem)\"; fi
";

pub(super) fn is_done(node: &Node<'_>) -> Result<bool> {
    Ok(Stamp::new(node, ID).is(&guest::digest(&entries(node)?))? && guest::active(node, &[DOCKER, MIRROR])?)
}

pub(super) fn apply(node: &Node<'_>) -> Result<()> {
    if !node
        .runner
        .succeeds(&Command::new("test").args(["-x", PROGRAM]))?
    {
        node.reporter.warn(
            "this cluster stands on a bundle of an older sampan and has no Docker; a new one has: `sampan delete`, then `sampan start`",
        );
        return Ok(());
    }
    let entries = entries(node)?;
    let before = guest::read(node, CONFIG)?;
    let changed = guest::update(node, &entries)?;
    let any = |paths: &[&str]| paths.iter().any(|path| changed.contains(path));
    let reloads = changed == [CONFIG] && is_reloadable(before.as_deref(), &config(node)?);
    if any(&[DOCKER_UNIT, MIRROR_UNIT]) {
        guest::systemctl(node, &["daemon-reload"], Kind::Runtime)?;
    }
    // Both units are of type notify: once systemctl is back, they do their work. Docker's containers go on while it is restarted.
    for (unit, reasons) in [
        (MIRROR, &[MIRROR_UNIT, OWN_IMAGES][..]),
        (DOCKER, &[DOCKER_UNIT, CONFIG, CA, CERT, KEY]),
    ] {
        let verb = match any(reasons) {
            false => "start",
            true if unit == DOCKER && reloads => "reload-or-restart",
            true => "restart",
        };
        guest::systemctl(node, &[verb, unit], Kind::Runtime)?;
    }
    Stamp::new(node, ID).write(&guest::digest(&entries))
}

/// Pods get what Docker has; or, where they run on Docker itself, Docker gets what came with the bundle, and again when it removed it.
fn way(spec: &ClusterSpec) -> &'static str {
    match spec.container_runtime {
        ContainerRuntime::Containerd => "--own /etc/sampan/own-images",
        ContainerRuntime::Docker => "--from k8s.io --to moby",
    }
}

/// Whether Docker can go from one configuration to the other while it runs: only registries differ.
fn is_reloadable(before: Option<&str>, after: &str) -> bool {
    let rest = |text: &str| {
        let mut config: Value = serde_json::from_str(text).ok()?;
        let keys = config.as_object_mut()?;
        for key in ["insecure-registries", "registry-mirrors"] {
            keys.remove(key);
        }
        Some(config)
    };
    let before = before.and_then(rest);
    before.is_some() && before == rest(after)
}

/// Registries that Docker takes without TLS: those at ClusterIPs, as in minikube, and those that the user names.
pub(super) fn insecure_registries(spec: &ClusterSpec) -> Vec<String> {
    let services = std::iter::once(&spec.service_cidr);
    services.chain(&spec.insecure_registries).cloned().collect()
}

fn config(node: &Node<'_>) -> Result<String> {
    let spec = node.spec;
    // Empty lists are written, too: what is not in the file stays as it was when Docker reads it again.
    let values = json!({
        "port": PORT,
        "insecure_registries": json!(insecure_registries(spec)).to_string(),
        "registry_mirrors": json!(spec.registry_mirrors).to_string(),
    });
    render::render("docker/daemon.json", values)
}

/// Gives Docker the host's certificate where [`SHOW`] showed another one: the host made a new one before the old one ends, or the
/// guest is an older state of itself. A guest without Docker gets none here.
pub(super) fn renew_if_other(node: &Node<'_>, shown: &[u8]) -> Result<()> {
    let shown = String::from_utf8_lossy(shown);
    let Some(there) = shown.lines().find_map(|line| line.strip_prefix("docker ")) else {
        return Ok(());
    };
    let ours = read(&node.pki.docker.cert)?;
    if there.starts_with(&guest::sha256(ours.as_bytes())) {
        return Ok(());
    }
    node.reporter.info("giving Docker its new certificate");
    apply(node)
}

fn entries(node: &Node<'_>) -> Result<Vec<Entry>> {
    let served = &node.pki.docker;
    let own = node.parts.images.iter();
    let own: String = own
        .map(|image| format!("{}:{}\n", image.name, image.tag))
        .collect();
    Ok(vec![
        Entry::Dir("/etc/docker", 0o755),
        Entry::Dir("/etc/docker/tls", 0o700),
        Entry::File(CA, 0o600, read(&served.ca)?),
        Entry::File(CERT, 0o600, read(&served.cert)?),
        Entry::File(KEY, 0o600, read(&served.key)?),
        Entry::File(CONFIG, 0o644, config(node)?),
        Entry::File(OWN_IMAGES, 0o644, own),
        Entry::File(DOCKER_UNIT, 0o644, render::file("docker/docker.service")?.into()),
        Entry::File(
            MIRROR_UNIT,
            0o644,
            render::render("docker/image-mirror.service", json!({ "way": way(node.spec) }))?,
        ),
        Entry::File(
            "/usr/local/bin/docker",
            0o755,
            render::file("docker/docker")?.into(),
        ),
        runtime::enabled(DOCKER),
        runtime::enabled(MIRROR),
    ])
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::new(
            Kind::HostConfig,
            format!("the certificates of Docker are missing: {}", path.display()),
        )
        .hint("they are made when the machine starts: run `sampan stop`, then `sampan start`"),
        _ => Error::io(path)(error),
    })
}

#[cfg(test)]
mod tests {
    use sampan_driver::{CommandError, Failure, Host, Runner, Stream};

    use super::super::testing::Fixture;
    use super::*;

    fn file(entries: &[Entry], wanted: &str) -> (u32, String) {
        let found = entries.iter().find_map(|entry| match entry {
            Entry::File(path, mode, text) if *path == wanted => Some((*mode, text.clone())),
            _ => None,
        });
        found.unwrap()
    }

    #[test]
    fn docker_listens_to_known_clients_only() {
        let entries = entries(&Fixture::new().node()).unwrap();
        let config: serde_json::Value = serde_json::from_str(&file(&entries, CONFIG).1).unwrap();
        assert_eq!(config["tlsverify"], true);
        let hosts = config["hosts"].as_array().unwrap();
        let tcp: Vec<_> = hosts
            .iter()
            .filter(|host| !host.as_str().unwrap().starts_with("unix:"))
            .collect();
        assert_eq!(tcp, ["tcp://0.0.0.0:2376"]);
        for (setting, path) in [("tlscacert", CA), ("tlscert", CERT), ("tlskey", KEY)] {
            assert_eq!(config[setting], path);
            assert_eq!(file(&entries, path).0, 0o600);
        }
        assert_eq!(config["insecure-registries"], json!(["10.96.0.0/12"]));
        assert_eq!(config["registry-mirrors"], json!([]));
    }

    #[test]
    fn docker_knows_the_users_registries_and_takes_others_over_while_it_runs() {
        let mut fixture = Fixture::new();
        let before = config(&fixture.node()).unwrap();
        fixture.spec.insecure_registries = vec!["r.example:5000".into(), "10.0.0.0/8".into()];
        fixture.spec.registry_mirrors = vec!["https://m.example".into()];
        let after = config(&fixture.node()).unwrap();
        let read: Value = serde_json::from_str(&after).unwrap();
        assert_eq!(
            read["insecure-registries"],
            json!(["10.96.0.0/12", "r.example:5000", "10.0.0.0/8"])
        );
        assert_eq!(read["registry-mirrors"], json!(["https://m.example"]));
        assert!(is_reloadable(Some(&before), &after));
        assert!(!is_reloadable(None, &after));
        assert!(!is_reloadable(Some("{}"), &after));
        let other = after.replace("\"log-level\": \"warn\"", "\"log-level\": \"info\"");
        assert!(other != after && !is_reloadable(Some(&after), &other));
    }

    /// A node whose files are all as they should be, but for Docker's configuration.
    struct Older(Heard, String);

    impl Runner for Older {
        fn place(&self) -> String {
            self.0.place()
        }

        fn run_streamed(
            &self,
            command: &Command,
            on_output: &mut dyn FnMut(Stream, &[u8]),
        ) -> Result<(), CommandError> {
            match command.program.as_str() {
                "cat" => on_output(Stream::Stdout, self.1.as_bytes()),
                "sha256sum" => {
                    for entry in entries(&Fixture::new().node()).unwrap() {
                        if let Entry::File(path, _, text) = entry {
                            let line = format!("{}  {path}\n", guest::sha256(text.as_bytes()));
                            on_output(Stream::Stdout, line.as_bytes());
                        }
                    }
                }
                _ => {}
            }
            self.0.run_streamed(command, on_output)
        }
    }

    #[test]
    fn docker_is_not_restarted_for_registries() {
        let mut fixture = Fixture::new();
        let before = config(&fixture.node()).unwrap();
        fixture.spec.insecure_registries = vec!["r.example".into()];
        let verb = |before: String| {
            let older = Older(Heard::default(), before);
            let node = Node {
                runner: &older,
                ..fixture.node()
            };
            apply(&node).unwrap();
            let commands = older.0.commands.into_inner().unwrap();
            let found = commands.iter().find(|command| command.ends_with(DOCKER));
            found.unwrap().clone()
        };
        assert_eq!(verb(before), "systemctl reload-or-restart docker.service");
        assert_eq!(verb("{}".into()), "systemctl restart docker.service");
    }

    /// Remembers its commands and succeeds at them all, but for one.
    #[derive(Default)]
    struct Heard {
        commands: std::sync::Mutex<Vec<String>>,
        fails: &'static str,
    }

    impl Runner for Heard {
        fn place(&self) -> String {
            "test".into()
        }

        fn run_streamed(
            &self,
            command: &Command,
            _: &mut dyn FnMut(Stream, &[u8]),
        ) -> Result<(), CommandError> {
            self.commands.lock().unwrap().push(command.to_string());
            if command.program != self.fails {
                return Ok(());
            }
            Err(Host::error(command, Failure::Status(1)))
        }
    }

    #[test]
    fn only_a_guest_with_another_certificate_gets_the_hosts() {
        let fixture = Fixture::new();
        let told = |shown: &str| {
            let heard = Heard::default();
            let node = Node {
                runner: &heard,
                ..fixture.node()
            };
            renew_if_other(&node, shown.as_bytes()).unwrap();
            heard.commands.into_inner().unwrap()
        };
        let right = format!("docker {}  -\n", guest::sha256(b"PEM\n"));
        assert_eq!(told(&right), Vec::<String>::new());
        assert_eq!(told("a guest without Docker"), Vec::<String>::new());
        let done = told("docker 00  -\n");
        for wanted in ["tar --extract", "systemctl restart docker.service"] {
            assert!(done.iter().any(|command| command.starts_with(wanted)), "{done:?}");
        }
    }

    #[test]
    fn a_node_without_the_programs_is_left_as_it_is() {
        let fixture = Fixture::new();
        let heard = Heard {
            fails: "test",
            ..Heard::default()
        };
        let node = Node {
            runner: &heard,
            ..fixture.node()
        };
        apply(&node).unwrap();
        assert_eq!(heard.commands.into_inner().unwrap().len(), 1);
    }

    #[test]
    fn the_mirror_leaves_the_nodes_own_images_alone() {
        let entries = entries(&Fixture::new().node()).unwrap();
        let own = file(&entries, OWN_IMAGES).1;
        assert!(
            own.lines().any(|line| line == "registry.k8s.io/pause:3.10.2"),
            "{own}"
        );
        let unit = file(&entries, MIRROR_UNIT).1;
        assert!(
            unit.contains(&format!("/image-mirror --own {OWN_IMAGES}\n")),
            "{unit}"
        );
    }

    #[test]
    fn docker_is_given_the_nodes_images_where_pods_run_on_it() {
        let mut fixture = Fixture::new();
        fixture.spec.container_runtime = ContainerRuntime::Docker;
        let unit = file(&entries(&fixture.node()).unwrap(), MIRROR_UNIT).1;
        assert!(unit.contains("/image-mirror --from k8s.io --to moby\n"), "{unit}");
    }
}
