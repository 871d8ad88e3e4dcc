//! A cloud image as a bundle's base: its disk as it comes, and its kernel and initial RAM disk taken out of it, for drivers that boot
//! directly and for the trial of the host's virtualization. What the image lacks of our own base's packages lies on the parts disk; the
//! guest installs it from there ([`crate::provision`]).

use std::cmp::Ordering;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sampan_driver::{Command, Host, Runner};

use super::gpt::{self, Partition};
use super::parts::{self, Part};
use super::{Bundle, Manifest, arch, tree};
use crate::error::{Error, Kind, Result};
use crate::layout::BundleLayout;
use crate::progress::{Cancel, Reporter};
use crate::store::{atomic, sparse};

/// What the manifest of a bundle with such a base calls it.
pub const BASE: &str = "debian-cloud";

/// The folder of the parts disk with the packages that the image lacks.
pub(super) const DEBS: &str = "debs";

const DEADLINE: Duration = Duration::from_secs(600);

/// Puts an image (qcow2 or raw, with a GPT and an ext4 root) into a bundle as its base: `disk.raw`, and as far as this host can read
/// the image's file system `vmlinuz`, `initrd.img` and `cmdline`. Without these three the machine boots the disk by firmware, slower, and
/// hardware virtualization is not used; that is a warning.
///
/// # Errors
/// [`Kind::Bundle`] when the image is none, or not fit for a node; [`Kind::Interrupted`]; the I/O error with the path.
pub fn place(image: &Path, bundle: &BundleLayout, reporter: &dyn Reporter, cancel: &Cancel) -> Result<()> {
    reporter.detail("unpacking the cloud image");
    let disk = bundle.disk();
    match format(image)? {
        "qcow2" => {
            let convert = Command::new("qemu-img")
                .args(["convert", "-f", "qcow2", "-O", "raw"])
                .path(image)
                .path(&disk)
                .deadline(DEADLINE);
            Host.run(&convert)?;
        }
        _ => drop(sparse::copy(image, &disk, &mut |_| ())?),
    }
    cancel.check()?;
    let root = gpt::root(&disk)
        .map_err(Error::io(&disk))?
        .ok_or_else(|| unfit(image, "has no partition with a root file system"))?;
    match take_kernel(&disk, &root, bundle) {
        Ok(()) => atomic::write(&bundle.cmdline(), 0o644, cmdline(&root, arch())?.as_bytes()),
        Err(error) => {
            reporter.warn(&format!(
                "the cloud image's kernel cannot be read ({error}): machines boot by firmware, and without hardware virtualization; \
                 e2fsprogs 1.47 or newer can read it"
            ));
            [bundle.kernel(), bundle.initrd()]
                .iter()
                .try_for_each(|path| atomic::remove(path))
        }
    }
}

/// The packages as files of the parts disk.
pub(super) fn packages(debs: &[PathBuf]) -> Result<Vec<Part>> {
    let part = |deb: &PathBuf| {
        let name = deb.file_name().and_then(|name| name.to_str());
        let name = name.filter(|name| name.ends_with(".deb") && !name.contains(char::is_whitespace));
        Ok(Part {
            folder: DEBS.to_owned(),
            name: name
                .ok_or_else(|| Error::new(Kind::Bundle, format!("{} is no package", deb.display())))?
                .to_owned(),
            from: deb.clone(),
            executable: false,
        })
    };
    debs.iter().map(part).collect()
}

