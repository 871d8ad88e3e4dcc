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
    let random: u64 = args.next().map_or(Ok(2048), |text| text.parse())?;
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
    let (again, rest) = (dir.join("again"), dir.join("rest"));
    let saving = &qemu as &dyn Snapshot;
    qemu.create(&source)?;
    timed("boot to running", || qemu.start(&source))?;
    fill(&qemu, &source, 512, random)?;
    thread::sleep(Duration::from_secs(1));
    effort("checkpoint, booted", || saving.checkpoint(&source, &mark))?;
    effort("save, booted", || saving.save(&source))?;
    timed("resume", || saving.resume(&source))?;
    effort("save, resumed", || saving.save(&source))?;
    timed("resume", || saving.resume(&source))?;
    effort("freeze, resumed", || saving.freeze(&source, &layer))?;
    for _ in 0..3 {
        timed("fork", || saving.fork(&fork, &layer))?;
        timed("fork to running", || saving.resume(&fork))?;
        fill(&qemu, &fork, 600, 300)?;
        println!("{:24} {:7} MiB", "fork holds", saving.resident(&fork)? / MIB);
        effort("save, fork, first", || saving.save(&fork))?;
        timed("resume", || saving.resume(&fork))?;
        fill(&qemu, &fork, 600, 300)?;
        effort("save, fork, later", || saving.save(&fork))?;
        timed("checkpoint, saved", || saving.checkpoint(&fork, &rest))?;
        timed("resume", || saving.resume(&fork))?;
        fill(&qemu, &fork, 600, 100)?;
        effort("checkpoint, 100 MiB", || saving.checkpoint(&fork, &again))?;
        qemu.remove(&fork)?;
        fs::remove_dir_all(&again)?;
        fs::remove_dir_all(&rest)?;
    }
    for path in [&source.dir, &layer, &mark] {
        if path.exists() {
            fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

/// Random bytes at this place of the guest's memory, as if it had written them.
fn fill(qemu: &Qemu, spec: &MachineSpec, at: u64, mib: u64) -> Result<(), Box<dyn std::error::Error>> {
    let pid = qemu.endpoint(spec)?.pid.ok_or("no process")?;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let ram = maps
        .lines()
        .find(|line| line.contains("memory-backend-memfd") || line.contains("ram.img"));
    let (start, _) = ram.and_then(|line| line.split_once('-')).ok_or("no memory")?;
    let mut memory = OpenOptions::new().write(true).open(format!("/proc/{pid}/mem"))?;
    memory.seek(SeekFrom::Start(u64::from_str_radix(start, 16)? + at * MIB))?;
    io::copy(&mut File::open("/dev/urandom")?.take(mib * MIB), &mut memory)?;
    Ok(())
}

fn timed<T>(what: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let done = act()?;
    println!("{what:24} {:7.0} ms", start.elapsed().as_secs_f64() * 1e3);
    Ok(done)
}

fn effort(what: &str, act: impl FnOnce() -> Result<Effort>) -> Result<()> {
    let start = Instant::now();
    let Effort { paused, written } = act()?;
    println!(
        "{what:24} {:7.0} ms, guest held {:5.0} ms, {} MiB written",
        start.elapsed().as_secs_f64() * 1e3,
        paused.as_secs_f64() * 1e3,
        written / MIB
    );
    Ok(())
}
