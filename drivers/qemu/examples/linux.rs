//! Takes a real Linux through save, freeze and fork: `linux BUNDLE DIR`. The guest is well when its SSH server greets.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use sampan_driver::{DirectBoot, Disk, Driver, Forward, MachineSpec, Snapshot};
use sampan_driver_qemu::{Accelerator, Qemu, QemuConfig};

/// An emulated guest on a busy host takes its time.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).map(PathBuf::from);
    let (bundle, dir) = args
        .next()
        .zip(args.next())
        .ok_or("give a bundle and a directory")?;
    let dir = dir.canonicalize()?;
    let qemu = Qemu::new(QemuConfig {
        cache_dir: dir.clone(),
        accelerator: Some(Accelerator::Tcg),
        ..QemuConfig::default()
    });
    let cmdline = fs::read_to_string(bundle.join("cmdline"))?;
    let spec = |name: &str, port: u16| MachineSpec {
        name: name.to_owned(),
        dir: dir.join(name),
        cpus: 2,
        memory_mib: 2048,
        disk: Disk {
            base: bundle.join("disk.raw"),
            size_mib: 8192,
        },
        extra_disks: Vec::new(),
        boot: Some(DirectBoot {
            kernel: bundle.join("vmlinuz"),
            initrd: bundle.join("initrd.img"),
            cmdline: cmdline.clone(),
        }),
        forwards: vec![Forward::tcp(([127, 0, 0, 1], port).into(), 22)],
    };
    let (source, layer) = (spec("linux-source", 24022), dir.join("linux-layer"));
    let forks = [spec("linux-one", 24023), spec("linux-two", 24024)];
    qemu.create(&source)?;
    greets(&qemu, &source)?;
    println!("{:?}", qemu.save(&source)?);
    greets(&qemu, &source)?;
    println!("{:?}", qemu.checkpoint(&source, &dir.join("linux-mark"))?);
    greets(&qemu, &source)?;
    println!("{:?}", qemu.freeze(&source, &layer)?);
    for fork in &forks {
        qemu.fork(fork, &layer)?;
        greets(&qemu, fork)?;
        println!("holds {} MiB", qemu.resident(fork)? >> 20);
    }
    for fork in &forks {
        println!("{:?}", qemu.save(fork)?);
        greets(&qemu, fork)?;
        println!("{:?}", qemu.save(fork)?);
        greets(&qemu, fork)?;
        qemu.remove(fork)?;
    }
    Ok(())
}

/// Starts the machine, if need be, and waits for its SSH server.
fn greets(qemu: &Qemu, spec: &MachineSpec) -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let how = qemu.resume(spec)?;
    let running = start.elapsed();
    loop {
        let mut greeting = [0; 4];
        let greeted = TcpStream::connect(spec.forwards[0].host).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.read_exact(&mut greeting)
        });
        if greeted.is_ok() && greeting == *b"SSH-" {
            println!(
                "{}: {how:?} in {running:.2?}, greets after {:.2?}",
                spec.name,
                start.elapsed()
            );
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("{} does not greet", spec.name).into());
        }
        thread::sleep(Duration::from_millis(50));
    }
}
