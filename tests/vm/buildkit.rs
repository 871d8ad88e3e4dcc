//! Story 2 with BuildKit: the user's buildx builds in the node's Docker, and pods run what it built.

use std::fs;

use crate::docker;
use crate::support::{PROFILE, World, eventually, shown, text};

/// The plugin, as `./dev` made it.
const PLUGIN: &str = "SAMPAN_TEST_BUILDX";

const IMAGE: &str = "story/kit:1";

/// `docker ARGS` with BuildKit, which must succeed: its standard output, and what it said on the way.
fn buildkit(world: &World, args: &[&str]) -> (String, String) {
    let output = docker::command(world, args)
        .env("DOCKER_BUILDKIT", "1")
        .output()
        .expect("docker is installed");
    assert!(
        output.status.success(),
        "docker {}: {}",
        args.join(" "),
        shown(&output)
    );
    (text(&output.stdout), text(&output.stderr))
}

/// Makes a pod of the image and waits until it says its words.
fn pod_says(world: &World, words: &str) {
    let pod = ["run", "kit", "--image", IMAGE, "--image-pull-policy=Never"];
    world.kubectl(&pod);
    eventually("the pod speaks", docker::PATIENCE, || {
        let output = world.kubectl_with(&["logs", "kit"], "");
        match text(&output.stdout) {
            said if said == words => Ok(()),
            _ => Err(shown(&output)),
        }
    });
    world.kubectl(&["delete", "pod", "kit", "--now"]);
}

/// Mounted caches, here-documents and stages; what is built is what pods run, an edit takes the rest from the cache, and
/// `sampan image` carries it as any other.
pub(crate) fn buildkit_builds_what_pods_run(world: &World) {
    let Some(plugin) = std::env::var_os(PLUGIN) else {
        println!("skipped: {PLUGIN} does not name a buildx; `./dev test buildkit` makes one");
        return;
    };
    let plugins = world.home().join("docker-config/cli-plugins");
    fs::create_dir_all(&plugins).unwrap();
    std::os::unix::fs::symlink(plugin, plugins.join("docker-buildx")).unwrap();
    let (builders, _) = buildkit(world, &["buildx", "ls"]);
    let default = builders.lines().find(|line| line.starts_with("default"));
    assert!(default.is_some_and(|line| line.contains("docker")), "{builders}");

    docker::have_base(world);
    let context = world.home().join("kit");
    fs::create_dir_all(&context).unwrap();
    fs::write(
        context.join("Dockerfile"),
        include_str!("files/buildkit/Dockerfile"),
    )
    .unwrap();
    let build = |words: &str, more: &[&str]| {
        fs::write(context.join("words"), words).unwrap();
        let args = [
            "build",
            "--progress",
            "plain",
            "-t",
            IMAGE,
            context.to_str().unwrap(),
        ];
        buildkit(world, &[&args[..], more].concat()).1
    };
    build("first", &[]);
    pod_says(world, "1 first");
    let said = build("second", &[]);
    assert!(said.contains("CACHED"), "all was done again:\n{said}");
    pod_says(world, "1 second");
    // Done again, it finds what it kept.
    build("third", &["--build-arg", "again=yes"]);
    pod_says(world, "2 third");

    let archive = world.home().join("kit.tar");
    let archive = archive.to_str().unwrap();
    let image = |args: &[&str]| world.ok(&[&["image", "-p", PROFILE], args].concat());
    image(&["save", IMAGE, archive]);
    image(&["rm", IMAGE]);
    image(&["load", archive]);
    pod_says(world, "2 third");
    image(&["rm", IMAGE]);
    buildkit(world, &["builder", "prune", "-af"]);
}
