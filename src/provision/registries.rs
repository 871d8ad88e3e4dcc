//! How containerd asks registries when it pulls for pods: without TLS where the user says so, and mirrors of Docker Hub first. It reads
//! that at each pull, so nothing is restarted. Docker's share is in its own configuration. See docs/decisions/0027.

use sampan_driver::Command;
use serde_json::{Value, json};

use super::guest::Stamp;
use super::{Node, docker, render};
use crate::error::Result;
use crate::settings::registries::{is_network, may_be_insecure};

/// The step's name.
pub(super) const ID: &str = "registries";

/// Where containerd looks; named in its configuration, too.
const DIR: &str = "/etc/containerd/certs.d";

/// What containerd calls Docker Hub.
const HUB: &str = "docker.io";

/// Prints what the node was told, if it was told anything.
pub(super) const SHOW: &str = "if [ -e /var/lib/sampan/done/registries ]; then echo \"registries $(cat /var/lib/sampan/done/registries)\"; fi
";

pub(super) fn is_done(node: &Node<'_>) -> Result<bool> {
    let told = Stamp::new(node, ID).read()?;
    Ok(is_right(told.as_deref(), &files(node)?))
}

pub(super) fn apply(node: &Node<'_>) -> Result<()> {
    let files = files(node)?;
    let names: Vec<&str> = files.iter().map(|file| file.registry.as_str()).collect();
    let tidy = Command::new("sh")
        .args(["-s", "--", DIR])
        .args(names.iter().copied())
        .stdin(render::file("registries/tidy")?);
    node.cancel.check()?;
    let left = node.runner.run(&tidy)?.text();
    for file in &files {
        let path = format!("{DIR}/{}/hosts.toml", file.registry);
        if left.lines().any(|name| name == file.registry) {
            node.reporter
                .warn(&format!("{path} in the node is not sampan's and stays as it is"));
            continue;
        }
        node.runner.write_file(&path, 0o644, file.text.as_bytes())?;
    }
    Stamp::new(node, ID).write(&digest(&files))
}

/// Tells a node that [`SHOW`] says knows something else: it was forked from one with other registries, or is an older state of itself.
pub(super) fn follow(node: &Node<'_>, shown: &[u8]) -> Result<()> {
    let shown = String::from_utf8_lossy(shown);
    let told = shown.lines().find_map(|line| line.strip_prefix("registries "));
    if is_right(told, &files(node)?) {
        return Ok(());
    }
    node.reporter.detail("telling the node about registries");
    apply(node)?;
    docker::apply(node)
}

/// What containerd reads about one registry.
#[derive(Debug, PartialEq, Eq)]
struct HostsFile {
    registry: String,
    text: String,
}

fn files(node: &Node<'_>) -> Result<Vec<HostsFile>> {
    let spec = node.spec;
    let mut files = Vec::new();
    // A network has no name to be found by.
    for registry in spec.insecure_registries.iter().filter(|entry| !is_network(entry)) {
        files.push(HostsFile {
            registry: registry.clone(),
            text: render::render("registries/insecure.toml", json!({ "registry": registry }))?,
        });
    }
    if !spec.registry_mirrors.is_empty() {
        let insecure = docker::insecure_registries(spec);
        let mirrors: Vec<Value> = spec
            .registry_mirrors
            .iter()
            .map(|url| mirror(url, &insecure))
            .collect();
        files.push(HostsFile {
            registry: HUB.to_owned(),
            text: render::render("registries/mirrors.toml", json!({ "mirrors": mirrors }))?,
        });
    }
    Ok(files)
}

fn mirror(url: &str, insecure: &[String]) -> Value {
    let host = url
        .strip_prefix("https://")
        .and_then(|rest| rest.split('/').next());
    json!({ "url": url, "any_certificate": host.is_some_and(|host| may_be_insecure(host, insecure)) })
}

