//! What the memory of a running machine is: `pss PID [SECONDS]` prints the proportional share (PSS) of a QEMU process in MiB, by
//! kind, once or every so many seconds.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// One mapping in `/proc/PID/smaps`; sizes in KiB.
#[derive(Debug, Default)]
struct Mapping {
    rights: String,
    path: String,
    rss: u64,
    pss: u64,
    /// Pages that are the process's own: of a private view of a file, those it has written to.
    anonymous: u64,
    swapped: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let pid: u32 = args.next().ok_or("give a process id")?.parse()?;
    let every: Option<u64> = args.next().map(|text| text.parse()).transpose()?;
    let start = Instant::now();
    println!(
        "{:>6} {}",
        "s",
        COLUMNS.map(|(name, _)| format!("{name:>14}")).join("")
    );
    loop {
        let mappings = mappings(&fs::read_to_string(format!("/proc/{pid}/smaps"))?);
        let sizes = COLUMNS.map(|(_, size)| mappings.iter().map(size).sum::<u64>() >> 10);
        let line = sizes.map(|size| format!("{size:>14}")).join("");
        println!("{:>6} {line}", start.elapsed().as_secs());
        let Some(every) = every else { return Ok(()) };
        thread::sleep(Duration::from_secs(every));
    }
}

type Column = (&'static str, fn(&Mapping) -> u64);

/// The first is the sum of the next four.
const COLUMNS: [Column; 7] = [
    ("pss", |mapping| mapping.pss),
    ("guest-shared", |mapping| {
        let shared = mapping.pss.saturating_sub(mapping.anonymous);
        shared * u64::from(is_guest(mapping))
    }),
    ("guest-own", |mapping| {
        mapping.pss.min(mapping.anonymous) * u64::from(is_guest(mapping))
    }),
    ("translations", |mapping| {
        mapping.pss * u64::from(is_code(mapping))
    }),
    ("rest", |mapping| {
        mapping.pss * u64::from(!is_guest(mapping) && !is_code(mapping))
    }),
    ("guest-rss", |mapping| mapping.rss * u64::from(is_guest(mapping))),
    ("swapped", |mapping| mapping.swapped),
];

/// The guest's memory: a view of a layer's or of its own file, or an anonymous file (then nothing counts as its own).
fn is_guest(mapping: &Mapping) -> bool {
    mapping.path.contains("memory-backend") || mapping.path.ends_with("/ram.img")
}

/// Translated code, under emulation: anonymous and executable.
fn is_code(mapping: &Mapping) -> bool {
    mapping.path.is_empty() && mapping.rights.contains('x')
}

fn mappings(text: &str) -> Vec<Mapping> {
    let mut all: Vec<Mapping> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [first, second, ..] = words[..] else { continue };
        let size = second.parse().unwrap_or(0);
        match (first, all.last_mut()) {
            ("Rss:", Some(mapping)) => mapping.rss = size,
            ("Pss:", Some(mapping)) => mapping.pss = size,
            ("Anonymous:", Some(mapping)) => mapping.anonymous = size,
            ("Swap:", Some(mapping)) => mapping.swapped = size,
            _ if !first.ends_with(':') => all.push(Mapping {
                rights: second.to_owned(),
                path: words[5.min(words.len())..].join(" "),
                ..Mapping::default()
            }),
            _ => {}
        }
    }
    all
}
