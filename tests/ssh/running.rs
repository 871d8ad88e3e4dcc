//! Commands: streams, statuses, deadlines, lost connections.

use std::fs;
use std::time::{Duration, Instant};

use sampan::progress::Cancel;
use sampan_driver::{Command, Failure, Runner, Stream};

use crate::server::{SOON, Server, eventually};

/// Bytes that are no pattern a compressor or a copy error would hide.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn streams_arguments_environment_and_input_come_through() {
    let server = Server::running();
    let session = server.session();
    let output = session
        .run(&Command::shell("cat; echo err >&2").stdin("in"))
        .unwrap();
    assert_eq!(
        (output.text().as_str(), output.stderr.as_slice()),
        ("in", &b"err\n"[..])
    );
    let command = Command::new("sh")
        .args(["-c", "echo \"$A|$1|$2\"", "sh", "it's $HOME", ""])
        .env("A", "x 'y'");
    assert_eq!(session.run(&command).unwrap().text(), "x 'y'|it's $HOME|");
    assert_eq!(session.place(), "the test guest");
}

#[test]
fn output_comes_while_the_command_runs() {
    let server = Server::running();
    let seen = server.file("seen");
    let script = format!(
        "echo first; while [ ! -e {} ]; do sleep 0.02; done; echo last",
        seen.display()
    );
    let mut text = Vec::new();
    let run = server
        .session()
        .run_streamed(&Command::shell(script).deadline(SOON), &mut |stream, bytes| {
            assert_eq!(stream, Stream::Stdout);
            text.extend_from_slice(bytes);
            fs::write(&seen, "").unwrap();
        });
    run.unwrap();
    assert_eq!(text, b"first\nlast\n");
}

#[test]
fn much_input_comes_back_while_it_is_still_sent() {
    let server = Server::running();
    let session = server.session();
    let input = noise(5 << 20);
    assert!(
        session
            .run(&Command::new("cat").stdin(input.clone()))
            .unwrap()
            .stdout
            == input
    );
    let slow = Command::shell("sleep 0.3; wc -c").stdin(input.clone());
    assert_eq!(session.run(&slow).unwrap().text(), input.len().to_string());
    // Its output ends long before its input does.
    let file = server.path("copy");
    session
        .run(&Command::shell(format!("exec > {file} 2>&1; sleep 0.2; exec cat")).stdin(input.clone()))
        .unwrap();
    assert!(fs::read(server.file("copy")).unwrap() == input);
}

#[test]
fn input_that_is_not_read_harms_nobody() {
    let server = Server::running();
    let session = server.session();
    let input = noise(5 << 20);
    session.run(&Command::new("true").stdin(input.clone())).unwrap();
    let error = session
        .run(&Command::shell("head -c 10 > /dev/null; exit 3").stdin(input))
        .unwrap_err();
    assert_eq!(error.status(), Some(3));
    assert_eq!(
        session
            .run(&Command::new("echo").arg("still here"))
            .unwrap()
            .text(),
        "still here"
    );
}

#[test]
fn much_output_on_both_streams_comes_whole() {
    let server = Server::running();
    let script = "head -c 8000000 /dev/zero & head -c 6000000 /dev/zero >&2; wait";
    let output = server.session().run(&Command::shell(script)).unwrap();
    assert_eq!((output.stdout.len(), output.stderr.len()), (8_000_000, 6_000_000));
}

#[test]
fn exit_statuses_signals_and_missing_programs_are_told_apart() {
    let server = Server::running();
    let session = server.session();
    for status in [1, 7, 127, 255] {
        let error = session
            .run(&Command::shell(format!("echo why >&2; exit {status}")))
            .unwrap_err();
        assert_eq!(error.status(), Some(status), "{error}");
        assert!(error.to_string().contains("failed on the test guest") && error.to_string().ends_with("why"));
    }
    let error = session.run(&Command::shell("kill -TERM $$")).unwrap_err();
    assert!(
        matches!(&error.failure, Failure::Signal(name) if name == "TERM"),
        "{error}"
    );
    let error = session.run(&Command::new("sampan-no-such-program")).unwrap_err();
    assert!(matches!(error.failure, Failure::NotFound), "{error}");
    assert!(!session.succeeds(&Command::new("false")).unwrap());
    assert_eq!(
        session
            .line("echo a | wc -l; exit 4", SOON, &mut |_, _| {})
            .unwrap(),
        4
    );
    assert_eq!(session.line("kill -KILL $$", SOON, &mut |_, _| {}).unwrap(), 137);
}

