//! What the process finds around it: variables, directories, the size of the host.

use std::path::{Path, PathBuf};

use crate::cluster::DriverOptions;
use crate::error::{Error, Kind, Result};
use crate::layout::Layout;

/// A variable of the environment; none when it is unset, empty or no text.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Our directories: below `SAMPAN_HOME`, else where the platform wants them. `SAMPAN_CACHE` moves what can be made again, so that
/// several homes share it.
pub(super) fn layout() -> Result<Layout> {
    let mut layout = directories()?;
    if let Some(cache) = variable("SAMPAN_CACHE") {
        layout.cache = std::path::absolute(&cache).map_err(Error::io(Path::new(&cache)))?;
    }
    Ok(layout)
}

fn directories() -> Result<Layout> {
    if let Some(home) = variable("SAMPAN_HOME") {
        // Drivers and kubectl run elsewhere, so a relative path would mean another place to them.
        let home = std::path::absolute(&home).map_err(Error::io(Path::new(&home)))?;
        return Ok(Layout::under(&home));
    }
    let dirs = directories::ProjectDirs::from("dev", "sampan", "sampan").ok_or_else(|| {
        Error::new(
            Kind::HostHome,
            "cannot tell where your files belong: there is no home directory",
        )
        .hint("set HOME, or SAMPAN_HOME to a directory of yours")
    })?;
    Ok(Layout {
        config: dirs.config_dir().to_owned(),
        data: dirs.data_dir().to_owned(),
        cache: dirs.cache_dir().to_owned(),
    })
}

/// The kubeconfig files, in the order of `KUBECONFIG`.
pub(super) fn kubeconfig() -> Result<Vec<PathBuf>> {
    let listed: Vec<PathBuf> = std::env::var_os("KUBECONFIG")
        .map(|paths| {
            std::env::split_paths(&paths)
                .filter(|path| !path.as_os_str().is_empty())
                .collect()
        })
        .unwrap_or_default();
    if !listed.is_empty() {
        return Ok(listed);
    }
    let dirs = directories::BaseDirs::new().ok_or_else(|| {
        Error::new(
            Kind::Kubeconfig,
            "cannot tell where your kubeconfig is: there is no home directory",
        )
        .hint("set HOME, or KUBECONFIG to a file of yours")
    })?;
    Ok(vec![dirs.home_dir().join(".kube/config")])
}

/// The directory of the user's `docker` client.
pub(super) fn docker_config() -> Result<PathBuf> {
    if let Some(dir) = variable("DOCKER_CONFIG") {
        return Ok(PathBuf::from(dir));
    }
    let dirs = directories::BaseDirs::new().ok_or_else(|| {
        Error::new(
            Kind::HostHome,
            "cannot tell where Docker's contexts are: there is no home directory",
        )
        .hint("set HOME, or DOCKER_CONFIG to a directory of yours")
    })?;
    Ok(dirs.home_dir().join(".docker"))
}

/// The name of the program that started this one, where the system tells.
pub(super) fn parent_program() -> Option<String> {
    let parent = rustix::process::getppid()?;
    let name = std::fs::read_to_string(format!("/proc/{}/comm", parent.as_raw_nonzero())).ok()?;
    Some(name.trim().to_owned())
}

/// What drivers need to know. The test driver is there for those who ask for it.
pub(super) fn drivers() -> Result<DriverOptions> {
    let program = std::env::current_exe().map_err(Error::io(Path::new("this program")))?;
    Ok(DriverOptions {
        program,
        fake: variable("SAMPAN_ENABLE_FAKE_DRIVER").is_some(),
        search_path: std::env::var_os("PATH"),
    })
}

/// The host's memory in MiB.
pub(super) fn memory_mib() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(info.mem_unit.into()) / 1024 / 1024
}

/// The host's CPUs that this process may use.
pub(super) fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}

/// A program that a shell would find.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths)
        .map(|dir| dir.join(name))
        .find(|path| {
            use std::os::unix::fs::PermissionsExt;
            path.metadata()
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
}

/// Becomes another program, with our own standard streams; comes back only when that fails.
pub(super) fn become_program(mut process: std::process::Command) -> Error {
    use std::os::unix::process::CommandExt;
    let program = process.get_program().to_string_lossy().into_owned();
    let error = process.exec();
    Error::new(Kind::HostTool, format!("cannot run {program}")).because(error)
}

/// Is the machine of the test driver, until it is told to end.
pub(super) fn fake_machine(dir: &Path) -> Result<u8> {
    if variable("SAMPAN_ENABLE_FAKE_DRIVER").is_none() {
        return Err(Error::new(Kind::Usage, "unknown command `__fake-machine`")
            .hint("`sampan help`, or `--help` behind a command, tells what there is"));
    }
    let ended = sampan_driver_fake::run_machine(dir);
    Ok(u8::from(ended != std::process::ExitCode::SUCCESS))
}
