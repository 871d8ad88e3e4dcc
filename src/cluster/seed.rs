//! The seed: a small FAT image from which the guest reads who it is, before its sshd starts.
//!
//! Cloud images read the files of cloud-init's NoCloud source ([`super::nocloud`]); what sampan's own base reads is below `sampan/`.

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
    // A fixed serial number, and no clock is compiled in: the same identity gives the same image.
    let options = FormatVolumeOptions::new()
        .volume_label(*b"CIDATA     ")
        .volume_id(0x5a4d_5041);
    fatfs::format_volume(&mut *image, options)?;
    let fs = FileSystem::new(image, FsOptions::new())?;
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

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_image_holds_the_files_and_is_the_same_every_time() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            ("meta-data", b"a".to_vec()),
            ("sampan/hostname", b"demo\n".to_vec()),
            ("sampan/key", b"k".to_vec()),
        ];
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        write(&one, &files).unwrap();
        write(&two, &files).unwrap();
        assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
        let fs = FileSystem::new(fs::File::open(&one).unwrap(), FsOptions::new()).unwrap();
        assert_eq!(fs.volume_label(), "CIDATA");
        let mut text = String::new();
        fs.root_dir()
            .open_file("sampan/hostname")
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "demo\n");
    }
}
