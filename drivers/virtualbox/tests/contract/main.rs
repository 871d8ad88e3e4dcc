//! The driver contract and what goes wrong around it: with a stand-in for VirtualBox, which is this very program under another
//! name, and with a real VBoxManage where there is one.
//!
//! `SAMPAN_TEST_VBOXMANAGE` names the real one; without it, one in PATH is taken. Where VirtualBox has no kernel module, its tests
//! go as far as that and say so.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the stand-in is a program, and tests tell what they skip"
)]

mod books;
mod cases;
mod ground;
mod real;
mod replay;
mod standin;

use std::path::PathBuf;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let program = PathBuf::from(&args[0]);
    let dir = || program.parent().unwrap().to_owned();
    match program.file_name().and_then(|name| name.to_str()) {
        Some("VBoxManage") => return standin::manage(&dir(), &args[1..]),
        Some("VBoxHeadless") => return standin::headless(&dir(), &args[1..]),
        _ => {}
    }
    let trial = |(name, test): &(&'static str, fn())| {
        let test = *test;
        Trial::test(*name, move || {
            test();
            Ok(())
        })
    };
    let all = [cases::ALL, replay::ALL, real::ALL].concat();
    libtest_mimic::run(&Arguments::from_args(), all.iter().map(trial).collect()).exit_code()
}
