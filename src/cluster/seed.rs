//! The seed: a small FAT image from which the guest reads who it is, before its sshd starts.
//!
//! The file names are those of cloud-init's NoCloud source, so that cloud images can use the same seed; what sampan's own
//! base reads is below `sampan/`.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};

use crate::error::{Error, Result};
use crate::store::atomic;

/// Big enough for FAT12 and the keys.
const SIZE: u64 = 512 * 1024;

/// Writes the image at `path`, mode 0600: file name in the image and contents. Directories are made.
///
/// # Errors
/// When the image cannot be written.
pub(super) fn write(path: &Path, files: &[(&str, Vec<u8>)]) -> Result<()> {
    let mut image = io::Cursor::new(vec![0; SIZE as usize]);
    fill(&mut image, files).map_err(Error::io(path))?;
    if fs::read(path).is_ok_and(|old| old == *image.get_ref()) {
        return Ok(());
    }
    atomic::write(path, 0o600, image.get_ref())
}

fn fill(image: &mut io::Cursor<Vec<u8>>, files: &[(&str, Vec<u8>)]) -> io::Result<()> {
    // A fixed serial number and no time stamps: the same identity gives the same image.
    let options = FormatVolumeOptions::new().volume_label(*b"CIDATA     ").volume_id(0x5a4d_5041);
    fatfs::format_volume(&mut *image, options)?;
    let time = fatfs::NullTimeProvider::new();
    let fs = FileSystem::new(image, FsOptions::new().time_provider(time))?;
    for (name, contents) in files {
        if let Some((dir, _)) = name.rsplit_once('/') {
            fs.root_dir().create_dir(dir)?;
        }
        let mut file = fs.root_dir().create_file(name)?;
        file.write_all(contents)?;
        file.flush()?;
    }
    fs.unmount()
}
