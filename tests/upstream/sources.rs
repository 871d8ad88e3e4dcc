//! `start --source` as users run it, up to where a machine would be made: mirrors and bundle files by their address, the makers' own hosts
//! (through a proxy that leads all of them here), and what `auto` does when these break in the middle.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Output;

use sampan_test_support::upstream::{Authority, Plan, Proxy, Upstream, Validity};

use super::{World, seen};

/// The makers' hosts.
const HOSTS: [&str; 5] = [
    "dl.k8s.io",
    "github.com",
    "download.docker.com",
    "cloud.debian.org",
    "snapshot.debian.org",
];

/// Beyond this a start needs a driver.
const START: [&str; 5] = ["start", "--driver", "fake", "--memory=3g", "--download-only"];

fn start(world: &World, source: &str) -> Output {
    let mut command = world.command(&START);
    command.args(["--source", source]);
    command.env("SAMPAN_ENABLE_FAKE_DRIVER", "1").output().unwrap()
}

/// The makers' hosts with a certificate of an authority that is trusted, behind a proxy.
struct Makers {
    upstream: Upstream,
    proxy: Proxy,
    ca_file: PathBuf,
}

impl Makers {
    fn new(world: &World, validity: Validity) -> Self {
        let authority = Authority::new();
        let upstream = Upstream::serve_tls(&world.mirror.0, authority.identity(&HOSTS, validity));
        let ca_file = world.dir.path().join("ca.pem");
        fs::write(&ca_file, authority.pem()).unwrap();
        Self {
            proxy: Proxy::to(upstream.address()),
            upstream,
            ca_file,
        }
    }

    /// A start that reaches them through a proxy. The host has what a fetch takes, and not what a build takes.
    fn start(&self, world: &World, source: &str, proxy: &str) -> (i32, String) {
        let tools = world.dir.path().join("tools");
        if !tools.exists() {
            fs::create_dir(&tools).unwrap();
            for tool in ["sh", "qemu-img"] {
                symlink(which(tool), tools.join(tool)).unwrap();
            }
        }
        let mut command = world.command(&START);
        command.args(["--source", source, "--ca-file"]).arg(&self.ca_file);
        let output = command
            .env("SAMPAN_ENABLE_FAKE_DRIVER", "1")
            .env("PATH", tools)
            .env("HTTPS_PROXY", proxy)
            .output()
            .unwrap();
        (output.status.code().unwrap(), seen(&output))
    }
}

fn which(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let mut places = std::env::split_paths(&path).map(|dir| dir.join(program));
    places.find(|path| path.is_file()).unwrap()
}

#[test]
fn a_start_takes_what_a_mirror_has() {
    let world = World::new("v1.36.3");
    let output = start(&world, world.mirror.0.to_str().unwrap());
    assert!(output.status.success(), "{}", seen(&output));
    let said = seen(&output);
    assert!(
        said.contains("fetching the bundle from the mirror /")
            && said.contains("everything that a start needs is here"),
        "{said}"
    );
    // It is upstream's bundle, wherever it came from.
    let said = seen(&start(&world, "upstream"));
    assert!(said.contains("taking the bundle that is here"), "{said}");

    let world = World::new("v1.36.3");
    let upstream = Upstream::serve(&world.mirror.0);
    let output = start(&world, &upstream.url());
    assert!(output.status.success(), "{}", seen(&output));
    let said = seen(&output);
    assert!(
        said.contains("fetching the bundle from the mirror http://127.0.0.1:"),
        "{said}"
    );
    let asked = upstream.served().len();
    let output = start(&world, &upstream.url());
    let said = seen(&output);
    assert!(said.contains("taking the bundle that is here"), "{said}");
    assert_eq!(upstream.served().len(), asked);
}

