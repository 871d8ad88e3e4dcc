//! Two verbs on one profile at once: the second says whom it waits for, and neither spoils the other's work.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Output};

use crate::faults::{fault, heal, nothing_is_left, signal, until};
use crate::life::alone;
use crate::support::TestEnvironment;

/// A verb at work, what it says going to a file that can be read meanwhile.
struct Running {
    child: Child,
    said: PathBuf,
}

impl Running {
    fn begin(env: &TestEnvironment, name: &str, line: &str) -> Self {
        let said = env.home().join(name);
        let words: Vec<&str> = line.split_whitespace().collect();
        let file = File::create(&said).unwrap();
        let mut command = env.command(&words);
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap();
        Self { child, said }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap()
    }

    /// Waits for the end; the exit status and all it said.
    fn end(self, env: &TestEnvironment) -> (Option<i32>, String) {
        let said = self.said.clone();
        let output: Output = self.child.wait_with_output().unwrap();
        (
            output.status.code(),
            env.filtered(&fs::read_to_string(said).unwrap()),
        )
    }
}

/// A start that hangs in its midst, holding the profile's lock.
fn hanging_start(env: &TestEnvironment) -> Running {
    fault(env, "hang_at = \"kubeadm\"\n");
    let start = Running::begin(env, "start", "start --fresh --driver fake --memory 3g");
    let events = env.layout().profile("sampan").events();
    until("the control plane's step", || {
        fs::read_to_string(&events).is_ok_and(|text| text.contains("Booting control plane"))
    });
    start
}

/// Begins another verb and waits until it says whom it waits for.
fn waiting(env: &TestEnvironment, holder: &Running, line: &str) -> Running {
    let second = Running::begin(env, "second", line);
    let pid = holder.child.id();
    let wait = format!(
        "waiting for profile sampan: process {pid} (`sampan start --fresh --driver fake --memory 3g`, for "
    );
    until("word of the wait", || second.said().contains(&wait));
    second
}

#[test]
fn a_second_start_says_whom_it_waits_for_and_then_has_nothing_to_do() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    let first = hanging_start(&env);
    let second = waiting(&env, &first, "start");
    heal(&env);
    let (status, said) = first.end(&env);
    assert_eq!(status, Some(0), "{said}");
    let (status, said) = second.end(&env);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("cluster \"sampan\" is running already"), "{said}");
    assert_eq!(env.status("status"), 0);
}

#[test]
fn who_waits_can_be_interrupted_and_the_other_goes_on() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    let first = hanging_start(&env);
    for verb in ["start", "stop", "delete"] {
        let second = waiting(&env, &first, verb);
        signal(&second.child, "-INT");
        let (status, said) = second.end(&env);
        assert_eq!(status, Some(11), "{verb}: {said}");
        assert!(
            said.contains("X Exiting due to MK_INTERRUPTED: ") && said.contains("hint: "),
            "{said}"
        );
    }
    heal(&env);
    let (status, said) = first.end(&env);
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(env.status("status"), 0);
}

#[test]
fn a_delete_during_a_start_waits_for_its_end_and_leaves_nothing() {
    let _alone = alone();
    for interrupted in [false, true] {
        let env = TestEnvironment::with_bundle();
        let first = hanging_start(&env);
        let second = waiting(&env, &first, "delete");
        if interrupted {
            signal(&first.child, "-INT");
        }
        heal(&env);
        let (status, said) = first.end(&env);
        assert_eq!(status, Some(if interrupted { 11 } else { 0 }), "{said}");
        let (status, said) = second.end(&env);
        assert_eq!(status, Some(0), "{said}");
        assert!(
            said.contains("removed all traces of cluster \"sampan\""),
            "{said}"
        );
        nothing_is_left(&env);
        assert_eq!(env.status("status"), 85);
    }
}
