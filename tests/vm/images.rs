//! Story 6: images come and go by `sampan image`, and only what the node lacks is sent.

use std::fs;

use crate::support::{PROFILE, World, shown, text};

const NAME: &str = "docker.io/story/verbs:1";

fn image(world: &World, args: &[&str]) -> String {
    world.ok(&[&["image", "-p", PROFILE], args].concat())
}

fn is_listed(world: &World) -> bool {
    image(world, &["ls"]).lines().any(|line| line == NAME)
}

/// Built, saved, removed, loaded again; a second time nothing is sent, and a damaged archive leaves nothing behind.
pub(crate) fn images_come_and_go_and_only_what_lacks_is_sent(world: &World) {
    let context = world.home().join("verbs");
    fs::create_dir_all(&context).unwrap();
    let large: Vec<u8> = (0..2_000_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    fs::write(context.join("large"), large).unwrap();
    fs::write(context.join("small"), "one").unwrap();
    fs::write(context.join("secret"), "not for the image").unwrap();
    fs::write(context.join(".dockerignore"), "secret\n").unwrap();
    fs::write(
        context.join("Dockerfile"),
        "FROM scratch\nCOPY large /large\nCOPY s* /\n",
    )
    .unwrap();
    let dir = context.to_str().unwrap();
    image(world, &["build", "-t", "story/verbs:1", dir]);
    assert!(is_listed(world), "{}", image(world, &["ls"]));

    let archive = world.home().join("verbs.tar");
    let archive = archive.to_str().unwrap();
    image(world, &["save", "story/verbs:1", archive]);
    let listed = std::process::Command::new("tar")
        .args(["-xOf", archive, "manifest.json"])
        .output()
        .unwrap();
    assert!(
        text(&listed.stdout).contains("story/verbs:1"),
        "{}",
        shown(&listed)
    );
    image(world, &["rm", "story/verbs:1"]);
    assert!(!is_listed(world), "removed, and still there");

    let whole = fs::read(archive).unwrap();
    let cut = world.home().join("cut.tar");
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let refused = world
        .sampan(&["image", "load", "-p", PROFILE, cut.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(
        !refused.status.success() && text(&refused.stderr).contains("hint:"),
        "{}",
        shown(&refused)
    );
    assert!(!is_listed(world), "half of an image was loaded");

    let loaded = image(world, &["load", archive]);
    assert!(loaded.contains("bytes sent"), "{loaded}");
    assert!(is_listed(world), "{}", image(world, &["ls"]));
    let again = image(world, &["load", archive]);
    assert!(again.contains("nothing was sent"), "{again}");
    let own = world.ok(&["ssh", "-p", PROFILE, "--", "ctr -n k8s.io images ls -q"]);
    assert!(own.contains(NAME), "pods cannot be made of it:\n{own}");
    image(world, &["rm", "story/verbs:1"]);
}
