//! hyperkit's command line.
//!
//! The switches are those of `hyperkit.c` and, in this order, of the Go package in hyperkit's own repository (`go/hyperkit.go`),
//! which minikube used: what is known to work together.

use std::path::{Path, PathBuf};

use sampan_driver::{DirectBoot, DriverError, Result};

/// hyperkit's ACPI tables describe eight devices on one bus (`acpitbl.c`): slots 0 to 6 and the LPC bridge.
const LAST_SLOT: usize = 6;

/// A machine in hyperkit's terms.
#[derive(Debug, Clone)]
pub(crate) struct Arguments {
    /// `-F`: where it writes its process id; must not exist.
    pub(crate) pidfile: PathBuf,
    /// `-c`: virtual CPUs.
    pub(crate) cpus: u32,
    /// `-m`: memory.
    pub(crate) memory_mib: u64,
    /// `-U`: the machine's UUID. macOS derives the network card's address from it.
    pub(crate) uuid: String,
    /// `-s N:0,virtio-blk`: the system disk.
    pub(crate) disk: PathBuf,
    /// Further disks, read-only.
    pub(crate) extra_disks: Vec<PathBuf>,
    /// `-l com1,autopty=`: a link to the console's terminal.
    pub(crate) tty: PathBuf,
    /// `-l com1,…,log=`: a ring of what the console printed.
    pub(crate) console: PathBuf,
    /// `-f kexec,…`: what is booted.
    pub(crate) boot: DirectBoot,
}

impl Arguments {
    /// The command line, without the program. hyperkit knows no way to write a comma within a value.
    ///
    /// # Errors
    /// When a path has a comma in it, or there are more disks than slots.
    pub(crate) fn render(&self) -> Result<Vec<String>> {
        let mut line: Vec<String> = vec!["-A".into(), "-u".into()];
        line.push("-F".into());
        line.push(self.pidfile.to_string_lossy().into_owned());
        let mut switch = |name: &str, value: String| line.extend([format!("-{name}"), value]);
        switch("c", self.cpus.to_string());
        switch("m", format!("{}M", self.memory_mib));
        switch("s", "0:0,hostbridge".into());
        switch("s", "31,lpc".into());
        switch("s", "1:0,virtio-net".into());
        switch("U", self.uuid.clone());
        let mut slot = 2;
        switch("s", format!("{slot}:0,virtio-blk,{}", plain(&self.disk)?));
        for disk in &self.extra_disks {
            slot += 1;
            switch("s", format!("{slot}:0,virtio-blk,{},ro", plain(disk)?));
        }
        slot += 1;
        if slot > LAST_SLOT {
            return Err(DriverError::Unsupported {
                what: format!("hyperkit has no slot for {} disks", self.extra_disks.len() + 1),
                hint: "use the qemu driver".to_owned(),
            });
        }
        switch("s", format!("{slot},virtio-rnd"));
        switch(
            "l",
            format!("com1,autopty={},log={}", plain(&self.tty)?, plain(&self.console)?),
        );
        let DirectBoot {
            kernel,
            initrd,
            cmdline,
        } = &self.boot;
        // What follows the third comma is the kernel's, commas and all.
        let (kernel, initrd) = (plain(kernel)?, plain(initrd)?);
        switch("f", format!("kexec,{kernel},{initrd},{}", cmdline.trim()));
        Ok(line)
    }
}

fn plain(path: &Path) -> Result<std::borrow::Cow<'_, str>> {
    let text = path.to_string_lossy();
    if text.contains(',') {
        return Err(DriverError::Unsupported {
            what: format!("hyperkit cannot use {text}: there is a comma in its name"),
            hint: "keep sampan's files in a directory without commas (SAMPAN_HOME, SAMPAN_CACHE)".to_owned(),
        });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments() -> Arguments {
        let at = |name: &str| Path::new("/p/demo/machine").join(name);
        Arguments {
            pidfile: at("hyperkit.pid"),
            cpus: 2,
            memory_mib: 4096,
            uuid: "5d1b7c1e-98a9-4c7d-8f5e-0c2e8d1f9a10".into(),
            disk: at("disk.raw"),
            extra_disks: vec!["/p/demo/seed.img".into(), "/c/My Files/parts.img".into()],
            tty: at("tty"),
            console: at("console-ring"),
            boot: DirectBoot {
                kernel: "/c/bzimage".into(),
                initrd: "/c/initrd.img".into(),
                cmdline: "root=LABEL=sampan-root rw console=ttyS0,115200 panic=10\n".into(),
            },
        }
    }

    #[test]
    fn the_whole_command_line() {
        let line = arguments().render().unwrap();
        let expected = [
            "-A",
            "-u",
            "-F",
            "/p/demo/machine/hyperkit.pid",
            "-c",
            "2",
            "-m",
            "4096M",
            "-s",
            "0:0,hostbridge",
            "-s",
            "31,lpc",
            "-s",
            "1:0,virtio-net",
            "-U",
            "5d1b7c1e-98a9-4c7d-8f5e-0c2e8d1f9a10",
            "-s",
            "2:0,virtio-blk,/p/demo/machine/disk.raw",
            "-s",
            "3:0,virtio-blk,/p/demo/seed.img,ro",
            "-s",
            "4:0,virtio-blk,/c/My Files/parts.img,ro",
            "-s",
            "5,virtio-rnd",
            "-l",
            "com1,autopty=/p/demo/machine/tty,log=/p/demo/machine/console-ring",
            "-f",
            "kexec,/c/bzimage,/c/initrd.img,root=LABEL=sampan-root rw console=ttyS0,115200 panic=10",
        ];
        assert_eq!(line, expected);
    }

    #[test]
    fn without_further_disks() {
        let mut arguments = arguments();
        arguments.extra_disks.clear();
        let line = arguments.render().unwrap().join(" ");
        assert!(line.contains("disk.raw -s 3,virtio-rnd -l com1"), "{line}");
    }

    #[test]
    fn what_hyperkit_cannot_be_told_is_refused() {
        let mut comma = arguments();
        comma.disk = "/p/a,ro/disk.raw".into();
        let error = comma.render().unwrap_err();
        assert!(error.to_string().contains("/p/a,ro/disk.raw"), "{error}");
        let mut many = arguments();
        many.extra_disks = vec!["/a".into(); 3];
        assert!(many.render().is_ok());
        many.extra_disks.push("/a".into());
        let error = many.render().unwrap_err();
        assert_eq!(error.to_string(), "hyperkit has no slot for 5 disks");
    }
}
