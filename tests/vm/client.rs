//! `docker-env` as it is used: evaluated by a shell, for the docker client that the user has.

use std::process::{Command, Output};

use crate::support::{PROFILE, World, shown, text};

/// Runs a script in bash, where `$SAMPAN` is the program.
fn bash(world: &World, script: &str) -> Output {
    let mut bash = Command::new("bash");
    let plain = world.sampan(&[]);
    bash.args(["-euc", script])
        .env("SAMPAN", plain.get_program())
        .env("DOCKER_CONFIG", world.home().join("docker-config"));
    for name in [
        "DOCKER_CONTEXT",
        "DOCKER_HOST",
        "DOCKER_TLS_VERIFY",
        "DOCKER_CERT_PATH",
    ] {
        bash.env_remove(name);
    }
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => bash.env(name, value),
            None => bash.env_remove(name),
        };
    }
    bash.output().expect("bash is installed")
}

/// The variables lead docker to the node, and what was in them before comes back.
pub(crate) fn eval_points_docker_and_unset_points_back(world: &World) {
    let script = r#"
        export DOCKER_HOST=tcp://before.example:1 DOCKER_CERT_PATH=/before
        eval "$("$SAMPAN" docker-env -p first)"
        docker version --format '{{.Server.Os}}'
        echo "$SAMPAN_ACTIVE_DOCKERD $DOCKER_TLS_VERIFY"
        "$SAMPAN" status -p first | grep docker-env
        eval "$("$SAMPAN" docker-env -p first --unset)"
        echo "$DOCKER_HOST $DOCKER_CERT_PATH ${DOCKER_TLS_VERIFY-none} ${SAMPAN_ACTIVE_DOCKERD-none}"
        env | grep SAMPAN_EXISTING || true
    "#;
    let output = bash(world, script);
    assert_eq!(
        text(&output.stdout).lines().collect::<Vec<_>>(),
        [
            "linux",
            "first 1",
            "docker-env: in-use",
            "tcp://before.example:1 /before none none"
        ],
        "{}",
        shown(&output)
    );
    assert!(output.status.success(), "{}", shown(&output));
    let absent = bash(world, r#"eval "$("$SAMPAN" docker-env -p nobody)"; echo went on"#);
    assert!(
        !absent.status.success() && text(&absent.stdout).is_empty(),
        "{}",
        shown(&absent)
    );
}

/// Makes a volume in a profile's Docker, as `docker-env` leads to it, and gives the names of all that it has.
fn with_volume(world: &World, profile: &str, volume: &str) -> String {
    let script = format!(
        r#"eval "$("$SAMPAN" docker-env -p {profile})"; docker volume create {volume} >/dev/null; docker volume ls -q"#
    );
    let output = bash(world, &script);
    assert!(output.status.success(), "{profile}: {}", shown(&output));
    text(&output.stdout)
}

/// A machine that went back, or was forked, is reached by `docker-env` as any other.
pub(crate) fn leads_to_a_docker(world: &World, profile: &str) {
    assert_eq!(with_volume(world, profile, profile), profile);
}

/// What is done in a fork's Docker is not done in that which it was forked of, nor the other way round.
pub(crate) fn leads_to_its_own_docker(world: &World, fork: &str) {
    let both = |own: &str| format!("{own}\nshared");
    let names = |text: String| {
        let mut names: Vec<_> = text
            .lines()
            .filter(|name| *name != PROFILE)
            .map(str::to_owned)
            .collect();
        names.sort_unstable();
        names.join("\n")
    };
    assert_eq!(names(with_volume(world, PROFILE, "shared")), "shared");
    with_volume(world, fork, "shared");
    assert_eq!(names(with_volume(world, fork, "forked")), both("forked"));
    assert_eq!(names(with_volume(world, PROFILE, "shared")), "shared");
}
