//! Files of a mirror that are as small as will do.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use sampan::store::hash;
use serde_json::{Value, json};

use crate::mirror::{Content, add};

/// As little as will do.
pub(crate) struct StandIns;

impl Content for StandIns {
    fn program(&self, path: &str) -> Option<Vec<u8>> {
        Some(path.trim_start_matches("./").as_bytes().to_vec())
    }

    fn package(&self, file: &str) -> Vec<u8> {
        format!("package {file}").into_bytes()
    }

    fn cloud_image(&self, to: &Path) {
        let raw = to.with_extension("raw");
        make_disk(&raw);
        let status = Command::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", "qcow2"])
            .args([raw.as_path(), to])
            .status()
            .unwrap();
        assert!(status.success());
        fs::remove_file(raw).unwrap();
    }

    fn image(&self, reference: &str, arch: &str) -> Option<(Value, Vec<Vec<u8>>)> {
        let mut layer = tar::Builder::new(Vec::new());
        add(
            &mut layer,
            "program",
            format!("{reference} for {arch}").as_bytes(),
        );
        let layer = layer.into_inner().unwrap();
        let diff = format!("sha256:{}", hash::bytes(&layer));
        let config = json!({
            "architecture": arch, "os": "linux", "config": { "Entrypoint": ["/program"] },
            "rootfs": { "type": "layers", "diff_ids": [diff] },
        });
        Some((config, vec![layer]))
    }
}

/// A disk with one Linux partition that holds no file system, all of it zero but for the partition's first bytes.
fn make_disk(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    file.set_len(8 << 20).unwrap();
    let mut sfdisk = Command::new("sh")
        .args(["-c", "PATH=\"$PATH:/usr/sbin:/sbin\"; exec sfdisk --quiet \"$0\""])
        .arg(path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let table = b"label: gpt\nstart=2048, type=linux\n";
    sfdisk.stdin.take().unwrap().write_all(table).unwrap();
    assert!(sfdisk.wait().unwrap().success());
    use std::io::{Seek, SeekFrom};
    file.seek(SeekFrom::Start(1 << 20)).unwrap();
    file.write_all(b"the cloud image's root").unwrap();
}
