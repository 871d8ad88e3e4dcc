//! Makes this sampan's bundle under another patch version of Kubernetes, for tests of upgrades: `variant-bundle CACHE VERSION DIR`.
//!
//! CACHE has the build cache of `sampan bundle build`; with it, only one program is linked again. `sampan start --source DIR
//! --kubernetes-version VERSION` upgrades a cluster to it. A DIR that is there already stays.

#![expect(clippy::print_stderr, reason = "a program")]

use std::path::Path;
use std::process::ExitCode;

use sampan::bundle::variant;
use sampan::error::{Error, Kind, Result};
use sampan::layout::Layout;
use sampan::progress::{Cancel, Silent};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("variant-bundle: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let [cache, version, dir] = args else {
        return Err(Error::new(Kind::Usage, "usage: variant-bundle CACHE VERSION DIR"));
    };
    let (cache, dir) = (Path::new(cache), Path::new(dir));
    if dir.exists() {
        return Ok(());
    }
    let layout = Layout {
        cache: cache.to_owned(),
        ..Layout::under(cache)
    };
    variant::build_as(&layout, version, dir, &Silent, &Cancel::default()).map(drop)
}
