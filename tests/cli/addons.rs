//! Addons as a user sees them, on the test driver's cluster: everything that is applied is healthy at once there.

use sampan::provision::Api;
use serde_json::Value;

use crate::life::alone;
use crate::saving::START;
use crate::support::TestEnvironment;

/// The API of a running cluster.
pub(crate) fn api(env: &TestEnvironment) -> Api {
    let layout = env.layout();
    let profile = sampan::cluster::load(&layout, "sampan").unwrap();
    let pki = layout.profile("sampan").pki();
    let file = |name: &str| pki.join(name);
    Api::new(
        profile.api(),
        &file("ca.crt"),
        &file("admin.crt"),
        &file("admin.key"),
    )
    .unwrap()
}

/// Puts an addon of the user's own there.
fn own(env: &TestEnvironment, name: &str, toml: &str, yaml: &str) {
    let dir = env.layout().addons().join(name);
    env.write(&dir.join("addon.toml"), toml);
    env.write(&dir.join("objects.yaml"), yaml);
}

const MINE: &str = "description = 'Mine'\n[options]\nsize = '1'\n[open]\nnamespace = 'mine'\nservice = 'web'\n\
    [[ready]]\nkind = 'Deployment'\nnamespace = 'mine'\nname = 'web'\n\
    [[secret]]\nnamespace = 'mine'\nname = 'tls'\nnames = ['web']\nauthority = 'mine'\n";

const OBJECTS: &str = "
apiVersion: mine.example/v1
kind: Thing
metadata: {name: a, namespace: mine}
spec: {size: '{{ options.size }}', address: '{{ address }}', domain: '{{ domain }}'}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: mine}
spec: {replicas: 1, template: {metadata: {labels: {app: web}}}}
---
apiVersion: v1
kind: Namespace
metadata: {name: mine}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.mine.example}
spec: {group: mine.example, scope: Namespaced, names: {kind: Thing, plural: things}, versions: [{name: v1}]}
";

const THING: &str = "/apis/mine.example/v1/namespaces/mine/things/a";

fn status(env: &TestEnvironment, addon: &str) -> String {
    let list: Value = serde_json::from_str(&env.ok("addons list -o json")).unwrap();
    let row = &list[addon];
    format!(
        "{} {}",
        row["Status"].as_str().unwrap(),
        row["AtNextStart"].as_str().unwrap_or("-")
    )
}

