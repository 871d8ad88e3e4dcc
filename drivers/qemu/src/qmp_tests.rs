use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

use super::*;

const GREETING: &str = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";
const SECOND: Duration = Duration::from_secs(5);

/// What the scripted QEMU does next.
enum Act {
    /// Sends bytes.
    Say(&'static str),
    /// Reads one line and gives it to the check.
    Hear(&'static str),
    /// Says nothing more until the client is gone.
    Hang,
}
use Act::{Hang, Hear, Say};

struct Script {
    dir: tempfile::TempDir,
    thread: Option<JoinHandle<()>>,
}

impl Script {
    fn play(acts: Vec<Act>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(SECOND)).unwrap();
            for act in acts {
                match act {
                    Say(text) => {
                        // One piece after the other: a line may come in several.
                        for piece in text.as_bytes().chunks(7) {
                            stream.write_all(piece).unwrap();
                        }
                    }
                    Hear(expected) => {
                        let mut line = Vec::new();
                        let mut byte = [0];
                        while stream.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
                            line.push(byte[0]);
                        }
                        let line = String::from_utf8(line).unwrap();
                        assert!(line.contains(expected), "{line} has no {expected}");
                    }
                    Hang => drop(stream.read(&mut [0])),
                }
            }
        });
        Self {
            dir,
            thread: Some(thread),
        }
    }

    fn connect(&self) -> Result<Qmp, QmpError> {
        Qmp::connect(&self.dir.path().join("s"), SECOND)
    }

    fn end(mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

fn greeted(mut acts: Vec<Act>) -> Script {
    let mut all = vec![
        Say(GREETING),
        Hear("qmp_capabilities"),
        Say("{\"return\": {}, \"id\": 1}\r\n"),
    ];
    all.append(&mut acts);
    Script::play(all)
}

#[test]
fn replies_and_events_are_told_apart() {
    let script = greeted(vec![
        Hear("query-status"),
        Say(
            "{\"event\": \"RESUME\", \"timestamp\": {}}\r\n\r\n{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true}}\n",
        ),
        Say("{\"return\": {\"status\": \"running\"}, \"id\": 2}\n"),
    ]);
    let mut qmp = script.connect().unwrap();
    let reply = qmp.execute("query-status", json!({}), SECOND).unwrap();
    assert_eq!(reply["status"], "running");
    let events = qmp.events();
    assert_eq!(
        events[0],
        Event {
            name: "RESUME".into(),
            data: Value::Null
        }
    );
    assert_eq!(events[1].data["guest"], true);
    assert!(qmp.events().is_empty());
    script.end();
}

#[test]
fn a_refusal_has_qemus_words() {
    let script = greeted(vec![
        Hear("\"arguments\":{\"a\":1}"),
        Say("{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such thing\"}, \"id\": 2}\n"),
    ]);
    let error = script
        .connect()
        .unwrap()
        .execute("x-y", json!({"a": 1}), SECOND)
        .unwrap_err();
    assert_eq!(error.to_string(), "qemu refused x-y: no such thing");
    script.end();
}

#[test]
fn the_late_reply_of_an_earlier_command_is_dropped() {
    let script = greeted(vec![
        Hear("slow"),
        Hear("fast"),
        Say("{\"return\": \"of slow\", \"id\": 2}\n{\"return\": \"of fast\", \"id\": 3}\n"),
    ]);
    let mut qmp = script.connect().unwrap();
    let error = qmp
        .execute("slow", json!({}), Duration::from_millis(50))
        .unwrap_err();
    assert_eq!(error.to_string(), "qemu did not answer slow within 50 ms");
    assert_eq!(qmp.human("fast", SECOND).unwrap(), "of fast");
    script.end();
}

#[test]
fn garbage_and_a_closed_connection_are_errors() {
    let script = Script::play(vec![Say("220 smtp.example.org ESMTP\r\n")]);
    let error = script.connect().unwrap_err();
    assert_eq!(
        error.to_string(),
        "qemu sent something that is not qmp: 220 smtp.example.org ESMTP"
    );
    script.end();
    let script = Script::play(vec![Say("{\"hello\": 1}\n"), Hang]);
    assert!(matches!(script.connect().unwrap_err(), QmpError::Protocol(_)));
    script.end();
    let script = greeted(vec![Hear("quit")]);
    let error = script
        .connect()
        .unwrap()
        .execute("quit", json!({}), SECOND)
        .unwrap_err();
    assert!(matches!(error, QmpError::Closed(_)), "{error}");
    script.end();
}

#[test]
fn silence_ends_in_time_even_when_the_queue_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&listener, 1).unwrap();
    let start = Instant::now();
    for _ in 0..4 {
        let error = Qmp::connect(&path, Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, QmpError::Timeout { .. }), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn nobody_listens() {
    let dir = tempfile::tempdir().unwrap();
    let error = Qmp::connect(&dir.path().join("s"), SECOND).unwrap_err();
    assert!(error.to_string().contains("/s: No such file"), "{error}");
}

#[test]
fn a_socket_deep_in_the_tree_is_reached() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(90)).join("e".repeat(90));
    std::fs::create_dir_all(&deep).unwrap();
    let link = dir.path().join("l");
    std::os::unix::fs::symlink(&deep, &link).unwrap();
    let _listener = UnixListener::bind(link.join("s")).unwrap();
    let error = Qmp::connect(&deep.join("s"), Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, QmpError::Timeout { .. }), "{error}");
}
