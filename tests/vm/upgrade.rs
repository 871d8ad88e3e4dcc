//! A cluster gets the next version of Kubernetes, keeps all that is in it, and can be taken back.

use std::path::PathBuf;
use std::time::Instant;

use sampan::bundle::{self, Source};

use crate::life::everything_is_there;
use crate::support::{NODE, PROFILE, World, shown, text};
use crate::{cluster, docker};

const IMAGE: &str = "story/upgraded:1";

/// The version that kubelet of a cluster's node says.
fn version(world: &World, context: &str) -> String {
    let version = "jsonpath={.items[*].status.nodeInfo.kubeletVersion}";
    world.kubectl(&["--context", context, "get", "nodes", "-o", version])
}

/// The words of a component's command line.
fn arguments(world: &World, component: &str) -> String {
    let label = format!("component={component}");
    let words = "jsonpath={.items[*].spec.containers[*].command}";
    world.kubectl(&["-n", "kube-system", "get", "pods", "-l", &label, "-o", words])
}

/// `start` with a version that the cluster cannot go to.
fn is_refused(world: &World, version: &str) {
    let start = world
        .sampan(&["start", "-p", PROFILE, "--kubernetes-version", version])
        .output()
        .unwrap();
    assert_eq!(start.status.code(), Some(106), "{version}: {}", shown(&start));
}

/// etcd, a volume and what Docker built survive; flags, proxy and DNS are as before; forks are of the new version; the snapshot
/// brings the old one back.
pub(crate) fn an_upgrade_keeps_everything(world: &World) {
    let Some(dir) = std::env::var_os("SAMPAN_TEST_UPGRADE").map(PathBuf::from) else {
        println!("skipped: `./dev test upgrade` makes the bundle for it");
        return;
    };
    let new = bundle::version_of(&Source::Dir(dir.clone()), "")
        .unwrap()
        .unwrap();
    let old = version(world, PROFILE);
    assert_ne!(new, old);
    cluster::a_pod_resolves_services_and_a_claim_binds(world);
    docker::build(world, IMAGE, "built before");
    let components = [
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
    ];
    let flags = components.map(|component| arguments(world, component));
    is_refused(world, "v1.99.0");

    let began = Instant::now();
    let dir = dir.to_string_lossy();
    let upgrade = [
        "start",
        "-p",
        PROFILE,
        "--source",
        &dir,
        "--kubernetes-version",
        &new,
    ];
    let said = world.ok(&upgrade);
    println!(
        "{said}\n    upgraded after {:.0} s",
        began.elapsed().as_secs_f64()
    );
    assert!(
        said.contains(&format!("upgraded from Kubernetes {old} to {new}")),
        "{said}"
    );
    assert_eq!(version(world, PROFILE), new);
    everything_is_there(world);
    assert_eq!(
        docker::docker(world, &["run", "--rm", IMAGE, "cat", "/words"]),
        "built before"
    );
    assert_eq!(components.map(|component| arguments(world, component)), flags);
    let images = "jsonpath={.items[*].spec.containers[*].image}";
    let images = world.kubectl(&["-n", "kube-system", "get", "pods", "-o", images]);
    assert_eq!(images.matches(&format!(":{new}")).count(), 4, "{images}");
    assert!(!images.contains(&format!(":{old}")), "{images}");
    let server = world.kubectl(&["get", "--raw", "/version"]);
    assert!(server.contains(&format!("\"gitVersion\": \"{new}\"")), "{server}");

    assert!(world.ok(&["start", "-p", PROFILE]).contains("running already"));
    is_refused(world, &old);
    let snapshot = format!("before-{new}");
    world.ok(&["fork", PROFILE, "twin"]);
    assert_eq!(version(world, "twin"), new);
    world.ok(&["delete", "-p", "twin"]);
    world.ok(&["stop", "-p", PROFILE, "--shutdown"]);
    world.ok(&["start", "-p", PROFILE]);
    everything_is_there(world);

    world.ok(&["snapshot", "restore", "-p", PROFILE, &snapshot]);
    assert_eq!(version(world, PROFILE), old);
    everything_is_there(world);
    let mounted = world.ok(&["ssh", "-p", PROFILE, "--", "kubelet --version"]);
    assert_eq!(text(mounted.as_bytes()), format!("Kubernetes {old}"));
    let node = world.kubectl(&["get", "nodes", "-o", "name"]);
    assert_eq!(node, format!("node/{NODE}"));

    // Other clusters of this user's are not to find it.
    world.ok(&["snapshot", "delete", "-p", PROFILE, &snapshot]);
    let key = bundle_of(world, &new);
    world.ok(&["bundle", "remove", &key]);
}

/// The key of the bundle with a version.
fn bundle_of(world: &World, version: &str) -> String {
    let list: serde_json::Value = serde_json::from_str(&world.ok(&["bundle", "list", "-o", "json"])).unwrap();
    let mut bundles = list.as_array().unwrap().iter();
    let bundle = bundles.find(|bundle| bundle["kubernetes"] == version);
    bundle.unwrap_or_else(|| panic!("{list}"))["key"]
        .as_str()
        .unwrap()
        .to_owned()
}
