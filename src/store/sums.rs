//! Sizes and sha256 sums of all files of a layer, as its manifest keeps them; and the two checks against them, a cheap and a
//! full one.

use std::collections::BTreeMap;
use std::fs::{File, FileTimes};
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{hash, tree};
use crate::error::{Error, Kind, Result};
use crate::progress::{Bar, Cancel, Reporter, Silent, Unit};

/// Files by path relative to the layer's directory.
pub type Sums = BTreeMap<String, FileSum>;

/// Size and sum of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSum {
    /// In hex.
    pub sha256: String,
    /// In bytes.
    pub size: u64,
}

/// Sums of all files below a directory; two files at a time. `title` is what people read meanwhile.
///
/// # Errors
/// The I/O error with the path, or [`Kind::Interrupted`].
pub fn of_tree(dir: &Path, title: &str, cancel: &Cancel, reporter: &dyn Reporter) -> Result<Sums> {
    let names: Vec<String> = tree::names(dir)?
        .into_iter()
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    let total = names.iter().map(|name| size(&dir.join(name))).sum();
    let bar = reporter.bar(title, Some(total), Unit::Bytes);
    let sums = sum_all(dir, &names, &*bar)?;
    cancel.check()?;
    Ok(sums.into_iter().collect())
}

/// Whether the files look whole: all there, of the right size, and none written to after the manifest was. The last kind is
/// read and its sum compared. Takes a millisecond where nothing was touched. Returns what is wrong.
///
/// # Errors
/// The I/O error with the path.
pub fn damage(dir: &Path, sums: &Sums, manifest: &Path) -> Result<Option<String>> {
    let sealed = manifest
        .metadata()
        .and_then(|meta| meta.modified())
        .map_err(Error::io(manifest))?;
    let mut touched = Vec::new();
    for (name, sum) in sums {
        let Ok(meta) = dir.join(name).metadata() else {
            return Ok(Some(format!("{name} is missing")));
        };
        if meta.len() != sum.size {
            let (is, should) = (meta.len(), sum.size);
            return Ok(Some(format!("{name} has {is} bytes instead of {should}")));
        }
        if meta.modified().is_ok_and(|modified| modified > sealed) {
            touched.push(name.clone());
        }
    }
    if touched.is_empty() {
        return Ok(None);
    }
    let damage = compare(dir, sums, &touched, "", &Silent)?;
    if damage.is_none() {
        // Only touched: so that the next check need not read it again. Not being allowed to costs only that time.
        let now = FileTimes::new().set_modified(SystemTime::now());
        let _ = File::open(manifest).and_then(|file| file.set_times(now));
    }
    Ok(damage)
}

/// Reads every file and compares its sum. Returns what is wrong.
///
/// # Errors
/// The I/O error with the path.
pub fn verify(
    dir: &Path,
    sums: &Sums,
    manifest: &Path,
    title: &str,
    reporter: &dyn Reporter,
) -> Result<Option<String>> {
    if let Some(damage) = damage(dir, sums, manifest)? {
        return Ok(Some(damage));
    }
    let names: Vec<String> = sums.keys().cloned().collect();
    compare(dir, sums, &names, title, reporter)
}

fn compare(
    dir: &Path,
    sums: &Sums,
    names: &[String],
    title: &str,
    reporter: &dyn Reporter,
) -> Result<Option<String>> {
    let total = names
        .iter()
        .filter_map(|name| sums.get(name))
        .map(|sum| sum.size)
        .sum();
    let bar = reporter.bar(title, Some(total), Unit::Bytes);
    let found = sum_all(dir, names, &*bar)?;
    let differs = |(name, sum): &(String, FileSum)| sums.get(name) != Some(sum);
    Ok(found
        .into_iter()
        .find(differs)
        .map(|(name, _)| format!("{name} has another content than it should")))
}

/// Sums of these files, two at a time.
fn sum_all(dir: &Path, names: &[String], bar: &dyn Bar) -> Result<Vec<(String, FileSum)>> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let worker = || -> Result<Vec<_>> {
        let mut sums = Vec::new();
        while let Some(name) = names.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            let path = dir.join(name);
            let sha256 = hash::file(&path, &mut |count| bar.advance(count))?;
            let size = size(&path);
            sums.push((name.clone(), FileSum { sha256, size }));
        }
        Ok(sums)
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(worker);
        let mut sums: Vec<_> = worker()?;
        let others = other
            .join()
            .map_err(|_| Error::new(Kind::Internal, "a thread that hashes files failed"))??;
        sums.extend(others);
        Ok(sums)
    })
}

fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |meta| meta.len())
}
