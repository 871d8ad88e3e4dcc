use super::*;

#[test]
fn a_process_is_recognised_by_the_pidfile_it_names() {
    let zeroes = "qemu-system-x86_64\0-name\0sampan-a\0-pidfile\0/data/my a/qemu.pid\0";
    assert!(names_pidfile(zeroes, "/data/my a/qemu.pid"));
    assert!(!names_pidfile(zeroes, "/data/my a/qemu"));
    assert!(!names_pidfile(zeroes, "/data/b/qemu.pid"));
    let spaces = "/opt/qemu-system-aarch64 -msg timestamp=on -pidfile /data/my a/qemu.pid -S";
    assert!(names_pidfile(spaces, "/data/my a/qemu.pid"));
    assert!(!names_pidfile(spaces, "/data/my a/qemu.pi"));
    // A shell that was given the same words as one argument is not it.
    assert!(!names_pidfile(
        "vi\0-pidfile /data/a/qemu.pid.bak\0",
        "/data/a/qemu.pid"
    ));
    assert!(!names_pidfile("", "/data/a/qemu.pid"));
}

fn stand_in(dir: &Path) -> Command {
    let pidfile = files::real(dir).join(files::PIDFILE);
    // The words after the script are arguments nobody looks at but us.
    Command::new("sh")
        .args(["-c", "echo last words >&2; sleep 60; true", "qemu", "-pidfile"])
        .path(&pidfile)
}

#[test]
fn a_start_that_is_given_up_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let starting = Starting::spawn(&stand_in(dir.path()), dir.path()).unwrap();
    fs::write(dir.path().join(files::RAM), "").unwrap();
    let process = soon(|| Process::find(dir.path()).unwrap());
    let log = dir.path().join(files::QEMU_LOG);
    soon(|| {
        fs::read_to_string(&log)
            .ok()
            .filter(|text| text == "last words\n")
    });
    drop(starting);
    assert!(process.ended_within(Duration::ZERO));
    assert!(Process::find(dir.path()).unwrap().is_none());
    assert!(!dir.path().join(files::RAM).exists());
    assert_eq!(
        fs::read_to_string(dir.path().join(files::QEMU_LOG)).unwrap(),
        "last words\n"
    );
}

#[test]
fn a_released_process_runs_on_until_it_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let mut starting = Starting::spawn(&stand_in(dir.path()), dir.path()).unwrap();
    assert!(starting.ended().is_none());
    starting.release();
    let process = soon(|| Process::find(dir.path()).unwrap());
    assert!(!process.ended_within(Duration::from_millis(20)));
    process.signal(Signal::KILL);
    assert!(process.ended_within(Duration::from_secs(5)));
    // Once more, on a process that is gone.
    process.signal(Signal::KILL);
}

#[test]
fn without_a_handle_the_command_line_tells_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let starting = Starting::spawn(&stand_in(dir.path()), dir.path()).unwrap();
    let process = soon(|| Process::find(dir.path()).unwrap());
    let process = Process {
        handle: None,
        ..process
    };
    assert!(!process.ended_within(Duration::from_millis(20)));
    process.signal(Signal::TERM);
    assert!(process.ended_within(Duration::from_secs(5)));
    drop(starting);
}

#[test]
fn a_program_that_cannot_be_run_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = Starting::spawn(&Command::new("/no/such/qemu"), dir.path()).unwrap_err();
    assert!(error.to_string().starts_with("/no/such/qemu: "), "{error}");
}

fn soon<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "it did not happen");
        thread::sleep(TICK);
    }
}
