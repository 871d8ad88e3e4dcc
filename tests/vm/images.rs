//! Story 6: images come and go by `sampan image`, and only what the node lacks is sent.

use std::fs;
use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use crate::support::{PROFILE, World, eventually, shown, text};

const NAME: &str = "docker.io/story/verbs:1";
const FILLING: &str = "story/filling:1";

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

    fs::write(context.join("small"), "two").unwrap();
    image(world, &["build", "-t", "story/verbs:2", dir]);
    image(world, &["save", "story/verbs:2", archive]);
    image(world, &["rm", "story/verbs:2"]);
    assert!(fs::metadata(archive).unwrap().len() > 4_000_000);
    let before = received(world);
    let loaded = image(world, &["load", archive]);
    let bytes = received(world) - before;
    assert!(
        bytes < 200_000,
        "{bytes} bytes came, though the node lacked one small layer: {loaded}"
    );
    image(world, &["rm", "story/verbs:1", "story/verbs:2"]);
}

/// Bytes that came into the node by its network since it booted.
fn received(world: &World) -> u64 {
    let script = "cat /sys/class/net/e*/statistics/rx_bytes";
    let all = world.ok(&["ssh", "-p", PROFILE, "--", script]);
    all.lines().map(|line| line.parse::<u64>().unwrap()).sum()
}

/// An archive with one layer of so many MiB that nothing makes smaller; the image is not in the node any more.
fn archive_of(world: &World, mib: usize) -> String {
    let context = world.home().join("filling");
    fs::create_dir_all(&context).unwrap();
    let mut random = Vec::new();
    let source = fs::File::open("/dev/urandom").unwrap();
    source.take((mib << 20) as u64).read_to_end(&mut random).unwrap();
    fs::write(context.join("random"), random).unwrap();
    fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY random /random\n").unwrap();
    let archive = world.home().join("filling.tar");
    let archive = archive.to_str().unwrap();
    image(world, &["build", "-t", FILLING, context.to_str().unwrap()]);
    image(world, &["save", FILLING, archive]);
    image(world, &["rm", FILLING]);
    eventually("pods have forgotten it", Duration::from_secs(60), || {
        let names = node(world, "ctr -n k8s.io images ls -q");
        (!names.contains(FILLING)).then_some(()).ok_or(names)
    });
    collect_garbage(world);
    archive.to_owned()
}

/// A word of a shell's.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// What no image needs goes at once, not some time.
fn collect_garbage(world: &World) {
    node(
        world,
        "ctr -n moby leases create --id story && ctr -n moby leases rm --sync story",
    );
}

fn node(world: &World, script: &str) -> String {
    world.ok(&["ssh", "-p", PROFILE, "--", script])
}

/// A node's disk that is too full, before or while it takes an image, is told, and nothing half-loaded is left.
pub(crate) fn a_full_disk_leaves_no_half_of_an_image(world: &World) {
    let archive = archive_of(world, 16);
    let load = || {
        world
            .sampan(&["image", "load", "-p", PROFILE, &archive])
            .output()
            .unwrap()
    };
    let fill = |mib, when| {
        let script = include_str!("files/fill");
        world.sampan(&[
            "ssh",
            "-p",
            PROFILE,
            "--",
            "sh",
            "-c",
            &quoted(script),
            "fill",
            mib,
            when,
        ])
    };
    // What containerd leaves and never finds again when there is no room even for an ingest's name.
    let ingests = "/var/lib/containerd/io.containerd.content.v1.content/ingest";
    node(
        world,
        &format!("mkdir {ingests}/nameless && : >{ingests}/nameless/ref"),
    );
    // It becomes full while the image comes. The node gets its room back before anything is judged.
    let mut filling = fill("1", "during").spawn().unwrap();
    let meanwhile = load();
    assert!(filling.wait().unwrap().success(), "{}", shown(&meanwhile));
    let begun = node(world, &format!("find {ingests} -mindepth 1 -ls"));
    node(world, "rm /var/lib/containerd/filler-*");
    assert!(fill("8", "now").status().unwrap().success());
    let before = load();
    node(world, "rm /var/lib/containerd/filler-*");
    assert_eq!(begun, "", "what had come is kept");
    for output in [&meanwhile, &before] {
        let said = text(&output.stderr);
        assert!(
            output.status.code() == Some(26)
                && said.contains("disk of the node is")
                && said.contains("hint:"),
            "{}",
            shown(output)
        );
    }
    let left = world.ok(&["image", "ls", "-p", PROFILE, "--format", "json"]);
    assert!(!left.contains(FILLING), "{left}");
    assert!(!node(world, "ctr -n k8s.io images ls -q; ctr -n moby images ls -q").contains(FILLING));

    // Two at once are as good as one.
    let both: Vec<_> = (0..2)
        .map(|_| {
            let mut command = world.sampan(&["image", "load", "-p", PROFILE, &archive]);
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in both {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", shown(&output));
    }
    let again = image(world, &["load", &archive]);
    assert!(again.contains("nothing was sent"), "{again}");
    image(world, &["rm", FILLING]);
}