#[test]
fn an_overdue_command_is_ended_in_the_guest_with_its_children() {
    let server = Server::running();
    let session = server.session();
    let marker = server.path("child");
    let script = format!("sleep 300 & echo $! > {marker}; echo begun; wait");
    let begin = Instant::now();
    let command = Command::shell(script).deadline(Duration::from_secs(3));
    let error = session.run(&command).unwrap_err();
    assert!(matches!(error.failure, Failure::Deadline(_)), "{error}");
    assert_eq!(error.output.text(), "begun");
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    let child = fs::read_to_string(server.file("child")).unwrap();
    eventually("the end of the child", || {
        !fs::exists(format!("/proc/{}", child.trim())).unwrap()
    });
    assert_eq!(
        session.run(&Command::new("echo").arg("again")).unwrap().text(),
        "again"
    );
}

#[test]
fn a_guest_that_hangs_does_not_hang_us() {
    let server = Server::running();
    let session = server.session();
    // The guest's side of this connection stands still from here on.
    let pid = server.path("pid");
    let script = format!("echo $PPID > {pid}; kill -STOP $PPID; sleep 300");
    let begin = Instant::now();
    let command = Command::shell(script)
        .stdin(noise(1 << 20))
        .deadline(Duration::from_secs(1));
    let error = session.run(&command).unwrap_err();
    assert!(matches!(error.failure, Failure::Deadline(_)), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    assert_eq!(
        session.run(&Command::new("echo").arg("again")).unwrap().text(),
        "again"
    );
    let stopped = fs::read_to_string(server.file("pid")).unwrap();
    session
        .run(&Command::shell(format!("kill -KILL {stopped}")))
        .unwrap();
}

#[test]
fn a_lost_connection_is_no_success_and_the_next_command_makes_a_new_one() {
    let server = Server::running();
    let session = server.session();
    let error = session
        .run(&Command::shell("echo out; kill -KILL $PPID; sleep 1; exit 0"))
        .unwrap_err();
    assert!(matches!(error.failure, Failure::Io(_)), "{error}");
    assert_eq!(
        session.run(&Command::new("echo").arg("again")).unwrap().text(),
        "again"
    );
}

#[test]
fn two_hundred_commands_go_over_one_connection() {
    let server = Server::running();
    let session = server.session();
    let connection = session.run(&Command::shell("echo $PPID")).unwrap().text();
    for number in 0..200 {
        let output = session
            .run(&Command::shell(format!("echo {number} $PPID")))
            .unwrap();
        assert_eq!(output.text(), format!("{number} {connection}"));
    }
}

#[test]
fn commands_of_several_threads_wait_for_each_other() {
    let server = Server::running();
    let session = server.session();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let session = &session;
            scope.spawn(move || {
                for _ in 0..5 {
                    let input = vec![b'0' + number; 300_000];
                    assert!(
                        session
                            .run(&Command::new("cat").stdin(input.clone()))
                            .unwrap()
                            .stdout
                            == input
                    );
                }
            });
        }
    });
}

#[test]
fn a_cancelled_command_is_ended_in_the_guest() {
    let server = Server::running();
    let cancel = Cancel::default();
    let session = server.session_until(&cancel);
    let (pid, flag) = (server.path("pid"), cancel.flag());
    let script = format!("echo $$ > {pid}; echo begun; sleep 300");
    let command = Command::shell(script).deadline(SOON * 2);
    let begin = Instant::now();
    let result = session.run_streamed(&command, &mut |_, _| {
        flag.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let error = result.unwrap_err();
    assert!(
        matches!(&error.failure, Failure::Io(cause) if cause.kind() == std::io::ErrorKind::Interrupted),
        "{error}"
    );
    assert!(begin.elapsed() < Duration::from_secs(15));
    let process = fs::read_to_string(server.file("pid")).unwrap();
    eventually("the end of the command", || {
        !fs::exists(format!("/proc/{}", process.trim())).unwrap()
    });
}

#[test]
fn a_file_is_written_whole_with_its_mode() {
    let server = Server::running();
    let path = server.path("etc/a b/file");
    server.session().write_file(&path, 0o640, b"text").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"text");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o640);
}
