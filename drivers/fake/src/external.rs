//! The test driver as a program of its own, which speaks the protocol of drivers out of tree (`docs/drivers.md`). Its machines are this
//! program, too.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use sampan_driver_fake::Fake;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if let (Some(verb), Some(dir)) = (args.next(), args.next())
        && verb == OsStr::new("__fake-machine")
    {
        return sampan_driver_fake::run_machine(dir.as_ref());
    }
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("sampan-driver-fake"));
    let served = sampan_driver_external::serve(
        |cache| Fake::new(cache.to_owned(), program),
        io::stdin().lock(),
        io::stdout().lock(),
    );
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