/// A node that nobody told anything is right when there is nothing to tell.
fn is_right(told: Option<&str>, files: &[HostsFile]) -> bool {
    match told {
        Some(told) => told == digest(files),
        None => files.is_empty(),
    }
}

fn digest(files: &[HostsFile]) -> String {
    let texts = files.iter().flat_map(|file| [&file.registry, &file.text]);
    super::digest(texts.map(|text| text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sampan_driver::{Host, Runner};

    use super::super::testing::Fixture;
    use super::*;

    fn fixture(insecure: &[&str], mirrors: &[&str]) -> Fixture {
        let mut fixture = Fixture::new();
        let owned = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect();
        fixture.spec.insecure_registries = owned(insecure);
        fixture.spec.registry_mirrors = owned(mirrors);
        fixture
    }

    #[test]
    fn each_registry_has_a_file_and_docker_hub_has_its_mirrors() {
        let fixture = fixture(
            &["r.example:5000", "10.0.0.0/8"],
            &[
                "http://10.0.2.2:5000",
                "https://10.1.2.3/proxy",
                "https://m.example",
            ],
        );
        let files = files(&fixture.node()).unwrap();
        let texts: Vec<String> = files
            .iter()
            .map(|file| format!("## {}\n{}", file.registry, file.text))
            .collect();
        insta::assert_snapshot!(texts.concat(), @r##"
        ## r.example:5000
        # Written by sampan, for --insecure-registry.
        # HTTPS with any certificate, and HTTP where nobody speaks TLS.
        server = "http://r.example:5000"
        skip_verify = true
        ## docker.io
        # Written by sampan, for --registry-mirror.
        server = "https://registry-1.docker.io"

        [host."http://10.0.2.2:5000"]
          capabilities = ["pull", "resolve"]

        [host."https://10.1.2.3/proxy"]
          capabilities = ["pull", "resolve"]
          skip_verify = true

        [host."https://m.example"]
          capabilities = ["pull", "resolve"]
        "##);
        for file in &files {
            let _: toml::Table = file.text.parse().unwrap();
        }
    }

    #[test]
    fn a_node_is_told_once_and_again_when_something_changed() {
        let none = files(&fixture(&[], &[]).node()).unwrap();
        let some = files(&fixture(&["r.example"], &[]).node()).unwrap();
        assert!(is_right(None, &none) && !is_right(None, &some));
        assert!(is_right(Some(&digest(&some)), &some) && !is_right(Some(&digest(&some)), &none));
        assert!(is_right(Some(&digest(&none)), &none));
    }

    /// What the script leaves of a directory, and what it prints.
    #[test]
    fn only_what_sampan_wrote_goes() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("certs.d");
        let put = |name: &str, text: &str| {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), text).unwrap();
        };
        let ours = "# Written by sampan, for --insecure-registry.\nserver = \"x\"\n";
        put("old.example/hosts.toml", ours);
        put("certified.example:5000/hosts.toml", ours);
        put("certified.example:5000/ca.crt", "PEM");
        put("kept.example/hosts.toml", ours);
        put("theirs.example/hosts.toml", "server = \"y\"\n");
        put("other.example/hosts.toml", "server = \"z\"\n");
        let tidy = |root: &std::path::Path| {
            let command = Command::new("sh")
                .args(["-s", "--", root.to_str().unwrap()])
                .args(["kept.example", "theirs.example", "new.example"])
                .stdin(render::file("registries/tidy").unwrap());
            Host.run(&command).unwrap().text()
        };
        assert_eq!(tidy(&root), "theirs.example");
        let is_there = |name: &str| root.join(name).exists();
        assert!(!is_there("old.example") && !is_there("certified.example:5000/hosts.toml"));
        for name in [
            "certified.example:5000/ca.crt",
            "kept.example/hosts.toml",
            "theirs.example/hosts.toml",
            "other.example/hosts.toml",
        ] {
            assert!(is_there(name), "{name}");
        }
        assert_eq!(tidy(&dir.path().join("nothing")), "");
    }
}
