//! Disks without copies: VirtualBox reads raw images through a small text file that says where their bytes are.
//!
//! Such a *descriptor* is the VMDK format's way to put a disk together from pieces ("Virtual Disk Format 1.1", VMware): lines of
//! access, sectors, kind, file, offset. The bundle's base disk becomes one of the size that the machine wants, by a piece of zeros
//! behind it, and the machine's own disk is an empty layer over that. Making it takes a tenth of a second, and nothing is streamed.
//! The other disks are descriptors alone, so the guest sees their files as they are at each boot.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use sampan_driver::{DriverError, Result};

/// Bytes in a sector.
const SECTOR: u64 = 512;
/// Sectors in a MiB.
const MIB: u64 = 2048;

/// The names of a machine's files.
pub(crate) struct Files<'a>(pub(crate) &'a Path);

impl Files<'_> {
    /// What the machine wrote.
    pub(crate) fn disk(&self) -> PathBuf {
        self.0.join("disk.vdi")
    }

    /// Where the bytes below it are.
    pub(crate) fn base(&self) -> PathBuf {
        self.0.join("base.vmdk")
    }

    /// Where the bytes of another disk are.
    pub(crate) fn extra(&self, number: usize) -> PathBuf {
        self.0.join(format!("extra-{number}.vmdk"))
    }

    /// VirtualBox's own directory of the machine: settings, logs, what was written to the other disks until the next boot.
    pub(crate) fn settings(&self) -> PathBuf {
        self.0.join("vm")
    }

    pub(crate) fn serial_log(&self) -> PathBuf {
        self.0.join("serial.log")
    }
}

/// The text of a descriptor of a raw image, with zeros behind it up to `size_mib`.
fn text(raw: &Path, bytes: u64, size_mib: Option<u64>, uuid: &str) -> Result<String> {
    let shown = raw.to_string_lossy();
    let unfit = |what: &str, hint: &str| DriverError::Unsupported {
        what: format!("VirtualBox cannot read {}: {what}", raw.display()),
        hint: hint.to_owned(),
    };
    if shown.contains(['"', '\n']) {
        return Err(unfit(
            "there is a quote in its path",
            "set SAMPAN_HOME to a directory of a plainer name",
        ));
    }
    if bytes == 0 || !bytes.is_multiple_of(SECTOR) {
        return Err(unfit(
            &format!("{bytes} bytes are no whole sectors"),
            "check the file; `sampan cache verify` checks bundles",
        ));
    }
    let sectors = bytes / SECTOR;
    let wanted = size_mib.map_or(sectors, |size| size * MIB);
    let mut pieces = format!("RDONLY {sectors} FLAT \"{shown}\" 0\n");
    if wanted > sectors {
        let _ = writeln!(pieces, "RDONLY {} ZERO", wanted - sectors);
    }
    Ok(format!(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"twoGbMaxExtentFlat\"\n\n\
         # Extent description\n{pieces}\n# The Disk Data Base\n#DDB\n\nddb.adapterType = \"lsilogic\"\n\
         ddb.virtualHWVersion = \"4\"\nddb.uuid.image=\"{uuid}\"\n"
    ))
}

/// Makes a descriptor say what it has to. VirtualBox adds lines of its own, so only the pieces are compared. True when it had to be
/// written: VirtualBox may have another one in its memory.
pub(crate) fn describe(at: &Path, raw: &Path, size_mib: Option<u64>, uuid: &str) -> Result<bool> {
    let bytes = fs::metadata(raw).map_err(DriverError::io(raw))?.len();
    let text = text(raw, bytes, size_mib, uuid)?;
    let pieces = |text: &str| -> Vec<String> {
        let is_piece = |line: &&str| line.starts_with("RDONLY ") || line.starts_with("ddb.uuid.image");
        text.lines().filter(is_piece).map(str::to_owned).collect()
    };
    match fs::read_to_string(at) {
        Ok(found) if pieces(&found) == pieces(&text) => return Ok(false),
        _ => {}
    }
    let new = at.with_extension("vmdk.new");
    fs::write(&new, text).map_err(DriverError::io(&new))?;
    fs::rename(&new, at).map_err(DriverError::io(at))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_an_image_and_zeros_behind_it() {
        let text = text(Path::new("/b/disk, 1.raw"), 3 * 1024 * 1024, Some(8), "u-1").unwrap();
        assert!(
            text.contains("\nRDONLY 6144 FLAT \"/b/disk, 1.raw\" 0\nRDONLY 10240 ZERO\n"),
            "{text}"
        );
        assert!(text.contains("\nddb.uuid.image=\"u-1\"\n"), "{text}");
    }

    #[test]
    fn one_that_says_the_same_is_left_as_virtualbox_wrote_it() {
        let dir = tempfile::tempdir().unwrap();
        let (at, raw) = (dir.path().join("x.vmdk"), dir.path().join("raw"));
        fs::write(&raw, [0; 1024]).unwrap();
        assert!(describe(&at, &raw, None, "u").unwrap());
        let touched = fs::read_to_string(&at).unwrap() + "ddb.geometry.heads=\"16\"\n";
        fs::write(&at, &touched).unwrap();
        assert!(!describe(&at, &raw, None, "u").unwrap());
        assert_eq!(fs::read_to_string(&at).unwrap(), touched);
        fs::write(&raw, [0; 2048]).unwrap();
        assert!(describe(&at, &raw, None, "u").unwrap());
    }

    #[test]
    fn what_virtualbox_could_not_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let raw = dir.path().join("raw");
        fs::write(&raw, [0; 700]).unwrap();
        let error = describe(&dir.path().join("x.vmdk"), &raw, None, "u")
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("700 bytes are no whole sectors"), "{error}");
        assert!(text(Path::new("/a\"b"), 512, None, "u").is_err());
        let gone = describe(&dir.path().join("x.vmdk"), &dir.path().join("gone"), None, "u");
        assert!(gone.unwrap_err().to_string().contains("gone: No such file"));
    }
}
