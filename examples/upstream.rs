//! Serves a directory on loopback as tests' upstream does, until it is ended: `HOST/PATH` of it is `https://HOST/PATH` to who has it as a
//! mirror. Prints its address, and then a line for each answer. For `bench/fetch`, and to try a mirror by hand.
//!
//! Usage: `upstream DIR [PATH BYTES]`: the first answer for PATH is cut after so many bytes.

#![expect(clippy::print_stdout, reason = "that is what it is for")]

use std::io::Write;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use sampan_test_support::upstream::{Plan, Upstream};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().context("usage: upstream DIR [PATH BYTES]")?);
    let upstream = Upstream::serve(&dir);
    if let (Some(path), Some(bytes)) = (arguments.next(), arguments.next()) {
        upstream.next(&path, Plan::cut(bytes.parse()?));
    }
    println!("{}", upstream.url());
    let mut said: Vec<(u16, u64)> = Vec::new();
    loop {
        std::io::stdout().flush()?;
        thread::sleep(Duration::from_millis(20));
        for (number, served) in upstream.served().iter().enumerate() {
            let now = (served.status, served.sent);
            if said.get(number) != Some(&now) {
                said.resize(said.len().max(number + 1), (0, 0));
                said[number] = now;
                println!("{number} {} {} {}", served.path, served.status, served.sent);
            }
        }
    }
}