#[test]
fn addons_are_listed_enabled_and_disabled() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(START);
    insta::assert_snapshot!(env.run("addons list"));
    insta::assert_snapshot!(env.run("addons list -o json"));
    insta::assert_snapshot!(env.run("addons enable metrics-server"), @r#"
    status: 0
    --- stdout
    ✓ enabling the addon (TIME)
    the addon metrics-server is enabled
    --- stderr
    "#);
    assert_eq!(status(&env, "metrics-server"), "enabled -");
    let api = api(&env);
    let path = "/apis/apps/v1/namespaces/kube-system/deployments/metrics-server";
    let deployment = api.get(path).unwrap();
    assert_eq!(
        deployment["metadata"]["labels"]["sampan.dev/addon"],
        "metrics-server"
    );
    let secret = api
        .get("/api/v1/namespaces/kube-system/secrets/metrics-server-tls")
        .unwrap();
    env.ok("addons enable metrics-server");
    let again = api
        .get("/api/v1/namespaces/kube-system/secrets/metrics-server-tls")
        .unwrap();
    assert_eq!(secret["data"], again["data"], "good certificates stay");
    insta::assert_snapshot!(env.run("addons disable metrics-server"), @r#"
    status: 0
    --- stdout
    ✓ disabling the addon (TIME)
    the addon metrics-server is disabled
    --- stderr
    "#);
    assert!(api.find(path).unwrap().is_none());
    assert!(
        api.find("/api/v1/namespaces/kube-system/secrets/metrics-server-tls")
            .unwrap()
            .is_none()
    );
    assert_eq!(status(&env, "metrics-server"), "disabled -");
    assert_eq!(env.status("addons disable metrics-server"), 0);
}

#[test]
fn what_is_no_addon_is_told_with_the_nearest_name() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    assert_eq!(env.status("addons list"), 85);
    assert_eq!(env.status("addons enable ingress"), 85);
    env.ok(START);
    insta::assert_snapshot!(env.run("addons enable ingres"), @r#"
    status: 10
    --- stdout
    --- stderr
    X Exiting due to MK_ADDON_ENABLE: there is no addon "ingres"
    hint: did you mean `ingress`?
    hint: `sampan addons list` tells which there are
    "#);
    insta::assert_snapshot!(env.run("addons disable nonsense"), @r#"
    status: 10
    --- stdout
    --- stderr
    X Exiting due to MK_ADDON_ENABLE: there is no addon "nonsense"
    hint: `sampan addons list` tells which there are
    "#);
    insta::assert_snapshot!(env.run("addons images ingres"), @r#"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: there is no addon "ingres"
    hint: did you mean `ingress`?
    hint: `sampan addons list` tells which there are
    "#);
    insta::assert_snapshot!(env.run("addons enable dashboard"), @r#"
    status: 16
    --- stdout
    --- stderr
    X Exiting due to MK_UNIMPLEMENTED: the addon dashboard is not there yet
    hint: see the cluster with `kubectl get all -A` meanwhile
    "#);
    insta::assert_snapshot!(env.run("addons open metrics-server"), @r#"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: the addon metrics-server has nothing to open
    hint: `sampan service list` tells what is published
    "#);
    insta::assert_snapshot!(env.run("addons configure metrics-server metric-resolutoin=30s"), @r#"
    status: 14
    --- stdout
    ✗ configuring the addon (TIME)
    --- stderr
    X Exiting due to MK_USAGE: the addon metrics-server has no option `metric-resolutoin`
    hint: did you mean `metric-resolution`?
    "#);
    insta::assert_snapshot!(env.run("addons configure registry size=1"), @r#"
    status: 14
    --- stdout
    ✗ configuring the addon (TIME)
    --- stderr
    X Exiting due to MK_USAGE: the addon registry has nothing to configure
    hint: `sampan addons enable` is all it needs
    "#);
    insta::assert_snapshot!(env.run("start --addons ingres"), @r#"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: there is no addon "ingres"
    hint: did you mean `ingress`?
    hint: `sampan addons list` tells which there are
    "#);
    insta::assert_snapshot!(env.run("addons images ingress"), @r#"
    status: 0
    --- stdout
    ┌────────────┬───────────────────────────────────────────────┐
    │ IMAGE NAME ┆ DEFAULT IMAGE                                 │
    ╞════════════╪═══════════════════════════════════════════════╡
    │ contour    ┆ ghcr.io/projectcontour/contour:v1.33.8        │
    │ envoy      ┆ docker.io/envoyproxy/envoy:distroless-v1.40.0 │
    └────────────┴───────────────────────────────────────────────┘
    --- stderr
    "#);
    env.ok("pause");
    insta::assert_snapshot!(env.run("addons enable ingress"), @r#"
    status: 11
    --- stdout
    --- stderr
    X Exiting due to MK_ADDON_ENABLE_PAUSED: cluster "sampan" is paused
    hint: run `sampan unpause -p sampan` first
    "#);
    env.ok("unpause");
}

#[test]
fn an_addon_of_ones_own_is_rendered_configured_and_leaves_nothing() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    own(&env, "mine", MINE, OBJECTS);
    own(&env, "ingress", MINE, OBJECTS);
    env.ok(START);
    let seen = env.run("addons list");
    assert!(
        seen.contains("Mine (yours)") && seen.contains("sampan has an addon ingress of its own"),
        "{seen}"
    );
    env.ok("addons enable mine");
    let api = api(&env);
    let address = env.ok("ip");
    let spec = api.get(THING).unwrap()["spec"].clone();
    assert_eq!(spec["size"], "1");
    assert_eq!(spec["address"], address.trim());
    assert_eq!(spec["domain"], "cluster.local");
    let web = "/apis/apps/v1/namespaces/mine/deployments/web";
    let certificates =
        |api: &Api| api.get(web).unwrap()["spec"]["template"]["metadata"]["annotations"].clone();
    let first = certificates(&api);
    assert!(first["sampan.dev/certificates"].is_string(), "{first}");
    api.delete("/api/v1/namespaces/mine/secrets/tls").unwrap();

    env.ok("addons configure mine size=7");
    assert_eq!(env.ok("addons configure mine"), "size=7\n");
    assert_eq!(api.get(THING).unwrap()["spec"]["size"], "7");
    assert_ne!(
        certificates(&api),
        first,
        "pods that know the old certificate go on"
    );

    let more = serde_json::json!({
        "apiVersion": "mine.example/v1", "kind": "Thing",
        "metadata": { "name": "more", "namespace": "mine", "labels": { "sampan.dev/addon": "mine" } },
    });
    api.apply_at(&THING.replace("/a", "/more"), &more).unwrap();
    env.ok("addons disable mine");
    for gone in ["/api/v1/namespaces/mine", THING, web] {
        assert!(api.find(gone).unwrap().is_none(), "{gone}");
    }
    // What was configured is still known when it is enabled again.
    env.ok("addons enable mine");
    assert_eq!(api.get(THING).unwrap()["spec"]["size"], "7");

    own(&env, "broken", "description = 'x'", "kind: {{ nonsense }}");
    let seen = env.run("addons enable broken");
    assert!(
        seen.starts_with("status: 38\n") && seen.contains("objects.yaml"),
        "{seen}"
    );
    own(
        &env,
        "strange",
        "description = 'x'",
        "{apiVersion: no.such/v1, kind: Thing, metadata: {name: a}}",
    );
    let seen = env.run("addons enable strange");
    assert!(
        seen.contains("the cluster has no kind Thing in no.such/v1"),
        "{seen}"
    );
}

#[test]
fn a_stopped_cluster_changes_when_it_starts() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    own(&env, "mine", MINE, OBJECTS);
    env.ok(&format!("{START} --addons registry,mine"));
    assert_eq!(status(&env, "registry"), "enabled -");
    env.ok("stop");
    insta::assert_snapshot!(env.run("addons enable metrics-server"), @r#"
    status: 0
    --- stdout
    the addon metrics-server will be enabled when cluster "sampan" starts: it is stopped now
    --- stderr
    "#);
    env.ok("addons disable registry");
    env.ok("addons configure mine size=3");
    assert_eq!(status(&env, "metrics-server"), "disabled enabled");
    assert_eq!(status(&env, "registry"), "enabled disabled");
    insta::assert_snapshot!(env.run("start"), @r#"
    status: 0
    --- stdout
    ✓ checking the driver (TIME)
    ✓ setting up the profile (TIME)
    ✓ making keys and certificates (TIME)
    using fake 0.1.0
    ✓ starting the machine (TIME)
    ✓ waiting for the machine (TIME)
    ✓ setting the clock (TIME)
    ✓ waiting until the cluster is healthy (TIME)
    ✓ enabling addons (TIME)
    cluster "sampan" is ready after TIME
    kubectl uses "sampan" now: kubectl get nodes
    --- stderr
    "#);
    assert_eq!(status(&env, "metrics-server"), "enabled -");
    assert_eq!(status(&env, "registry"), "disabled -");
    assert_eq!(api(&env).get(THING).unwrap()["spec"]["size"], "3");
    // Nothing is pending any more.
    let seen = env.run("start");
    assert!(!seen.contains("enabling addons"), "{seen}");
}

#[test]
fn a_fork_has_the_addons_of_the_first_for_its_own_address() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    own(&env, "mine", MINE, OBJECTS);
    env.ok(START);
    env.ok("addons enable mine");
    env.ok("fork sampan twin");
    let list: Value = serde_json::from_str(&env.ok("addons list -p twin -o json")).unwrap();
    assert_eq!(list["mine"]["Status"], "enabled");
    let layout = env.layout();
    let profile = sampan::cluster::load(&layout, "twin").unwrap();
    let pki = layout.profile("twin").pki();
    let file = |name: &str| pki.join(name);
    let api = Api::new(
        profile.api(),
        &file("ca.crt"),
        &file("admin.crt"),
        &file("admin.key"),
    )
    .unwrap();
    assert_eq!(
        api.get(THING).unwrap()["spec"]["address"],
        profile.address.to_string()
    );
}

#[test]
fn storage_that_was_disabled_stays_so_when_the_cluster_boots() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(START);
    assert_eq!(status(&env, "default-storageclass"), "enabled -");
    env.ok("addons disable storage-provisioner");
    env.ok("addons disable default-storageclass");
    env.ok("stop --shutdown");
    env.ok("start");
    assert_eq!(status(&env, "default-storageclass"), "disabled -");
    let class = "/apis/storage.k8s.io/v1/storageclasses/standard";
    assert!(api(&env).find(class).unwrap().is_none());
    env.ok("addons enable default-storageclass");
    assert!(api(&env).find(class).unwrap().is_some());
}
