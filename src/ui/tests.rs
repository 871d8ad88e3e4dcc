//! Output as it is off a terminal, in text and in JSON.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use super::*;

/// What was written to both streams.
#[derive(Clone, Default)]
pub(super) struct Written {
    out: Buffer,
    err: Buffer,
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    pub(super) fn out(&self) -> String {
        String::from_utf8(self.out.0.lock().unwrap().clone()).unwrap()
    }
    fn err(&self) -> String {
        String::from_utf8(self.err.0.lock().unwrap().clone()).unwrap()
    }
}

impl Ui {
    /// Output into buffers, off a terminal.
    pub(super) fn for_tests(json: bool) -> (Self, Written) {
        let written = Written::default();
        let options = Options {
            json,
            ..Options::default()
        };
        let streams = (Box::new(written.out.clone()), Box::new(written.err.clone()));
        (
            Self::to(Terminal::default(), options, streams.0, streams.1),
            written,
        )
    }
}

const STEP: StepInfo = StepInfo {
    number: 2,
    total: 19,
    name: "Creating VM",
    title: "booting the machine",
};

fn some_work(ui: &Ui) {
    ui.step_end(StepInfo { number: 1, ..STEP }, StepEnd::AlreadyDone);
    ui.step_begin(STEP);
    ui.detail("waiting for sshd");
    ui.warn("slow");
    ui.step_end(STEP, StepEnd::Done);
    ui.info("done");
    ui.error(&Error::new(Kind::Usage, "wrong").hint("better"));
}

#[test]
fn text_is_a_line_per_step_with_warnings_apart() {
    let (ui, written) = Ui::for_tests(false);
    some_work(&ui);
    assert_eq!(written.out(), "✓ booting the machine (0.0s)\ndone\n");
    assert_eq!(
        written.err(),
        "! slow\nX Exiting due to MK_USAGE: wrong\nhint: better\n"
    );
}

#[test]
fn json_is_an_event_per_line_on_standard_output_only() {
    let (ui, written) = Ui::for_tests(true);
    some_work(&ui);
    assert_eq!(written.err(), "");
    let events: Vec<serde_json::Value> = written
        .out()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let types: Vec<_> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    let expected =
        ["step", "step", "warning", "info", "error"].map(|kind| format!("io.k8s.sigs.minikube.{kind}"));
    assert_eq!(types, expected);
    assert_eq!(
        events[1]["data"],
        serde_json::json!({"currentstep": "2", "totalsteps": "19", "name": "Creating VM", "message": "booting the machine"})
    );
    assert_eq!(events[4]["data"]["exitcode"], "14");
    assert_eq!(events[4]["data"]["advice"], "better");
}
