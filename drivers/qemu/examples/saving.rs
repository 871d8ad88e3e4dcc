//! Measures what saving and going on cost: `saving DIR [MIB]` makes a machine of 4 GiB in DIR, fills so much of its memory
//! with random bytes, and takes it through freeze, fork, save and checkpoint.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use sampan_driver::{Disk, Driver, Effort, MachineSpec, Result, Snapshot};
use sampan_driver_qemu::{Accelerator, Qemu, QemuConfig};

const MIB: u64 = 1 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().ok_or("give a directory")?).canonicalize()?;
    let fill: u64 = args.next().map_or(Ok(2048), |text| text.parse())?;
    let qemu = Qemu::new(QemuConfig {
        cache_dir: dir.clone(),
        accelerator: Some(Accelerator::Tcg),
        ..QemuConfig::default()
    });
    let base = dir.join("base.raw");
    File::create(&base)?.set_len(MIB)?;
    let spec = |name: &str| MachineSpec {
        name: name.to_owned(),
        dir: dir.join(name),
        cpus: 2,
        memory_mib: 4096,
        disk: Disk {
            base: base.clone(),
            size_mib: 1024,
        },
        extra_disks: Vec::new(),
        boot: None,
        forwards: Vec::new(),
    };
    let (source, fork, layer, mark) = (spec("source"), spec("fork"), dir.join("layer"), dir.join("mark"));
    let saving = &qemu as &dyn Snapshot;
    qemu.create(&source)?;
    timed("boot to running", || qemu.start(&source))?;
    // Its memory is this file: what is written to it the guest has in its memory at once.
    let mut ram = OpenOptions::new().write(true).open(source.dir.join("ram.img"))?;
    ram.seek(SeekFrom::Start(512 * MIB))?;
    io::copy(&mut File::open("/dev/urandom")?.take(fill * MIB), &mut ram)?;
    thread::sleep(Duration::from_secs(1));
    effort("save, own memory, all dirty", || saving.save(&source))?;
    timed("resume, own memory", || saving.resume(&source))?;
    effort("save, own memory", || saving.save(&source))?;
    timed("resume, own memory", || saving.resume(&source))?;
    effort("checkpoint, own memory", || saving.checkpoint(&source, &mark))?;
    effort("freeze", || saving.freeze(&source, &layer))?;
    for _ in 0..3 {
        timed("fork", || saving.fork(&fork, &layer))?;
        timed("fork to running", || saving.resume(&fork))?;
        thread::sleep(Duration::from_secs(1));
        println!("{:32} {:8} MiB", "fork holds", saving.resident(&fork)? / MIB);
        effort("save, fork, first", || saving.save(&fork))?;
        timed("resume, own memory", || saving.resume(&fork))?;
        effort("save, fork, later", || saving.save(&fork))?;
        timed("resume, own memory", || saving.resume(&fork))?;
        qemu.remove(&fork)?;
    }
    for path in [&source.dir, &layer, &mark] {
        if path.exists() {
            fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

fn timed<T>(what: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let done = act()?;
    println!("{what:32} {:8.0} ms", start.elapsed().as_secs_f64() * 1e3);
    Ok(done)
}

fn effort(what: &str, act: impl FnOnce() -> Result<Effort>) -> Result<()> {
    let start = Instant::now();
    let Effort { paused, written } = act()?;
    println!(
        "{what:32} {:8.0} ms, guest held {:6.0} ms, {} MiB written",
        start.elapsed().as_secs_f64() * 1e3,
        paused.as_secs_f64() * 1e3,
        written / MIB
    );
    Ok(())
}
