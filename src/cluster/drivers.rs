//! The one file that names concrete drivers.

use std::ffi::OsString;
use std::path::PathBuf;

use sampan_driver::Driver;
use sampan_driver_external::External;
use sampan_driver_hyperkit::{Hyperkit, HyperkitConfig};
use sampan_driver_qemu::{Qemu, QemuConfig};
use sampan_driver_virtualbox::{VirtualBox, VirtualBoxConfig};

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

/// Names of the drivers that are part of this program, best first: a new cluster gets the first one that works.
pub(super) const PREFERRED: [&str; 3] = ["qemu", "virtualbox", "hyperkit"];

/// Names of the drivers a user may choose, best first; behind our own those that are programs on the search path.
pub fn driver_names(options: &DriverOptions) -> Vec<String> {
    let own = PREFERRED.into_iter().chain(options.fake.then_some("fake"));
    let mut names: Vec<String> = own.map(str::to_owned).collect();
    let others = sampan_driver_external::names(options.search_path.as_deref());
    names.extend(others.into_iter().filter(|name| !is_own(name)));
    names
}

/// Whether a name is taken by a driver of ours, be it one that may not be used here.
fn is_own(name: &str) -> bool {
    name == "fake" || PREFERRED.contains(&name)
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
        "virtualbox" => Ok(Box::new(VirtualBox::new(VirtualBoxConfig {
            search_path: options.search_path.clone(),
            program: None,
        }))),
        "hyperkit" => Ok(Box::new(Hyperkit::new(HyperkitConfig {
            search_path: options.search_path.clone(),
            ..HyperkitConfig::default()
        }))),
        _ => external(name, cache, options),
    }
}

/// A driver that is a program of its own.
fn external(name: &str, cache: PathBuf, options: &DriverOptions) -> Result<Box<dyn Driver>> {
    let program = sampan_driver_external::find(name, options.search_path.as_deref());
    match program.filter(|_| !is_own(name)) {
        Some(program) => Ok(Box::new(External::new(name, program, cache))),
        None => Err(
            Error::new(Kind::DriverUnsupported, format!("there is no driver \"{name}\"")).hint(format!(
                "choose one of: {}; or put a program sampan-driver-{name} on the PATH",
                driver_names(options).join(", ")
            )),
        ),
    }
}

/// An ordinary kernel to try accelerators with, once there is a bundle.
fn probe_kernel(layout: &Layout) -> Option<PathBuf> {
    let kernel = bundle::any(layout)?.layout.kernel();
    kernel.exists().then_some(kernel)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn programs_on_the_search_path_are_drivers_unless_a_name_is_ours() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["toy", "qemu", "fake"] {
            let path = dir.path().join(format!("sampan-driver-{name}"));
            fs::write(&path, "#!/bin/sh\nexit 1\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let options = DriverOptions {
            search_path: Some(dir.path().as_os_str().to_owned()),
            ..DriverOptions::default()
        };
        assert!(driver_names(&options).ends_with(&["toy".to_owned()]));
        assert!(!driver_names(&options).contains(&"fake".to_owned()));
        let layout = Layout::under(dir.path());
        let toy = open_driver("toy", &layout, &options).unwrap();
        assert_eq!(toy.name(), "toy");
        assert!(toy.check().unwrap_err().to_string().contains("no answer"));
        for name in ["none", "fake", "../toy"] {
            let error = open_driver(name, &layout, &options).err().unwrap();
            assert_eq!(error.kind(), Kind::DriverUnsupported, "{name}");
        }
    }
}
