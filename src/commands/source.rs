//! `--source`: where bundles come from.

use std::path::Path;

use crate::bundle::Source;
use crate::error::{Error, Kind, Result};
use crate::layout::Layout;
use crate::settings::{Settings, Source as Said, nearest};

/// What was said about it. The beginning of a key means the bundle of that key.
///
/// # Errors
/// [`Kind::Usage`] for what can be no source.
pub(super) fn of(layout: &Layout, settings: &Settings) -> Result<Source> {
    let Some(setting) = settings.get("source") else {
        return Ok(Source::Auto);
    };
    let path = match Source::parse(&setting.text) {
        Source::Dir(path) => path,
        source => return Ok(source),
    };
    if path.exists() && !(path.is_relative() && matches!(setting.source, Said::File(_))) {
        // Machines are made elsewhere, where a relative path would mean another place.
        return Ok(Source::Dir(std::path::absolute(&path).map_err(Error::io(&path))?));
    }
    if let Some(dir) = of_key(layout, &path) {
        return Ok(Source::Dir(dir));
    }
    if matches!(setting.source, Said::File(_)) {
        if path.is_absolute() {
            // A stick that is not there right now: an error where the bundle is needed only.
            return Ok(Source::Dir(path));
        }
        return Err(setting.wrong(
            Kind::Usage,
            "is a relative path; write it with all its directories, from / on",
        ));
    }
    let error = setting.wrong(
        Kind::Usage,
        "is no source: there is no such file, directory or bundle",
    );
    Err(match nearest(&setting.text, Source::WORDS) {
        Some(word) => error.hint(format!("did you mean `{word}`?")),
        None => error.hint("write auto, upstream, build, or the path, the address or the key of a bundle"),
    })
}

/// The one bundle here whose key begins so.
fn of_key(layout: &Layout, beginning: &Path) -> Option<std::path::PathBuf> {
    let text = beginning.to_str()?;
    if text.len() < 4 || !text.chars().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let entries = std::fs::read_dir(layout.bundles()).ok()?.flatten();
    let mut fitting = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(text));
    match (fitting.next(), fitting.next()) {
        (Some(entry), None) => Some(entry.path()),
        _ => None,
    }
}
