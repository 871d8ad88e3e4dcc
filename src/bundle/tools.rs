//! What a build needs on the host, looked for before anything starts, and reported all at once.

use sampan_driver::{Command, Host, Runner};

use crate::error::{Error, Kind, Result};

/// How something on the host is looked for.
enum Probe {
    /// A program.
    Program(&'static str),
    /// A file.
    File(&'static str),
    /// A library with headers, by its pkg-config name.
    Library(&'static str),
    /// A module of Python's.
    Python(&'static str),
}

/// What is needed, and the Debian package that has it.
const NEEDED: &[(Probe, &str)] = &[
    (Probe::Program("go"), "golang-go"),
    (Probe::Program("cc"), "gcc"),
    (Probe::File("/usr/include/stdio.h"), "libc6-dev"),
    (Probe::Program("pkg-config"), "pkg-config"),
    (Probe::Library("libseccomp"), "libseccomp-dev"),
    (Probe::Program("mmdebstrap"), "mmdebstrap"),
    (
        Probe::File("/usr/share/keyrings/debian-archive-keyring.gpg"),
        "debian-archive-keyring",
    ),
    (Probe::Program("mke2fs"), "e2fsprogs"),
    (Probe::Program("debugfs"), "e2fsprogs"),
    (Probe::Program("sfdisk"), "fdisk"),
    (Probe::Program("grub-mkimage"), "grub-common"),
    (Probe::File("/usr/lib/grub/i386-pc/boot.img"), "grub-pc-bin"),
    (
        Probe::File("/usr/lib/grub/x86_64-efi/moddep.lst"),
        "grub-efi-amd64-bin",
    ),
    (Probe::Program("mkfs.fat"), "dosfstools"),
    (Probe::Program("mcopy"), "mtools"),
    (Probe::Program("cpio"), "cpio"),
    (Probe::Program("xz"), "xz-utils"),
    (Probe::Program("zstd"), "zstd"),
    (Probe::Program("python3"), "python3"),
    (Probe::Python("pip"), "python3-pip"),
];

/// What is needed besides when the user is not root.
const NEEDED_BY_USERS: &[(Probe, &str)] = &[(Probe::Program("newuidmap"), "uidmap")];

/// What it takes to put a bundle together of what was fetched.
const NEEDED_TO_FETCH: &[(Probe, &str)] = &[
    (Probe::Program("mke2fs"), "e2fsprogs"),
    (Probe::Program("debugfs"), "e2fsprogs"),
    (Probe::Program("qemu-img"), "qemu-utils"),
];

impl Probe {
    /// A shell condition.
    fn condition(&self) -> String {
        match self {
            Self::Program(name) => format!("command -v {name} >/dev/null"),
            Self::File(path) => format!("test -e {path}"),
            Self::Library(name) => format!("pkg-config --exists {name} 2>/dev/null"),
            Self::Python(name) => format!("python3 -c 'import {name}' 2>/dev/null"),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Program(name) | Self::File(name) => (*name).to_owned(),
            Self::Library(name) => format!("{name} (headers)"),
            Self::Python(name) => format!("{name} for Python"),
        }
    }
}

/// Checks that all is there for a build.
///
/// # Errors
/// [`Kind::Unimplemented`] for an architecture without a recipe; [`Kind::HostTool`] naming everything that is missing and how to install it.
pub(super) fn check(arch: &str) -> Result<()> {
    check_arch(arch)?;
    let is_root = rustix::process::geteuid().is_root();
    let needed: Vec<&(Probe, &str)> = NEEDED
        .iter()
        .chain(NEEDED_BY_USERS.iter().filter(|_| !is_root))
        .collect();
    all_there(&needed)
}

/// The recipe of the base system (kernel package, boot loaders) is for PCs only.
fn check_arch(arch: &str) -> Result<()> {
    if arch == "amd64" {
        return Ok(());
    }
    let what = format!("the base system cannot be built for {arch} yet, only for amd64");
    Err(Error::new(Kind::Unimplemented, what)
        .hint("take upstream's releases, which have it: `--source upstream`, or a bundle file of a host of this kind"))
}

/// Checks that all is there for a bundle of what was fetched.
///
/// # Errors
/// As [`check`].
pub(super) fn check_for_fetch() -> Result<()> {
    all_there(&NEEDED_TO_FETCH.iter().collect::<Vec<_>>())
}

/// Checks that Go is there, for a component of ours that nobody publishes.
///
/// # Errors
/// As [`check`].
pub(super) fn check_for_component(name: &str) -> Result<()> {
    all_there(&[&(Probe::Program("go"), "golang-go")]).map_err(|error| {
        error.hint(format!(
            "{name} is part of sampan and has no public release yet: it is compiled here, unless --source is a mirror that has it"
        ))
    })
}

fn all_there(needed: &[&(Probe, &'static str)]) -> Result<()> {
    let missing = missing(needed)?;
    if missing.is_empty() {
        return Ok(());
    }
    let is_root = rustix::process::geteuid().is_root();
    let names: Vec<String> = missing.iter().map(|(probe, _)| probe.name()).collect();
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    let sudo = if is_root { "" } else { "sudo " };
    Err(Error::new(
        Kind::HostTool,
        format!("missing on this host: {}", names.join(", ")),
    )
    .hint(format!(
        "{sudo}apt-get install --no-install-recommends {} (or what your system calls them)",
        packages.join(" ")
    )))
}

fn missing<'a>(needed: &[&'a (Probe, &'static str)]) -> Result<Vec<&'a (Probe, &'static str)>> {
    let script: String = needed
        .iter()
        .enumerate()
        .map(|(number, (probe, _))| format!("{} || echo {number}\n", probe.condition()))
        .collect();
    // System programs are not in every user's search path.
    let script = format!("PATH=\"$PATH:/usr/sbin:/sbin\"\n{script}");
    let output = Host.run(&Command::shell(script))?;
    let numbers = output.text();
    Ok(numbers
        .lines()
        .filter_map(|line| needed.get(line.trim().parse::<usize>().ok()?).copied())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_named() {
        let needed = [
            (Probe::Program("sh"), "dash"),
            (Probe::Program("sampan-no-such-program"), "one"),
            (Probe::File("/sampan/no/such/file"), "two"),
            (Probe::Library("sampan-no-such-library"), "three"),
            (Probe::File("/"), "base"),
            (Probe::Python("sampan_no_such_module"), "four"),
            (Probe::Python("zipfile"), "python3"),
        ];
        let needed: Vec<_> = needed.iter().collect();
        let packages: Vec<_> = missing(&needed)
            .unwrap()
            .into_iter()
            .map(|(_, package)| *package)
            .collect();
        assert_eq!(packages, ["one", "two", "three", "four"]);
    }

    #[test]
    fn a_base_is_built_for_pcs_only_and_says_so_before_anything_else() {
        check_arch("amd64").unwrap();
        let error = check_arch("arm64").unwrap_err();
        assert_eq!(error.kind(), Kind::Unimplemented);
        assert!(error.to_string().contains("arm64"), "{error}");
        assert!(error.hints()[0].contains("--source upstream"));
    }
}