/// Makes a bundle like `other`, with a cloud image and these packages for its base, at `to`; its key is that of its directory.
///
/// # Errors
/// As [`place`]; when the parts disk cannot be made.
pub fn like(
    other: &Bundle,
    image: &Path,
    debs: &[PathBuf],
    to: &Path,
    reporter: &dyn Reporter,
    cancel: &Cancel,
) -> Result<()> {
    let dir = atomic::Dir::begin(to)?;
    let bundle = BundleLayout(dir.path().to_owned());
    place(image, &bundle, reporter, cancel)?;
    reporter.detail("making the parts disk");
    let staging = atomic::Dir::begin(&to.with_extension("parts"))?;
    parts::unpack(&other.layout.parts(), staging.path())?;
    let mut files = packages(debs)?;
    for folder in fs::read_dir(staging.path())
        .map_err(Error::io(staging.path()))?
        .flatten()
    {
        let folder_name = folder.file_name().to_string_lossy().into_owned();
        if [DEBS, "lost+found"].contains(&folder_name.as_str()) {
            continue;
        }
        for file in fs::read_dir(folder.path())
            .map_err(Error::io(&folder.path()))?
            .flatten()
        {
            files.push(Part {
                folder: folder_name.clone(),
                name: file.file_name().to_string_lossy().into_owned(),
                from: file.path(),
                executable: folder_name != "images",
            });
        }
    }
    parts::make(&bundle.parts(), files)?;
    drop(staging);
    cancel.check()?;
    atomic::make_dir(&bundle.0.join("bin"))?;
    fs::copy(other.layout.kubectl(), bundle.kubectl()).map_err(Error::io(&bundle.kubectl()))?;
    tree::write_addons(&bundle.addons())?;
    let manifest = Manifest {
        key: to.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        base: BASE.to_owned(),
        files: Manifest::sums(&bundle.0, cancel, reporter)?,
        ..other.manifest.clone()
    };
    manifest.write(&bundle)?;
    dir.commit()
}

fn unfit(image: &Path, why: &str) -> Error {
    Error::new(Kind::Bundle, format!("{} {why}", image.display()))
        .hint("a cloud image is a disk in raw or qcow2 format, like Debian's genericcloud images")
}

/// "qcow2" or "raw". An image that stands on other files, which would be read for it, is refused: it came from somewhere else.
fn format(image: &Path) -> Result<&'static str> {
    let mut header = Vec::new();
    let file = File::open(image).map_err(Error::io(image))?;
    file.take(1024)
        .read_to_end(&mut header)
        .map_err(Error::io(image))?;
    if header.get(512..520) == Some(b"EFI PART") {
        return Ok("raw");
    }
    if !header.starts_with(b"QFI\xfb") || header.len() < 104 {
        return Err(unfit(image, "is no disk image with a partition table"));
    }
    let stands_on_another = header[8..16] != [0; 8];
    // Version 3 has feature bits; the third says that the data is in another file.
    let data_elsewhere = header[7] >= 3 && header[79] & 4 != 0;
    if stands_on_another || data_elsewhere {
        return Err(unfit(image, "is an image that stands on another file"));
    }
    Ok("qcow2")
}

/// Our own base's command line, with this disk's root and this architecture's first serial port.
fn cmdline(root: &Partition, arch: &str) -> Result<String> {
    let ours = tree::text("base/cmdline")?;
    let is_arm = arch == "arm64";
    let of_pcs = |word: &&str| {
        ["tsc=", "no_timer_check", "i8042."]
            .iter()
            .any(|own| word.starts_with(own))
    };
    let word = |word: &str| {
        if word.starts_with("root=") {
            format!("root=PARTUUID={}", root.id)
        } else if is_arm {
            word.replace("console=ttyS0", "console=ttyAMA0")
        } else {
            word.to_owned()
        }
    };
    let words = ours.split_whitespace().filter(|word| !is_arm || !of_pcs(word));
    let words: Vec<String> = words.map(word).collect();
    Ok(format!("{}\n", words.join(" ")))
}

