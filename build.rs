//! What is embedded in the binary: a file that is new there must make cargo build again. And a hash of the provisioner, which
//! is part of the key of the layers it makes.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=images");
    println!("cargo::rerun-if-changed=src/provision");
    println!("cargo::rerun-if-changed=src/addons");
    let mut hash = DefaultHasher::new();
    add(&mut hash, Path::new("src/provision"));
    add(&mut hash, Path::new("src/addons"));
    // What a cloud image gets of our own base.
    add(&mut hash, Path::new("images/base/files"));
    add(&mut hash, Path::new("images/base/links"));
    println!("cargo::rustc-env=SAMPAN_PROVISIONER={:016x}", hash.finish());
}

/// Names and contents, in the order of the names. What is there for tests makes no other layer.
fn add(hash: &mut DefaultHasher, path: &Path) {
    if path.ends_with("testing.rs") || path.ends_with("snapshots") {
        return;
    }
    hash.write(path.to_string_lossy().as_bytes());
    let Ok(entries) = std::fs::read_dir(path) else {
        let content = std::fs::read(path).unwrap_or_default();
        let tests = b"\n#[cfg(test)]\nmod tests {";
        let end = content.windows(tests.len()).position(|window| window == tests);
        return hash.write(&content[..end.unwrap_or(content.len())]);
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().for_each(|path| add(hash, path));
}
