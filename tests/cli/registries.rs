//! Registries of a cluster: named, kept, changed while it runs, taken away, and no part of ready snapshots.

use serde_json::{Value, json};

use crate::life::alone;
use crate::support::TestEnvironment;

/// What the guest's Docker reads: registries without TLS, and mirrors.
fn docker(env: &TestEnvironment, profile: &str) -> (Value, Value) {
    let text = env.ok(&format!("ssh -p {profile} -- cat /etc/docker/daemon.json"));
    let mut config: Value = serde_json::from_str(&text).unwrap();
    (
        config["insecure-registries"].take(),
        config["registry-mirrors"].take(),
    )
}

/// What the guest's containerd reads about a registry.
fn containerd(env: &TestEnvironment, profile: &str, registry: &str) -> String {
    let file = format!("/etc/containerd/certs.d/{registry}/hosts.toml");
    env.ok(&format!("ssh -p {profile} -- cat {file}"))
}

#[test]
fn registries_are_kept_changed_and_taken_away_and_share_the_ready_snapshot() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok("start --driver fake --memory 3g -p plain");
    assert_eq!(docker(&env, "plain"), (json!(["10.96.0.0/12"]), json!([])));

    let start = "start --driver fake --memory 3g -p one --insecure-registry r.example:5000 --insecure-registry s.example \
                 --registry-mirror https://m.example/";
    let said = env.ok(start);
    assert!(
        said.contains(
            "registries without TLS: r.example:5000, s.example; mirrors of Docker Hub: https://m.example\n"
        ),
        "{said}"
    );
    assert!(!said.contains("making the ready snapshot"), "{said}");
    let both = (
        json!(["10.96.0.0/12", "r.example:5000", "s.example"]),
        json!(["https://m.example"]),
    );
    assert_eq!(docker(&env, "one"), both);
    assert!(containerd(&env, "one", "r.example:5000").contains("server = \"http://r.example:5000\""));
    assert!(containerd(&env, "one", "docker.io").contains("[host.\"https://m.example\"]"));

    // Nothing said: nothing changes, also across a boot.
    assert!(env.ok("start -p one").contains("is running already"));
    env.ok("stop -p one --shutdown");
    assert!(!env.ok("start -p one").contains("registries without TLS"));
    assert_eq!(docker(&env, "one"), both);
    let list: Value = serde_json::from_str(&env.ok("profile list -o json")).unwrap();
    let config = &list["valid"][0]["Config"];
    assert_eq!(
        (&config["InsecureRegistry"], &config["RegistryMirror"]),
        (
            &json!(["r.example:5000", "s.example"]),
            &json!(["https://m.example"])
        )
    );

    // While it runs; what is not named stays.
    let said = env.ok("start -p one --insecure-registry t.example:80");
    assert!(
        said.contains("registries without TLS: t.example:80; mirrors of Docker Hub: https://m.example\n")
            && said.contains("configuring registries"),
        "{said}"
    );
    assert_eq!(
        docker(&env, "one"),
        (
            json!(["10.96.0.0/12", "t.example:80"]),
            json!(["https://m.example"])
        )
    );
    assert!(env.ok("start -p one").contains("is running already"));

    // A fork has them, and goes its own way.
    env.ok("fork one two");
    assert!(containerd(&env, "two", "t.example:80").contains("skip_verify = true"));
    env.ok("start -p two --registry-mirror=");
    assert_eq!(
        docker(&env, "two"),
        (json!(["10.96.0.0/12", "t.example:80"]), json!([]))
    );
    assert_eq!(docker(&env, "one").1, json!(["https://m.example"]));

    // While it is saved.
    env.ok("stop -p one");
    let said = env.ok("start -p one --insecure-registry= --registry-mirror=");
    assert!(
        said.contains("registries without TLS: none; mirrors of Docker Hub: none"),
        "{said}"
    );
    assert_eq!(docker(&env, "one"), (json!(["10.96.0.0/12"]), json!([])));
    assert!(env.ok("start -p one").contains("is running already"));
}

#[test]
fn a_snapshot_brings_the_registries_of_its_moment_back() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok("start --driver fake --memory 3g --insecure-registry r.example:5000");
    env.ok("snapshot save before");
    env.ok("start --insecure-registry=");
    env.ok("snapshot restore before");
    let there = json!(["10.96.0.0/12", "r.example:5000"]);
    assert_eq!(docker(&env, "sampan").0, there);
    assert!(env.ok("start").contains("is running already"));
    assert_eq!(docker(&env, "sampan").0, there);
}