/// Takes the newest kernel and its initial RAM disk out of the root file system, by e2fsprogs, without mounting it.
fn take_kernel(disk: &Path, root: &Partition, bundle: &BundleLayout) -> Result<()> {
    let list = debugfs(disk, root, "ls -p /boot")?;
    let names: Vec<&str> = list.lines().filter_map(|line| line.split('/').nth(5)).collect();
    let releases = names.iter().filter_map(|name| name.strip_prefix("vmlinuz-"));
    let bootable = releases.filter(|release| names.contains(&format!("initrd.img-{release}").as_str()));
    let release = bootable
        .max_by(|one, other| by_version(one, other))
        .ok_or_else(|| unfit(disk, "has no kernel with an initial RAM disk in /boot"))?;
    for (name, to) in [("vmlinuz", bundle.kernel()), ("initrd.img", bundle.initrd())] {
        debugfs(
            disk,
            root,
            &format!("dump /boot/{name}-{release} \"{}\"", to.display()),
        )?;
        if to.metadata().map_err(Error::io(&to))?.len() == 0 {
            return Err(unfit(disk, &format!("has an empty /boot/{name}-{release}")));
        }
    }
    Ok(())
}

/// Asks e2fsprogs' debugfs, which succeeds whatever happens and complains on standard error, after a line with its version.
fn debugfs(disk: &Path, root: &Partition, request: &str) -> Result<String> {
    let ask = parts::fixed_time(Command::new("debugfs"))
        .args(["-R", request])
        .arg(format!("{}?offset={}", disk.display(), root.offset))
        .deadline(DEADLINE);
    let output = Host.run(&ask)?;
    let complaints = String::from_utf8_lossy(&output.stderr)
        .lines()
        .skip(1)
        .collect::<Vec<_>>()
        .join("; ");
    if complaints.is_empty() {
        Ok(output.text())
    } else {
        Err(Error::new(Kind::Bundle, complaints))
    }
}

/// Numbers within names count as numbers: 6.12.9 comes before 6.12.41.
fn by_version(one: &str, other: &str) -> Ordering {
    let pieces = |text: &str| -> Vec<(u64, String)> {
        let mut pieces = vec![(0_u64, String::new())];
        for c in text.chars() {
            match (c.to_digit(10), pieces.last_mut()) {
                (Some(digit), Some((number, text))) if text.is_empty() => {
                    *number = number.saturating_mul(10).saturating_add(digit.into());
                }
                (Some(digit), _) => pieces.push((digit.into(), String::new())),
                (None, Some((_, text))) => text.push(c),
                (None, None) => {}
            }
        }
        pieces
    };
    pieces(one).cmp(&pieces(other))
}

#[cfg(test)]
mod tests {
    use super::super::gpt;
    use super::*;
    use crate::progress::Silent;

    const ROOT: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";

    /// A disk whose root holds these files in /boot.
    fn image(dir: &Path, files: &[&str]) -> PathBuf {
        let tree = dir.join("tree");
        fs::create_dir_all(tree.join("boot")).unwrap();
        for file in files {
            fs::write(tree.join("boot").join(file), file).unwrap();
        }
        let (root, disk) = (dir.join("root.ext4"), gpt::tests::disk(dir, ROOT));
        let make = parts::fixed_time(Command::new("mke2fs"))
            .args(["-q", "-t", "ext4", "-d"])
            .path(&tree)
            .path(&root)
            .arg("4M");
        Host.run(&make).unwrap();
        let put = Command::new("dd")
            .args(["bs=512", "seek=4096", "conv=notrunc", "status=none"])
            .arg(format!("if={}", root.display()))
            .arg(format!("of={}", disk.display()));
        Host.run(&put).unwrap();
        disk
    }

    fn empty(dir: &Path) -> BundleLayout {
        let bundle = BundleLayout(dir.join("bundle"));
        fs::create_dir_all(&bundle.0).unwrap();
        bundle
    }

