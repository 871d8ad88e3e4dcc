//! The parts disk: a read-only ext4 image with the node's programs and container images. Made by e2fsprogs without mounting
//! anything; files go in one by one in a fixed order with fixed owners and times, so the same inputs give the same image
//! (`mke2fs -d` takes the order, owners and times that the staging directory happens to have).

use std::path::{Path, PathBuf};
use std::time::Duration;

use sampan_driver::{Command, Host, Runner};

use crate::error::{Error, Kind, Result};

/// What the guest finds the disk by.
const LABEL: &str = "SAMPAN-PARTS";
const UUID: &str = "5a3d9a1e-7c55-4b0e-9d2f-5a3b70a51001";
const HASH_SEED: &str = "5a3d9a1e-7c55-4b0e-9d2f-5a3b70a51002";
/// The time that everything in the image has: 2026-01-01, as in the base.
const EPOCH: u64 = 1_767_225_600;
const BLOCK: u64 = 4096;
const DEADLINE: Duration = Duration::from_secs(600);

/// A file of the disk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part {
    /// Folder at the top of the disk.
    pub(super) folder: String,
    /// Name in the folder.
    pub(super) name: String,
    /// Where it comes from.
    pub(super) from: PathBuf,
    /// Whether it is a program.
    pub(super) executable: bool,
}

/// Makes the image.
pub(super) fn make(image: &Path, mut parts: Vec<Part>) -> Result<()> {
    parts.sort();
    let mut folders: Vec<&str> = parts.iter().map(|part| part.folder.as_str()).collect();
    folders.dedup();
    let mut bytes = 0;
    for part in &parts {
        let size = part.from.metadata().map_err(Error::io(&part.from))?.len();
        bytes += size.next_multiple_of(BLOCK);
    }
    let inodes = parts.len() + folders.len() + 32;
    // Inode tables, bitmaps and extents take less than this.
    let blocks = (bytes + bytes / 128 + (4 << 20)) / BLOCK;
    Host.run(&make_fs(image, blocks, inodes))?;
    let output = Host.run(&debugfs(image).stdin(script(&folders, &parts)).deadline(DEADLINE))?;
    // debugfs succeeds whatever happens; it complains on standard error, after a line with its version.
    let complaints = String::from_utf8_lossy(&output.stderr)
        .lines()
        .skip(1)
        .collect::<Vec<_>>()
        .join("; ");
    if !complaints.is_empty() {
        return Err(Error::new(
            Kind::Bundle,
            format!("{} could not be filled: {complaints}", image.display()),
        )
        .hint("check that e2fsprogs is installed whole and the disk is not full"));
    }
    Ok(())
}

/// Writes all that an image holds into a directory.
pub(super) fn unpack(image: &Path, to: &Path) -> Result<()> {
    let ask = fixed_time(Command::new("debugfs"))
        .args(["-R", &format!("rdump / \"{}\"", to.display())])
        .path(image)
        .deadline(DEADLINE);
    Host.run(&ask)?;
    Ok(())
}

fn make_fs(image: &Path, blocks: u64, inodes: usize) -> Command {
    fixed_time(Command::new("mke2fs"))
        .args([
            "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-L", LABEL, "-U", UUID,
        ])
        .args(["-O", "^has_journal,^resize_inode,^metadata_csum,^64bit"])
        .arg("-N")
        .arg(inodes.to_string())
        .arg("-E")
        .arg(format!(
            "hash_seed={HASH_SEED},root_owner=0:0,nodiscard,lazy_itable_init=0"
        ))
        .path(image)
        .arg(blocks.to_string())
        .deadline(DEADLINE)
}

fn debugfs(image: &Path) -> Command {
    fixed_time(Command::new("debugfs"))
        .args(["-w", "-f", "-"])
        .path(image)
}

/// System programs are not in every user's search path, hence the shell; the time is for what e2fsprogs stamps itself.
pub(super) fn fixed_time(command: Command) -> Command {
    let program = command.program;
    Command::new("sh")
        .args(["-c", "PATH=\"$PATH:/usr/sbin:/sbin\"; exec \"$0\" \"$@\""])
        .arg(program)
        .env("LC_ALL", "C")
        .env("E2FSPROGS_FAKE_TIME", EPOCH.to_string())
        .env("SOURCE_DATE_EPOCH", EPOCH.to_string())
}

/// What debugfs is told.
fn script(folders: &[&str], parts: &[Part]) -> String {
    let mut script = String::new();
    for folder in folders {
        script += &format!("mkdir /{folder}\n");
    }
    for part in parts {
        // The name is one in the working directory.
        let from = part.from.display().to_string().replace('"', "\"\"");
        script += &format!("cd /{}\nwrite \"{from}\" {}\n", part.folder, part.name);
    }
    let files = parts.iter().map(|part| {
        (
            format!("/{}/{}", part.folder, part.name),
            if part.executable { "0100755" } else { "0100644" },
        )
    });
    let dirs = folders.iter().map(|folder| (format!("/{folder}"), "040755"));
    for (path, mode) in dirs
        .chain(files)
        .chain([("/".into(), "040755"), ("/lost+found".into(), "040700")])
    {
        for (field, value) in [("mode", mode), ("uid", "0"), ("gid", "0")] {
            script += &format!("set_inode_field {path} {field} {value}\n");
        }
        for field in ["atime", "ctime", "mtime", "crtime"] {
            script += &format!("set_inode_field {path} {field} @{EPOCH}\n");
        }
        for field in ["atime_extra", "ctime_extra", "mtime_extra", "crtime_extra"] {
            script += &format!("set_inode_field {path} {field} 0\n");
        }
    }
    script
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// An image with one program of a megabyte and one small file, made from files of different times.
    fn image(dir: &Path) -> Vec<u8> {
        fs::create_dir_all(dir).unwrap();
        let (program, data) = (dir.join("a program"), dir.join("data"));
        fs::write(&program, vec![7; 1 << 20]).unwrap();
        fs::write(&data, "data").unwrap();
        let part = |folder: &str, name: &str, from: &Path, executable| Part {
            folder: folder.into(),
            name: name.into(),
            from: from.into(),
            executable,
        };
        let image = dir.join("parts.img");
        make(
            &image,
            vec![
                part("images", "node.tar", &data, false),
                part("bin", "kubelet", &program, true),
            ],
        )
        .unwrap();
        fs::read(image).unwrap()
    }

    #[test]
    fn the_same_parts_give_the_same_image_with_everything_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = image(&dir.path().join("one"));
        std::thread::sleep(Duration::from_millis(1100));
        assert!(first == image(&dir.path().join("two")));
        let path = dir.path().join("one/parts.img");
        let check = Command::new("sh")
            .args(["-c", "PATH=\"$PATH:/usr/sbin:/sbin\"; exec e2fsck -fn \"$0\""])
            .path(&path);
        Host.run(&check).unwrap();
        let ask = |question: &str| {
            Host.run(
                &fixed_time(Command::new("debugfs"))
                    .arg("-R")
                    .arg(question)
                    .path(&path),
            )
            .unwrap()
        };
        let stat = ask("stat /bin/kubelet").text();
        assert!(stat.contains("Mode:  0755"), "{stat}");
        assert!(stat.contains("Size: 1048576"), "{stat}");
        assert_eq!(ask("cat /images/node.tar").stdout, b"data");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let part = Part {
            folder: "bin".into(),
            name: "x".into(),
            from: dir.path().join("none"),
            executable: true,
        };
        assert!(make(&dir.path().join("parts.img"), vec![part]).is_err());
    }
}
