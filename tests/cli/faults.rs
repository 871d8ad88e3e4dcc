//! Bad luck at every point of a start: an interruption, a failure, a machine that is killed. What follows completes, or leaves
//! nothing.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use crate::life::alone;
use crate::support::TestEnvironment;

/// Where the test driver can hang or fail (its own calls, and programs of the guest), and the step that comes there.
const POINTS: [(&str, &str); 7] = [
    ("create", "Creating VM"),
    ("start", "Creating VM"),
    ("sshd", "Running Remotely"),
    ("tar", "Preparing Kubernetes"),
    ("ctr", "Loading Images"),
    ("kubeadm", "Booting control plane"),
    ("api", "Booting control plane"),
];

/// Far longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn fault(env: &TestEnvironment, text: &str) {
    env.write(&env.layout().driver_cache("fake").join("fake.toml"), text);
}

pub(crate) fn heal(env: &TestEnvironment) {
    fs::remove_file(env.layout().driver_cache("fake").join("fake.toml")).unwrap();
}

/// Waits until something is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < end, "{what} did not happen");
        thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Starts, waits for the step that cannot end, and interrupts.
fn interrupt_at(env: &TestEnvironment, (point, step): (&str, &str)) -> Output {
    fault(env, &format!("hang_at = \"{point}\"\n"));
    let mut child = env.spawn("start --fresh --driver fake --memory 3g");
    let events = env.layout().profile("sampan").events();
    until(step, || {
        fs::read_to_string(&events).is_ok_and(|text| text.contains(step))
    });
    signal(&child, "-INT");
    // A driver call that hangs does not look at the first signal; the second one ends the process.
    let patience = Instant::now() + Duration::from_secs(3);
    while child.try_wait().unwrap().is_none() && Instant::now() < patience {
        thread::sleep(Duration::from_millis(20));
    }
    if child.try_wait().unwrap().is_none() {
        signal(&child, "-INT");
    }
    child.wait_with_output().unwrap()
}

/// Processes whose command line names a path.
pub(crate) fn processes_of(dir: &Path) -> Vec<String> {
    let dir = dir.to_string_lossy().into_owned();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&dir))
        .collect()
}

pub(crate) fn nothing_is_left(env: &TestEnvironment) {
    assert_eq!(processes_of(&env.layout().data), Vec::<String>::new());
    assert!(!env.layout().profile("sampan").dir.exists());
    let kubeconfig = fs::read_to_string(env.kubeconfig()).unwrap_or_default();
    assert!(!kubeconfig.contains("sampan"), "{kubeconfig}");
}

#[test]
fn interrupted_at_each_point_a_start_completes_afterwards() {
    let _alone = alone();
    for point in POINTS {
        let env = TestEnvironment::with_bundle();
        let output = interrupt_at(&env, point);
        assert_eq!(output.status.code(), Some(11), "{point:?}: {}", env.seen(&output));
        heal(&env);
        env.ok("start");
        assert_eq!(env.status("status"), 0, "{point:?}");
    }
}

#[test]
fn interrupted_at_each_point_a_delete_leaves_nothing() {
    let _alone = alone();
    for point in POINTS {
        let env = TestEnvironment::with_bundle();
        interrupt_at(&env, point);
        heal(&env);
        env.ok("delete");
        nothing_is_left(&env);
    }
}

#[test]
fn a_failure_at_each_point_leaves_no_process_and_can_be_repeated() {
    let _alone = alone();
    for point in ["create", "start", "tar", "ctr", "kubeadm"] {
        let env = TestEnvironment::with_bundle();
        fault(&env, &format!("fail_at = \"{point}\"\n"));
        let seen = env.run("start --fresh --driver fake --memory 3g");
        assert!(
            !seen.starts_with("status: 0") && seen.contains("X Exiting due to "),
            "{point}: {seen}"
        );
        assert_eq!(processes_of(&env.layout().data), Vec::<String>::new(), "{point}");
        heal(&env);
        env.ok("start");
        assert_eq!(env.status("status"), 0, "{point}");
    }
}

#[test]
fn a_driver_that_is_not_well_is_55_with_its_hint() {
    let env = TestEnvironment::with_bundle();
    fault(&env, "fail_at = \"check\"\n");
    insta::assert_snapshot!(env.run("start --fresh --driver fake --memory 3g"), @r#"
    status: 55
    --- stdout
    making cluster "sampan": fake, 2 CPUs, 3072 MiB memory, 20000 MiB disk, Kubernetes v1.36.3
    ✗ checking the driver (TIME)
    --- stderr
    X Exiting due to DRV_NOT_HEALTHY: the fake driver was told to be unhealthy
    hint: change fake.toml
    "#);
    insta::assert_snapshot!(env.run("start --fresh --driver fake --memory 3g --dry-run"), @r#"
    status: 55
    --- stdout
    making cluster "sampan": fake, 2 CPUs, 3072 MiB memory, 20000 MiB disk, Kubernetes v1.36.3
    --- stderr
    X Exiting due to DRV_NOT_HEALTHY: the fake driver was told to be unhealthy
    hint: change fake.toml
    "#);
}

#[test]
fn a_killed_machine_is_seen_and_comes_back() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok("start --fresh --driver fake --memory 3g");
    let pid = fs::read_to_string(env.layout().profile("sampan").machine().join("pid")).unwrap();
    let pid = pid.split_whitespace().next().unwrap().to_owned();
    assert!(
        Command::new("kill")
            .args(["-KILL", &pid])
            .status()
            .unwrap()
            .success()
    );
    until("the end of the machine", || env.status("status") == 3);
    insta::assert_snapshot!(env.run("status"), @r"
    status: 3
    --- stdout
    sampan
    type: Control Plane
    host: Stopped
    kubelet: Stopped
    apiserver: Stopped
    kubeconfig: Configured

    --- stderr
    ");
    let objects = env
        .layout()
        .profile("sampan")
        .machine()
        .join("state/objects.json");
    let before = fs::read(&objects).unwrap();
    insta::assert_snapshot!(env.run("ssh -- true"), @r#"
    status: 83
    --- stdout
    --- stderr
    X Exiting due to GUEST_NOT_RUNNING: cluster "sampan" is not running
    hint: run `sampan start -p sampan`
    "#);
    env.ok("start");
    assert_eq!(env.status("status"), 0);
    assert_eq!(
        fs::read(&objects).unwrap(),
        before,
        "what was in the cluster is there"
    );
}

#[test]
fn a_guest_that_never_answers_is_ended_and_its_last_words_are_shown() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    fault(&env, "hang_at = \"sshd\"\n");
    let seen = env.run("start --fresh --driver fake --memory 3g --wait-timeout 1s");
    assert!(
        seen.starts_with("status: 82\n")
            && seen.contains(
                "X Exiting due to GUEST_TIMEOUT: sampan: sshd did not answer at ADDRESS:2222 within 1s: "
            )
            && seen.contains(
                "\n  end of the machine's serial log:\n    sampan boots with 2 CPUs\n    panic: told to"
            )
            && seen.contains("\nhint: run `sampan logs` to see how far the machine came"),
        "{seen}"
    );
    assert_eq!(processes_of(&env.layout().data), Vec::<String>::new());
    assert_eq!(env.status("status") & 1, 1, "the machine is stopped");
    heal(&env);
    env.ok("start");
    assert_eq!(env.status("status"), 0);
}