    #[test]
    fn a_disk_and_its_newest_kernel_become_a_base() {
        let dir = tempfile::tempdir().unwrap();
        let names = [
            "vmlinuz-6.12.9-cloud-amd64",
            "initrd.img-6.12.9-cloud-amd64",
            "vmlinuz-6.12.41-cloud-amd64",
            "initrd.img-6.12.41-cloud-amd64",
            "vmlinuz-6.13.0-without-initrd",
        ];
        let (disk, bundle) = (image(dir.path(), &names), empty(dir.path()));
        place(&disk, &bundle, &Silent, &Cancel::default()).unwrap();
        assert_eq!(fs::read(bundle.disk()).unwrap(), fs::read(&disk).unwrap());
        assert_eq!(
            fs::read_to_string(bundle.kernel()).unwrap(),
            "vmlinuz-6.12.41-cloud-amd64"
        );
        assert_eq!(
            fs::read_to_string(bundle.initrd()).unwrap(),
            "initrd.img-6.12.41-cloud-amd64"
        );
        let cmdline = fs::read_to_string(bundle.cmdline()).unwrap();
        assert!(
            cmdline.starts_with("root=PARTUUID=7d0cfe1a-52a3-4c65-9f3f-0c10d6a50001 rw "),
            "{cmdline}"
        );
        let console = if arch() == "arm64" { "ttyAMA0" } else { "ttyS0" };
        assert!(cmdline.contains(&format!("console={console}")) && !cmdline.contains("LABEL="));
    }

    #[test]
    fn a_kernel_is_told_the_serial_port_of_its_architecture() {
        let dir = tempfile::tempdir().unwrap();
        let root = gpt::root(&gpt::tests::disk(dir.path(), ROOT)).unwrap().unwrap();
        let ours = tree::text("base/cmdline").unwrap();
        let own_root = format!("root=PARTUUID={}", root.id);
        let pc = cmdline(&root, "amd64").unwrap();
        assert_eq!(pc, ours.replace("root=LABEL=sampan-root", &own_root));
        let arm = cmdline(&root, "arm64").unwrap();
        let changed: Vec<&str> = pc
            .split_whitespace()
            .filter(|word| !arm.split_whitespace().any(|other| other == *word))
            .collect();
        let of_pcs = [
            "console=ttyS0,115200",
            "tsc=reliable",
            "no_timer_check",
            "i8042.noaux",
            "i8042.nokbd",
        ];
        assert_eq!(changed, of_pcs);
        assert!(
            arm.starts_with(&format!("{own_root} rw console=ttyAMA0,115200 quiet ")),
            "{arm}"
        );
    }

    #[test]
    fn without_a_kernel_that_can_be_read_the_disk_boots_by_firmware() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, bundle) = (image(dir.path(), &["vmlinuz-6.12.9"]), empty(dir.path()));
        place(&disk, &bundle, &Silent, &Cancel::default()).unwrap();
        assert!(bundle.disk().exists());
        for path in [bundle.kernel(), bundle.initrd(), bundle.cmdline()] {
            assert!(!path.exists(), "{}", path.display());
        }
    }

    #[test]
    fn what_is_no_image_or_reads_other_files_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (image, bundle) = (dir.path().join("image"), empty(dir.path()));
        let mut qcow2 = vec![0; 1024];
        qcow2[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        let (mut backed, mut apart) = (qcow2.clone(), qcow2);
        backed[15] = 0x68;
        apart[79] = 4;
        for (bytes, expected) in [
            (b"<html>404</html>".to_vec(), "is no disk image"),
            (backed, "stands on another file"),
            (apart, "stands on another file"),
        ] {
            fs::write(&image, bytes).unwrap();
            let error = place(&image, &bundle, &Silent, &Cancel::default()).unwrap_err();
            assert_eq!(error.kind(), Kind::Bundle);
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!bundle.disk().exists());
        }
    }

    #[test]
    fn only_packages_are_packages() {
        let part = packages(&[PathBuf::from("a/socat_1.8.0-4_amd64.deb")]).unwrap();
        assert_eq!(
            (part[0].folder.as_str(), part[0].name.as_str()),
            ("debs", "socat_1.8.0-4_amd64.deb")
        );
        assert!(packages(&[PathBuf::from("a/readme.txt")]).is_err());
    }
}
