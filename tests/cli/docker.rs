//! What points docker to a cluster, and what is told when nothing can.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::life::alone;
use crate::saving::START;
use crate::support::{TestEnvironment, is_root};

/// Evaluates what a line prints, as a user's shell does, and gives its exit status.
fn eval_status(env: &TestEnvironment, line: &str) -> i32 {
    let script = format!("eval $({} {line})", env!("CARGO_BIN_EXE_sampan"));
    let plain = env.command(&[]);
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", &script])
        .env_clear()
        .envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.output().unwrap().status.code().unwrap()
}

#[test]
fn without_a_running_cluster_eval_fails_and_says_why() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    insta::assert_snapshot!(env.run("docker-env"), @r#"
    status: 85
    --- stdout
    false exit code 85
    --- stderr
    X Exiting due to GUEST_NOT_FOUND: profile "sampan" not found
    hint: run `sampan start -p sampan` to make it, or `sampan profile list` to see what is there
    "#);
    assert_ne!(eval_status(&env, "docker-env"), 0);
    assert_ne!(eval_status(&env, "docker-env --nonsense"), 0);
    insta::assert_snapshot!(env.run("docker-env -o json"), @r#"
    status: 85
    --- stdout
    --- stderr
    X Exiting due to GUEST_NOT_FOUND: profile "sampan" not found
    hint: run `sampan start -p sampan` to make it, or `sampan profile list` to see what is there
    "#);
    env.ok(START);
    env.ok("stop");
    insta::assert_snapshot!(env.run("docker-env --shell fish"), @r#"
    status: 83
    --- stdout
    false exit code 83
    --- stderr
    X Exiting due to GUEST_NOT_RUNNING: cluster "sampan" is not running
    hint: run `sampan start -p sampan`
    "#);
    assert_eq!(env.status("image ls"), 83);
    // What is to be forgotten needs no cluster.
    assert_eq!(eval_status(&env, "docker-env --unset"), 0);
}

#[test]
fn there_is_no_podman() {
    let env = TestEnvironment::new();
    insta::assert_snapshot!(env.run("podman-env --shell bash"), @r#"
    status: 14
    --- stdout
    false exit code 14
    --- stderr
    X Exiting due to MK_USAGE: there is no Podman in sampan's machines, so podman-env has nothing to point to
    hint: use docker with `eval $(sampan docker-env)`; podman builds can be brought in: podman save IMAGE | sampan image load -
    "#);
    assert_ne!(eval_status(&env, "podman-env"), 0);
}

#[test]
fn pods_run_on_docker_where_the_bundle_has_a_cri_dockerd() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    let key = sampan::bundle::current_key().unwrap();
    let start = format!("{START} --container-runtime docker --source");
    insta::assert_snapshot!(env.run(&format!("{start} {key}")).replace(&key, "KEY"), @r#"
    status: 15
    --- stdout
    making cluster "sampan": fake, 2 CPUs, 3072 MiB memory, 20000 MiB disk, Kubernetes v1.36.3
    ✓ checking the driver (TIME)
    taking the bundle that is here, built from source
    --- stderr
    X Exiting due to NOT_FOUND_CRI_DOCKERD: pods run on Docker itself by way of a cri-dockerd, and bundle KEY has none
    hint: leave out --container-runtime: pods run on the containerd that the cluster's Docker runs on, so what `docker build` makes after `eval $(sampan docker-env)` is there for them
    hint: or take a bundle of upstream's releases, which can have one: --source upstream
    "#);
    assert!(env.run(&format!("{start} build")).starts_with("status: 15\n"));
    assert!(env.run("status").starts_with("status: 85\n"));

    env.add_component(&key, "cri-dockerd");
    env.ok(&format!("{start} {key}"));
    let runtime = |env: &TestEnvironment| {
        let list: Value = serde_json::from_str(&env.ok("profile list -o json")).unwrap();
        list["valid"][0]["Config"]["KubernetesConfig"]["ContainerRuntime"].clone()
    };
    assert_eq!(runtime(&env), "docker");
    let again = env.run("start --container-runtime containerd");
    assert!(
        again.starts_with("status: 0\n") && again.contains("is ignored: cluster \"sampan\" keeps docker;"),
        "{again}"
    );
    assert_eq!(runtime(&env), "docker");
    assert!(
        env.run("start -p other --container-runtime cri-o")
            .starts_with("status: 16\n")
    );
}

#[test]
fn a_running_cluster_is_pointed_to() {
    let _alone = alone();
    let mut env = TestEnvironment::with_bundle();
    env.ok(START);
    insta::assert_snapshot!(env.run("docker-env"), @r#"
    status: 0
    --- stdout
    export DOCKER_TLS_VERIFY="1"
    export DOCKER_HOST="tcp://ADDRESS:2376"
    export DOCKER_CERT_PATH="[DIR]/sampan/data/profiles/sampan/docker"
    export SAMPAN_ACTIVE_DOCKERD="sampan"

    # To point your shell to sampan's docker-daemon, run:
    # eval $(sampan -p sampan docker-env)
    --- stderr
    "#);
    assert_eq!(eval_status(&env, "docker-env"), 0);
    let told: Value = serde_json::from_str(&env.ok("docker-env --shell none -o json")).unwrap();
    let dir = std::path::Path::new(told["DOCKER_CERT_PATH"].as_str().unwrap());
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        assert!(fs::read_to_string(dir.join(name)).unwrap().contains("-----BEGIN"));
    }
    assert!(
        env.ok("docker-env -o yaml")
            .starts_with("DOCKER_TLS_VERIFY: '1'\n")
    );
    assert!(
        env.ok("docker-env --ssh-host --shell none")
            .starts_with("DOCKER_HOST=ssh://root@127.77.")
    );

    assert!(!env.ok("status").contains("docker-env"));
    env.set("SAMPAN_ACTIVE_DOCKERD", "sampan");
    assert!(env.ok("status").contains("\ndocker-env: in-use\n\n"));
    assert!(env.ok("status -o json").contains(r#""DockerEnv":"in-use""#));

    fs::remove_file(dir.join("key.pem")).unwrap();
    let seen = env.run("docker-env");
    assert!(
        seen.starts_with("status: 38\n--- stdout\nfalse exit code 38\n") && seen.contains("key.pem"),
        "{seen}"
    );
}

#[test]
fn certificates_that_cannot_be_read_are_told() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(START);
    let dir = env.layout().profile("sampan").docker();
    let key = dir.join("key.pem");

    // Somebody whom permissions stop, with files of theirs.
    if is_root() {
        own(&env.sampan_home(), 65534);
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o000)).unwrap();
    let output = env.unprivileged("docker-env");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    let seen = env.seen(&output);
    assert!(
        seen.starts_with("status: 38\n--- stdout\nfalse exit code 38\n")
            && seen.contains("hint: they are yours alone to read: `chmod 700"),
        "{seen}"
    );

    // Rubbish is found by who looks into it.
    let whole = fs::read(&key).unwrap();
    fs::write(&key, "rubbish").unwrap();
    let seen = env.run("image ls");
    assert!(
        seen.starts_with("status: 38")
            && seen.contains("certificates are damaged\n")
            && seen.contains("hint: run `sampan stop`"),
        "{seen}"
    );
    fs::remove_file(&key).unwrap();
    fs::create_dir(&key).unwrap();
    let seen = env.run("docker-env");
    assert!(
        seen.starts_with("status: 38") && seen.contains("it is no file"),
        "{seen}"
    );
    fs::remove_dir(&key).unwrap();
    fs::write(&key, whole).unwrap();
    env.ok("docker-env");
}

/// Gives a tree to a user.
fn own(path: &std::path::Path, user: u32) {
    std::os::unix::fs::lchown(path, Some(user), Some(user)).unwrap();
    if path.symlink_metadata().unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            own(&entry.unwrap().path(), user);
        }
    }
}

#[test]
fn no_docker_client_is_needed_but_to_take_images_from_it() {
    let _alone = alone();
    let mut env = TestEnvironment::with_bundle();
    env.ok(START);
    env.set("PATH", "/nonexistent");
    assert!(env.ok("docker-env").starts_with("export DOCKER_TLS_VERIFY"));
    env.ok("docker-env --context");
    insta::assert_snapshot!(env.run("image load app:1"), @r#"
    status: 30
    --- stdout
    --- stderr
    X Exiting due to HOST_TOOL: there is no docker on this host to take images from or give them to
    hint: name a file: `sampan image load FILE.tar`, `sampan image save NAME FILE.tar`; or have the cluster fetch it: `sampan image pull NAME`
    "#);
}

#[test]
fn a_docker_context_is_made_and_goes_with_the_cluster() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    assert_eq!(env.status("docker-env --context"), 85);
    env.ok(START);
    insta::assert_snapshot!(env.run("docker-env --context"), @r#"
    status: 0
    --- stdout
    made the Docker context "sampan": `docker --context sampan ps`, or `docker context use sampan` for all that follows
    --- stderr
    "#);
    let metas = env.home().join(".docker/contexts/meta");
    let count = || fs::read_dir(&metas).unwrap().count();
    assert_eq!(count(), 1);
    env.ok("docker-env --context");
    env.ok("docker-env --context --unset");
    assert_eq!(count(), 0);
    env.ok("docker-env --context");
    env.ok("delete");
    assert_eq!(count(), 0);
}

#[test]
fn images_that_cannot_be_are_refused() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    insta::assert_snapshot!(env.run("image rm ../x"), @r#"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: "../x" is not a name of an image
    hint: a name looks like app, app:1.2, or registry.example:5000/team/app:1.2
    "#);
    insta::assert_snapshot!(env.run("image ls"), @r#"
    status: 85
    --- stdout
    --- stderr
    X Exiting due to GUEST_NOT_FOUND: profile "sampan" not found
    hint: run `sampan start -p sampan` to make it, or `sampan profile list` to see what is there
    "#);
    env.ok(START);
    fs::write(env.cwd().join("x.tar"), "this is no archive").unwrap();
    fs::create_dir(env.cwd().join("empty")).unwrap();
    for line in [
        "image load x.tar",
        "image load none.tar",
        "image load empty",
        "image build none",
        "image build empty",
    ] {
        let output = env.output(line);
        assert!(
            matches!(output.status.code(), Some(35)),
            "{line}: {}",
            env.seen(&output)
        );
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("\nhint: "),
            "{line}"
        );
    }
}
