use super::*;

#[test]
fn a_process_is_recognised_by_whole_words() {
    let mark = |path: &str| Mark::new(["-pidfile", path]);
    let zeroes = "qemu-system-x86_64\0-name\0sampan-a\0-pidfile\0/data/my a/qemu.pid\0";
    assert!(mark("/data/my a/qemu.pid").is_on(zeroes, '\0'));
    assert!(!mark("/data/my a/qemu").is_on(zeroes, '\0'));
    assert!(!mark("/data/b/qemu.pid").is_on(zeroes, '\0'));
    let spaces = "/opt/qemu-system-aarch64 -msg timestamp=on -pidfile /data/my a/qemu.pid -S\n";
    assert!(mark("/data/my a/qemu.pid").is_on(spaces, ' '));
    assert!(!mark("/data/my a/qemu.pi").is_on(spaces, ' '));
    assert!(!mark("/data/a").is_on("", '\0'));
    // What follows may be part of the mark, where a path with a space in it could be taken for two words.
    let spaces = "/usr/local/bin/hyperkit -A -F /m/a b/hyperkit.pid -c 2 -m 64M";
    let mark = |path: &str| Mark::new(["-F", path, "-c"]);
    assert!(mark("/m/a b/hyperkit.pid").is_on(spaces, ' ') && !mark("/m/a").is_on(spaces, ' '));
    // A shell or an editor that was given the same words as one argument is not it.
    let quoted = "sh\0-c\0exec hyperkit -F /m/hyperkit.pid -c 2\0";
    assert!(!mark("/m/hyperkit.pid").is_on(quoted, '\0'));
}

struct StandIn {
    dir: tempfile::TempDir,
    mark: Mark,
}

impl StandIn {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mark = Mark::new([
            "-pidfile".to_owned(),
            dir.path().join("pid").display().to_string(),
        ]);
        Self { dir, mark }
    }

    /// The words after the script are arguments nobody looks at but us.
    fn start(&self) -> Starting {
        let command = Command::new("sh")
            .args(["-c", "echo last words >&2; sleep 60; true", "it"])
            .args(self.mark.0.clone());
        Starting::spawn(&command, self.dir.path(), &self.dir.path().join("log")).unwrap()
    }

    fn find(&self) -> Option<Process> {
        Process::find(&self.mark, Some(&self.dir.path().join("pid"))).unwrap()
    }
}

fn soon<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    let happened = within(Duration::from_secs(10), || {
        found = look();
        found.is_some()
    });
    assert!(happened, "it did not happen");
    found.unwrap()
}

#[test]
fn a_start_that_is_given_up_leaves_nothing_but_its_words() {
    let it = StandIn::new();
    let starting = it.start();
    let process = soon(|| it.find());
    assert_eq!(Some(process.pid()), starting.pid());
    let log = it.dir.path().join("log");
    let words = || fs::read_to_string(&log).ok();
    soon(|| words().filter(|text| text == "last words\n"));
    drop(starting);
    assert!(process.ended_within(Duration::ZERO));
    assert!(it.find().is_none());
    assert_eq!(words().unwrap(), "last words\n");
}

#[test]
fn a_released_process_runs_on_until_it_is_ended() {
    let it = StandIn::new();
    let mut starting = it.start();
    assert!(starting.ended().is_none());
    starting.release();
    let process = soon(|| it.find());
    // The pid of somebody else in its pidfile is no obstacle.
    fs::write(it.dir.path().join("pid"), std::process::id().to_string()).unwrap();
    assert_eq!(it.find().unwrap().pid(), process.pid());
    assert!(!process.ended_within(Duration::from_millis(20)));
    process.signal(Signal::KILL);
    assert!(process.ended_within(Duration::from_secs(10)));
    // Once more, on a process that is gone.
    process.signal(Signal::KILL);
    assert!(it.find().is_none());
}

#[test]
fn without_a_handle_the_command_line_tells_the_end() {
    let it = StandIn::new();
    let mut starting = it.start();
    let process = Process {
        handle: None,
        ..soon(|| it.find())
    };
    assert!(!process.ended_within(Duration::from_millis(20)));
    process.signal(Signal::TERM);
    assert!(process.ended_within(Duration::from_secs(10)));
    assert!(starting.ended_within(Duration::from_secs(10)));
}

#[test]
fn a_program_that_cannot_be_run_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let started = Starting::spawn(
        &Command::new("/no/such/qemu"),
        dir.path(),
        &dir.path().join("log"),
    );
    let error = started.unwrap_err().to_string();
    assert!(error.starts_with("/no/such/qemu: "), "{error}");
}
