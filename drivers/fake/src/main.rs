//! A machine of the test driver as a program of its own, for this crate's tests; `sampan __fake-machine DIR` is the same.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args_os().nth(2) {
        Some(dir) => sampan_driver_fake::run_machine(dir.as_ref()),
        None => ExitCode::FAILURE,
    }
}
