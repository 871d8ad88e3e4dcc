//! The QEMU driver out of the tree: a program that speaks the protocol of `docs/drivers.md`. Called `sampan-driver-NAME` and put on the
//! PATH, it runs whole clusters with `sampan start --driver NAME`, without what the protocol has not (snapshots):
//!
//!     cargo build -p sampan-driver-qemu --example external
//!     ln -s "$PWD/target/debug/examples/external" ~/.local/bin/sampan-driver-mine

use std::io;

use sampan_driver_external::serve;
use sampan_driver_qemu::{Qemu, QemuConfig};

fn main() -> io::Result<()> {
    let driver = |cache: &std::path::Path| {
        Qemu::new(QemuConfig {
            cache_dir: cache.to_owned(),
            search_path: std::env::var_os("PATH"),
            ..QemuConfig::default()
        })
    };
    serve(driver, io::stdin().lock(), io::stdout().lock())
}