#[test]
fn settings_count_for_new_clusters_and_flags_for_all() {
    let _alone = alone();
    let mut env = TestEnvironment::with_bundle();
    env.ok("config set insecure-registry r.example:5000,10.1.0.0/16");
    env.set("SAMPAN_REGISTRY_MIRROR", "http://10.1.2.3:5000");
    insta::assert_snapshot!(env.run("start --driver fake --memory 3g --dry-run"), @r#"
    status: 0
    --- stdout
    making cluster "sampan": fake, 2 CPUs, 3072 MiB memory, 20000 MiB disk, Kubernetes v1.36.3
    registries without TLS: r.example:5000, 10.1.0.0/16; mirrors of Docker Hub: http://10.1.2.3:5000
    driver: fake 0.1.0
    dry run: everything is fine, nothing was changed
    --- stderr
    ! registries in 10.1.0.0/16 are taken without TLS by Docker only: containerd, which pulls for pods, knows registries by name; name them as well: --insecure-registry HOST:PORT
    "#);
    assert!(!env.layout().profile("sampan").dir.exists());
    env.ok("start --driver fake --memory 3g");
    let there = (
        json!(["10.96.0.0/12", "r.example:5000", "10.1.0.0/16"]),
        json!(["http://10.1.2.3:5000"]),
    );
    assert_eq!(docker(&env, "sampan"), there);
    insta::assert_snapshot!(env.run("config set insecure-registry s.example"), @r"
    status: 0
    --- stdout
    --- stderr
    ! this counts for new clusters: one that exists changes with `sampan start --insecure-registry s.example`
    ");
    env.set("SAMPAN_REGISTRY_MIRROR", "http://10.1.2.4:5000");
    assert!(env.ok("start").contains("is running already"));
    assert_eq!(docker(&env, "sampan"), there);
    insta::assert_snapshot!(env.run("start --dry-run --registry-mirror http://localhost:5000"), @r#"
    status: 0
    --- stdout
    registries without TLS: r.example:5000, 10.1.0.0/16; mirrors of Docker Hub: http://localhost:5000
    driver: fake 0.1.0
    dry run: everything is fine, nothing was changed
    --- stderr
    ! http://localhost:5000 is asked for inside the node; this host is host.sampan.internal there
    "#);
    assert_eq!(docker(&env, "sampan"), there);
}

#[test]
fn what_docker_would_refuse_is_refused_first() {
    let env = TestEnvironment::new();
    insta::assert_snapshot!(env.run("start --insecure-registry http://r.example:5000"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: `--insecure-registry http://r.example:5000` is an address, not a registry
    hint: write it without the scheme: --insecure-registry r.example:5000
    ");
    insta::assert_snapshot!(env.run("start --registry-mirror m.example"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: `--registry-mirror m.example` has `m.example`, which is no address
    hint: write it as https://mirror.example
    ");
    insta::assert_snapshot!(env.run("start --registry-mirror https://me:secret@m.example"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: `--registry-mirror https://me:secret@m.example` has a login in it, which Docker refuses
    hint: a mirror is asked without one
    ");
    insta::assert_snapshot!(env.run("start --image-repository auto"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: `--image-repository auto` names no repository, and sampan does not look for one
    hint: name one, as registry.example/k8s
    ");
    insta::assert_snapshot!(env.run("bundle fetch --image-repository r.example/k8s:v1"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: `--image-repository r.example/k8s:v1` names an image and not a repository
    hint: leave out what stands behind the colon
    ");
    insta::assert_snapshot!(env.run("start --binary-mirror m.example"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: `--binary-mirror m.example` has `m.example`, which is no address
    hint: write it as https://mirror.example
    ");
    insta::assert_snapshot!(env.run("config set insecure-registry r.example/app"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: `insecure-registry r.example/app` has `r.example/app`, which is neither a registry nor a network
    hint: write HOST, HOST:PORT, or a network as 10.0.0.0/8
    ");
    assert!(!env.layout().profiles().exists());
}

#[test]
fn where_nothing_is_fetched_other_places_change_nothing() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    let there = "--image-repository r.example/k8s --binary-mirror https://m.example/release";
    let said = env.ok(&format!("start --driver fake --memory 3g {there}"));
    assert!(
        said.contains(
            "taking the bundle that is here, built from source; nothing is fetched, so --image-repository and --binary-mirror change \
             nothing\n"
        ),
        "{said}"
    );
    insta::assert_snapshot!(env.run("start --image-repository r.example/k8s"), @r#"
    status: 0
    --- stdout
    cluster "sampan" is running already
    kubectl uses "sampan" now: kubectl get nodes
    --- stderr
    ! `--image-repository r.example/k8s` is ignored: cluster "sampan" keeps the bundle that it was made from; delete it first to change that
    "#);
}
