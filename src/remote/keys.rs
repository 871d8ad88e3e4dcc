//! Ed25519 keys in OpenSSH's own format, for us and for the guest.
//!
//! OpenSSH reads no PKCS#8 for ed25519, so the few fields of `openssh-key-v1` are written here (PROTOCOL.key in OpenSSH's source).

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, PKCS_ED25519};

use crate::error::{Error, Kind, Result};
use crate::store::atomic;

const ALGORITHM: &str = "ssh-ed25519";
/// What stands before the 32 bytes of the seed in the PKCS#8 of an ed25519 key, RFC 8410: up to the inner OCTET STRING.
const SEED_TAG: [u8; 4] = [0x04, 0x22, 0x04, 0x20];

/// The file of a key's public half: the private one's name with `.pub`.
pub fn public_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    PathBuf::from(name)
}

/// Makes the key pair `path` (0600, in a directory of 0700) and `path.pub` unless it is there, and returns the public line
/// (`ssh-ed25519 AAAA… comment`) without a newline.
///
/// # Errors
/// When the files cannot be written, or only one of the two is there, or the public one is damaged. A key is never replaced:
/// the guest knows only this one.
pub fn ensure(path: &Path, comment: &str) -> Result<String> {
    let public = public_path(path);
    match (path.exists(), public.exists()) {
        (true, true) => {
            blob(&public)?;
            Ok(fs::read_to_string(&public)
                .map_err(Error::io(&public))?
                .trim()
                .to_owned())
        }
        (true, false) => Err(damaged(&public, "is missing, but its private half is there")),
        // A public half alone is what an interrupted run leaves behind: it is written first and nobody has seen it.
        (false, _) => make(path, &public, comment),
    }
}

/// The public key of a `.pub` file, as it goes over the wire.
pub(super) fn blob(public: &Path) -> Result<Vec<u8>> {
    let text = fs::read_to_string(public).map_err(Error::io(public))?;
    let mut words = text.split_whitespace();
    match (words.next(), words.next().map(|word| STANDARD.decode(word))) {
        (Some(ALGORITHM), Some(Ok(blob))) => Ok(blob),
        _ => Err(damaged(public, "is not an ed25519 public key")),
    }
}

fn damaged(path: &Path, what: &str) -> Error {
    Error::new(Kind::HostConfig, format!("{} {what}", path.display()))
        .hint("restore the file from a backup, or run `sampan delete` and `sampan start` for a new cluster")
}

fn make(path: &Path, public: &Path, comment: &str) -> Result<String> {
    let internal = |what: &str| Error::new(Kind::Internal, format!("cannot make an ed25519 key: {what}"));
    let pair = KeyPair::generate_for(&PKCS_ED25519).map_err(|error| internal(&error.to_string()))?;
    let seed = seed(pair.serialized_der()).ok_or_else(|| internal("unknown encoding"))?;
    let line = format!(
        "{ALGORITHM} {} {comment}",
        STANDARD.encode(public_blob(pair.public_key_raw()))
    );
    if let Some(dir) = path.parent() {
        atomic::make_private_dir(dir)?;
    }
    atomic::write(public, 0o644, format!("{line}\n").as_bytes())?;
    atomic::write(
        path,
        0o600,
        armor(&private_blob(seed, pair.public_key_raw(), comment)).as_bytes(),
    )?;
    Ok(line)
}

fn seed(pkcs8: &[u8]) -> Option<&[u8]> {
    let at = pkcs8
        .windows(SEED_TAG.len())
        .position(|window| window == SEED_TAG)?
        + SEED_TAG.len();
    pkcs8.get(at..at + 32)
}

/// Appends a string as SSH writes it: length, then bytes.
fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    // Nothing here is longer than a comment.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

fn public_blob(public: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, ALGORITHM.as_bytes());
    put(&mut out, public);
    out
}

fn private_blob(seed: &[u8], public: &[u8], comment: &str) -> Vec<u8> {
    const CIPHER_BLOCK: usize = 8;
    let mut secret = Vec::new();
    // Two equal numbers tell a reader that it decrypted well; nothing is encrypted here, so any will do.
    secret.extend_from_slice(&public[..4]);
    secret.extend_from_slice(&public[..4]);
    put(&mut secret, ALGORITHM.as_bytes());
    put(&mut secret, public);
    put(&mut secret, &[seed, public].concat());
    put(&mut secret, comment.as_bytes());
    for pad in 1.. {
        if secret.len().is_multiple_of(CIPHER_BLOCK) {
            break;
        }
        secret.push(pad);
    }
    let mut out = b"openssh-key-v1\0".to_vec();
    put(&mut out, b"none");
    put(&mut out, b"none");
    put(&mut out, b"");
    out.extend_from_slice(&1_u32.to_be_bytes());
    put(&mut out, &public_blob(public));
    put(&mut out, &secret);
    out
}

fn armor(blob: &[u8]) -> String {
    const WIDTH: usize = 70;
    let text = STANDARD.encode(blob);
    let mut out = String::from("-----BEGIN OPENSSH PRIVATE KEY-----\n");
    for line in text.as_bytes().chunks(WIDTH) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out + "-----END OPENSSH PRIVATE KEY-----\n"
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_ours_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ssh/id_ed25519");
        let line = ensure(&path, "sampan-dev").unwrap();
        assert!(
            line.starts_with("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5") && line.ends_with(" sampan-dev"),
            "{line}"
        );
        assert_eq!(ensure(&path, "other").unwrap(), line);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert_eq!(blob(&public_path(&path)).unwrap().len(), 4 + 11 + 4 + 32);
    }

    #[test]
    fn a_lost_or_damaged_public_half_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        ensure(&path, "").unwrap();
        fs::write(public_path(&path), "ssh-rsa AAAA").unwrap();
        let error = ensure(&path, "").unwrap_err();
        assert!(error.to_string().contains("key.pub is not an ed25519"), "{error}");
        fs::remove_file(public_path(&path)).unwrap();
        let error = ensure(&path, "").unwrap_err();
        assert!(
            error.to_string().contains("key.pub is missing") && !error.hints().is_empty(),
            "{error}"
        );
    }

    #[test]
    fn an_interrupted_making_is_done_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(public_path(&path), "ssh-ed25519 half").unwrap();
        let line = ensure(&path, "c").unwrap();
        assert_eq!(fs::read_to_string(public_path(&path)).unwrap().trim(), line);
    }
}