#[test]
fn a_start_takes_a_bundle_file_by_its_address_and_goes_on_after_a_cut() {
    let world = World::new("v1.36.3");
    world.bundle(&[]);
    let stick = world.dir.path().join("stick");
    fs::create_dir(&stick).unwrap();
    let file = stick.join("k8s.sampan");
    let export = world.command(&["bundle", "export"]).arg(&file).output().unwrap();
    assert!(export.status.success(), "{}", seen(&export));
    let upstream = Upstream::serve(&stick);
    let address = format!("{}/k8s.sampan", upstream.url());

    let there = World::new("v1.36.3");
    upstream.next("/k8s.sampan", Plan::cut(1000));
    let output = start(&there, &address);
    assert!(output.status.success(), "{}", seen(&output));
    let said = seen(&output);
    assert!(
        said.contains(&format!("downloading the bundle from {address}, as asked")),
        "{said}"
    );
    let ranges: Vec<_> = upstream
        .served_of("/k8s.sampan")
        .iter()
        .map(|served| served.request.header("range").map(str::to_owned))
        .collect();
    assert_eq!(ranges, [None, Some("bytes=1000-".to_owned())]);
    let verified = there.command(&["bundle", "verify"]).output().unwrap();
    assert!(verified.status.success(), "{}", seen(&verified));

    // Another file at the same address is not believed; one that is not there is told.
    let there = World::new("v1.36.3");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(stick.join("bad.sampan"), bytes).unwrap();
    for (name, status) in [("bad.sampan", 30), ("none.sampan", 45)] {
        let output = start(&there, &format!("{}/{name}", upstream.url()));
        assert_eq!(output.status.code(), Some(status), "{}", seen(&output));
        assert!(seen(&output).contains("hint: "), "{}", seen(&output));
    }
}

#[test]
fn auto_builds_when_upstream_breaks_in_the_middle() {
    let world = World::new("v1.36.3");
    let makers = Makers::new(&world, Validity::Good);
    let containerd = world
        .mirror
        .path("github.com/containerd/containerd/releases/download/v2.4.1/containerd-2.4.1-linux-ARCH.tar.gz");
    let containerd = format!("/{}", containerd.strip_prefix(&world.mirror.0).unwrap().display());
    makers.upstream.always(&containerd, Plan::status(403));
    let (status, said) = makers.start(&world, "auto", &makers.proxy.url());
    // The build says what it lacks on this host.
    assert_eq!(status, 30, "{said}");
    let lines = [
        "fetching the bundle from upstream, as there is none here",
        "https://github.com/containerd/containerd/releases/download/",
        "the server refuses (403",
        "building the bundle from source, as it could not be had from upstream",
        "missing on this host: go",
    ];
    for line in lines {
        assert!(said.contains(line), "no {line:?}: {said}");
    }
    assert!(!makers.upstream.served_of(&containerd).is_empty());
    // Who asked for upstream gets no build.
    let (status, said) = makers.start(&world, "upstream", &makers.proxy.url());
    assert_eq!(status, 47, "{said}");
    assert!(!said.contains("building"), "{said}");
}

#[test]
fn a_clock_that_is_off_is_told_by_a_start() {
    let world = World::new("v1.36.3");
    for (validity, what) in [
        (Validity::NotYet, "is not yet valid: it is 2"),
        (Validity::Expired, "has expired: it is 2"),
    ] {
        let makers = Makers::new(&world, validity);
        let (status, said) = makers.start(&world, "upstream", &makers.proxy.url());
        assert_eq!(status, 47, "{said}");
        assert!(
            said.contains(what) && said.contains("by this host's clock") && said.contains("timedatectl"),
            "{said}"
        );
        // Without a word of the user's it is a reason to build.
        let (_, said) = makers.start(&world, "auto", &makers.proxy.url());
        assert!(
            said.contains("building the bundle from source, as upstream does not answer"),
            "{said}"
        );
    }
}

#[test]
fn a_proxy_that_refuses_is_told_by_a_start() {
    let world = World::new("v1.36.3");
    let makers = Makers::new(&world, Validity::Good);
    let refusing = Proxy::refusing(403);
    let (status, said) = makers.start(&world, "upstream", &refusing.url());
    assert_eq!(status, 47, "{said}");
    assert!(
        said.contains(&format!("the proxy {}", refusing.url())) && said.contains("HTTPS_PROXY"),
        "{said}"
    );
    assert!(makers.upstream.served().is_empty());
}
