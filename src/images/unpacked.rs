//! An archive as one file that can be read at any place: as it is, or unpacked from gzip or zstd.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

use crate::error::{Error, Kind, Result};

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Compressions that Docker knows and sampan does not, with the program that unpacks them.
const OTHERS: [(&[u8], &str); 2] = [(&[0xfd, b'7', b'z', b'X', b'Z'], "xz"), (b"BZh", "bzip2")];

/// The file itself when it is plain; else what is in it, in a file without a name. `place` is what messages call it.
pub(super) fn file(mut file: File, place: &str) -> Result<File> {
    let mut start = Vec::new();
    let read = |error| damaged(place, error);
    Read::by_ref(&mut file)
        .take(6)
        .read_to_end(&mut start)
        .map_err(read)?;
    // Not a file but a pipe, or the like.
    if file.seek(SeekFrom::Start(0)).is_err() {
        return stream(&mut start.chain(file), place);
    }
    if is_packed(&start, place)? {
        return stream(&mut file, place);
    }
    Ok(file)
}

/// What comes from a pipe, unpacked, in a file without a name.
pub(super) fn stream(source: &mut dyn Read, place: &str) -> Result<File> {
    let mut source = BufReader::new(source);
    let mut start = Vec::new();
    let read = |error| damaged(place, error);
    Read::by_ref(&mut source)
        .take(6)
        .read_to_end(&mut start)
        .map_err(read)?;
    let packed = is_packed(&start, place)?;
    let mut whole = start.as_slice().chain(source);
    let mut target = tempfile::tempfile().map_err(Error::io(&std::env::temp_dir()))?;
    if !packed {
        copy(&mut whole, &mut target, place)?;
    } else if start.starts_with(GZIP) {
        copy(&mut flate2::read::MultiGzDecoder::new(whole), &mut target, place)?;
    } else {
        let mut frames = zstd::stream::read::Decoder::new(whole).map_err(read)?;
        copy(&mut frames, &mut target, place)?;
    }
    target.seek(SeekFrom::Start(0)).map_err(read)?;
    Ok(target)
}

fn is_packed(start: &[u8], place: &str) -> Result<bool> {
    if start.is_empty() {
        return Err(Error::new(
            Kind::HostPath,
            format!("{place}: is empty, so there is no image in it"),
        )
        .hint("`docker save IMAGE -o FILE` makes an archive of an image"));
    }
    if let Some((_, program)) = OTHERS.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Err(Error::new(
            Kind::HostPath,
            format!("{place}: sampan does not unpack {program}"),
        )
        .hint(format!(
            "unpack it first: `{program} -dc FILE | sampan image load -`"
        )));
    }
    Ok(start.starts_with(GZIP) || start.starts_with(ZSTD))
}

/// Tells a full disk of the host from an archive that is damaged.
fn copy(source: &mut impl Read, target: &mut File, place: &str) -> Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(damaged(place, error)),
        };
        target
            .write_all(&buffer[..count])
            .map_err(Error::io(&std::env::temp_dir()))?;
    }
}

pub(super) fn damaged(place: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(
        Kind::HostPath,
        format!("{place}: the archive is damaged or cut off"),
    )
    .because(error)
    .hint("make it anew: `docker save IMAGE -o FILE`")
}
