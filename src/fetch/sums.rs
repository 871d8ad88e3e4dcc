//! Sums: those that upstream publishes in files beside what it publishes, and those that bytes really have.

use sha2::{Digest, Sha256, Sha512};

use crate::error::{Error, Kind, Result};
use crate::store::hash;

/// What something must have, in small hex digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sum {
    Sha256(String),
    Sha512(String),
    /// Whatever comes.
    Any,
}

impl Sum {
    /// By its length.
    fn parse(text: &str) -> Option<Self> {
        let hex = text.chars().all(|digit| digit.is_ascii_hexdigit());
        let text = text.to_ascii_lowercase();
        match text.len() {
            64 if hex => Some(Self::Sha256(text)),
            128 if hex => Some(Self::Sha512(text)),
            _ => None,
        }
    }

    /// A sum that stands in our own data.
    pub(super) fn pinned(text: &str, digits: usize) -> Result<Self> {
        Self::parse(text).filter(|_| text.len() == digits).ok_or_else(|| {
            Error::new(
                Kind::Internal,
                format!("`{text}` is not a sum of {digits} hex digits"),
            )
        })
    }

    /// Whether bytes with these sums may be used.
    pub(super) fn allows(&self, found: &Found) -> bool {
        match self {
            Self::Sha256(sum) => *sum == found.sha256,
            Self::Sha512(sum) => found.sha512.as_ref() == Some(sum),
            Self::Any => true,
        }
    }
}

/// The sums that bytes have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) sha256: String,
    /// Where it was asked for.
    pub(super) sha512: Option<String>,
    pub(super) size: u64,
}

/// Sums bytes as they come.
pub(super) struct Summing {
    sha256: Sha256,
    sha512: Option<Sha512>,
    size: u64,
}

impl Summing {
    pub(super) fn for_sum(sum: &Sum) -> Self {
        Self {
            sha256: Sha256::new(),
            sha512: matches!(sum, Sum::Sha512(_)).then(Sha512::new),
            size: 0,
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
        self.size += bytes.len() as u64;
    }

    pub(super) fn finish(self) -> Found {
        Found {
            sha256: hash::hex(&self.sha256.finalize()),
            sha512: self.sha512.map(|sha512| hash::hex(&sha512.finalize())),
            size: self.size,
        }
    }
}

/// What a published file of sums says of a file: a bare sum, lines of `SUM  NAME` as `sha256sum` prints them, or of
/// `SHA256 (NAME) = SUM`. Names may have directories before them. The strongest sum counts.
///
/// # Errors
/// What the file lacks, in words that go after its name.
pub(super) fn published(text: &str, file: &str) -> Result<Sum, String> {
    if text.bytes().any(|byte| byte == 0) || text.trim_start().starts_with('<') {
        return Err("it is not a list of sums".to_owned());
    }
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let named = |name: &str| name.rsplit('/').next() == Some(file);
    let ours: Vec<&str> = lines()
        .filter_map(line)
        .filter(|(name, _)| name.is_none_or(named))
        .map(|(_, sum)| sum)
        .collect();
    let bare = lines().count() == 1;
    let known = |of: fn(&Sum) -> bool| {
        let mut sums: Vec<Sum> = ours.iter().filter_map(|sum| Sum::parse(sum)).filter(of).collect();
        sums.dedup();
        sums
    };
    for sums in [
        known(|sum| matches!(sum, Sum::Sha512(_))),
        known(|sum| matches!(sum, Sum::Sha256(_))),
    ] {
        match &sums[..] {
            [] => {}
            [sum] => return Ok(sum.clone()),
            _ => return Err(format!("it has several sums of {file}")),
        }
    }
    Err(match ours[..] {
        [] if bare => format!("it has no sum of {file}"),
        [] => format!("none of its lines is about {file}"),
        _ => format!("it has neither a sha256 nor a sha512 of {file}"),
    })
}

/// A line's name, where it has one, and its sum.
fn line(line: &str) -> Option<(Option<&str>, &str)> {
    if let Some((before, sum)) = line.rsplit_once(") = ") {
        let (_, name) = before.split_once(" (")?;
        return Some((Some(name), sum.trim()));
    }
    let Some((sum, name)) = line.split_once([' ', '\t']) else {
        return Some((None, line));
    };
    let name = name.trim_start();
    Some((Some(name.strip_prefix('*').unwrap_or(name)), sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a() -> String {
        "a".repeat(64)
    }

    fn b() -> String {
        "b".repeat(128)
    }

    #[test]
    fn all_forms_of_published_sums_are_read() {
        let (a, b) = (a(), b());
        let sum = Ok(Sum::Sha256(a.clone()));
        assert_eq!(published(&a, "kubelet"), sum);
        assert_eq!(published(&format!("\n{}\r\n", a.to_uppercase()), "kubelet"), sum);
        assert_eq!(published(&format!("{a}  x.tgz\n"), "x.tgz"), sum);
        assert_eq!(published(&format!("{a} *./dist/x.tgz\n"), "x.tgz"), sum);
        assert_eq!(published(&format!("SHA256 (x.tgz) = {a}\n"), "x.tgz"), sum);
        let list = format!(
            "{}  other\n{b}  x.raw\n{}  x.raw.old\n",
            "c".repeat(128),
            "d".repeat(128)
        );
        assert_eq!(published(&list, "x.raw"), Ok(Sum::Sha512(b.clone())));
        let both = format!(
            "SHA256 (x) = {a}\nSHA512 (x) = {b}\nMD5 (x) = {}\n",
            "e".repeat(32)
        );
        assert_eq!(published(&both, "x"), Ok(Sum::Sha512(b)));
    }

    #[test]
    fn what_says_nothing_of_the_file_is_refused() {
        let a = a();
        let refused = |text: &str| published(text, "x").unwrap_err();
        assert_eq!(refused("<html>gone</html>"), "it is not a list of sums");
        assert_eq!(refused(""), "none of its lines is about x");
        assert_eq!(refused(&format!("{a}  y\n")), "it has no sum of x");
        assert_eq!(
            refused(&format!("{a}  y\n{a}  z\n")),
            "none of its lines is about x"
        );
        assert_eq!(
            refused(&format!("{}  x\n", "f".repeat(40))),
            "it has neither a sha256 nor a sha512 of x"
        );
        let two = format!("{a}  x\n{}  x\n", "0".repeat(64));
        assert_eq!(refused(&two), "it has several sums of x");
        assert_eq!(
            refused(&format!("{}\n{a}\n", "0".repeat(64))),
            "it has several sums of x"
        );
    }

    #[test]
    fn bytes_are_summed_as_they_come() {
        let mut summing = Summing::for_sum(&Sum::Sha512(String::new()));
        summing.update(b"a");
        summing.update(b"bc");
        let found = summing.finish();
        assert_eq!(found.sha256, hash::bytes(b"abc"));
        assert!(found.sha512.as_deref().unwrap().starts_with("ddaf35a193617aba"));
        assert_eq!(found.size, 3);
        assert!(Sum::Any.allows(&found));
        assert!(Sum::Sha256(found.sha256.clone()).allows(&found));
        assert!(!Sum::Sha512(b()).allows(&found));
    }

    #[test]
    fn a_pinned_sum_has_its_length() {
        assert_eq!(Sum::pinned(&a().to_uppercase(), 64).unwrap(), Sum::Sha256(a()));
        assert!(Sum::pinned(&a(), 128).is_err());
        assert!(Sum::pinned("abc", 64).is_err());
    }
}
