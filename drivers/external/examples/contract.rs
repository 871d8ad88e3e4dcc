//! Runs the contract suite over a driver that is a program: `cargo run -p sampan-driver-external --example contract -- PROGRAM`.
//! The guest is none: the driver's machines get an empty disk and no kernel. What breaks the contract is a panic that says so.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sampan_driver::{Disk, Driver, DriverError, ExtraDisk, Forward, MachineSpec, Result, contract};
use sampan_driver_external::External;

fn main() -> ExitCode {
    let Some(program) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: contract PROGRAM");
        return ExitCode::FAILURE;
    };
    match keeps(&program) {
        Ok(()) => {
            println!("{} keeps the contract", program.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("an error that the driver had no right to: {error}");
            ExitCode::FAILURE
        }
    }
}

fn keeps(program: &Path) -> Result<()> {
    let dir = tempfile::tempdir().map_err(DriverError::io("a directory for the machine"))?;
    let image = |name: &str| {
        let path = dir.path().join(name);
        let made = std::fs::File::create(&path).and_then(|file| file.set_len(1 << 20));
        made.map_err(DriverError::io(&path)).map(|()| path)
    };
    let spec = MachineSpec {
        name: "contract".to_owned(),
        dir: dir.path().join("machine"),
        cpus: 1,
        memory_mib: 64,
        disk: Disk {
            base: image("base.raw")?,
            size_mib: 8,
        },
        extra_disks: vec![ExtraDisk {
            path: image("parts.img")?,
            serial: "sampan-parts".to_owned(),
        }],
        boot: None,
        forwards: vec![Forward::tcp(free()?, 8443), Forward::tcp(free()?, 2376)],
    };
    let driver = External::new("contract", program.to_owned(), dir.path().join("cache"));
    println!("{}: {:?}", driver.check()?.version, driver.features());
    let kept = contract::whole_life(&driver, &spec);
    // A driver that broke the contract half-way leaves its machine running.
    let _ = Driver::remove(&driver, &spec);
    kept
}

fn free() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0");
    let free = listener.and_then(|listener| listener.local_addr());
    free.map_err(DriverError::io("a free port"))
}
