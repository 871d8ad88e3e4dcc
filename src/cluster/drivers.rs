//! The one file that names concrete drivers.

use std::ffi::OsString;
use std::path::PathBuf;

use sampan_driver::Driver;
use sampan_driver_qemu::{Qemu, QemuConfig};

use crate::bundle;

use crate::error::{Error, Kind, Result};
use crate::layout::Layout;

/// What drivers need to know of the host, found out by `commands`.
#[derive(Debug, Clone, Default)]
pub struct DriverOptions {
    /// This program, for the test driver's machines.
    pub program: PathBuf,
    /// Whether the test driver may be used.
    pub fake: bool,
    /// Where programs are looked for, as in PATH; none means the usual directories.
    pub search_path: Option<OsString>,
}

/// Names of the drivers a user may choose, best first.
pub fn driver_names(options: &DriverOptions) -> Vec<&'static str> {
    if options.fake {
        vec!["qemu", "fake"]
    } else {
        vec!["qemu"]
    }
}

/// A driver by its name.
///
/// # Errors
/// [`Kind::Usage`] when there is no such driver.
pub fn open_driver(name: &str, layout: &Layout, options: &DriverOptions) -> Result<Box<dyn Driver>> {
    let cache = layout.driver_cache(name);
    match name {
        "qemu" => Ok(Box::new(Qemu::new(QemuConfig {
            cache_dir: cache,
            probe_kernel: probe_kernel(layout),
            search_path: options.search_path.clone(),
            ..QemuConfig::default()
        }))),
        "fake" if options.fake => Ok(Box::new(sampan_driver_fake::Fake::new(
            cache,
            options.program.clone(),
        ))),
        _ => Err(
            Error::new(Kind::DriverUnsupported, format!("there is no driver \"{name}\""))
                .hint(format!("choose one of: {}", driver_names(options).join(", "))),
        ),
    }
}

/// An ordinary kernel to try accelerators with, once there is a bundle.
fn probe_kernel(layout: &Layout) -> Option<PathBuf> {
    let bundle = bundle::find(layout, &bundle::current_key().ok()?).ok()??;
    Some(bundle.layout.kernel())
}
