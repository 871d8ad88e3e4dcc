//! Fetches one file with `sampan::fetch` and says what it took. For `bench/fetch`.
//!
//! Usage: `fetch URL SHA256 STORE [RETRIES]`

#![expect(clippy::print_stdout, reason = "that is what it is for")]

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use sampan::fetch::{Expect, Fetcher, Object, Settings};
use sampan::progress::{Cancel, Silent};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || {
        arguments
            .next()
            .context("usage: fetch URL SHA256 STORE [RETRIES]")
    };
    let (url, sum, store) = (next()?, next()?, PathBuf::from(next()?));
    let mut settings = Settings::default();
    if let Ok(retries) = next() {
        settings.retries = retries.parse()?;
    }
    let object = Object {
        name: "file".to_owned(),
        url,
        expect: Expect::Sha256(sum),
        most: None,
    };
    let began = Instant::now();
    let fetcher = Fetcher::new(&store, settings)?;
    let fetched = fetcher.fetch(&[object], &Silent, &Cancel::default());
    let seconds = began.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    println!("seconds {seconds:.3}");
    println!("peak {}", peak.context("no VmHWM in /proc/self/status")?.trim());
    println!("path {}", fetched?[0].path.display());
    Ok(())
}
