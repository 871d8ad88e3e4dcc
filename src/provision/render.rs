//! The node's files and manifests: all under `files/`, rendered by minijinja, which fails on a name that is not given.

use include_dir::{Dir, include_dir};
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use crate::error::{Error, Kind, Result};

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/provision/files");

/// What sampan's own base system brings. The same files go into a base that lacks them; so each stands in one place only.
static BASE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/images/base/files");

/// Links of the base system, "TARGET PATH" each line.
static LINKS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/images/base/links"));

/// The text of the file `name` below `files/`, with `context` filled in.
///
/// # Errors
/// [`Kind::Internal`]: the files are ours.
pub(super) fn render(name: &str, context: impl Serialize) -> Result<String> {
    fill_in(name, file(name)?, context).map_err(|source| {
        Error::new(Kind::Internal, format!("template {name} cannot be rendered")).because(source)
    })
}

/// A template with `context` filled in; `name` is for messages.
///
/// # Errors
/// minijinja's, also for a name that is not given.
pub(crate) fn fill_in(
    name: &str,
    template: &str,
    context: impl Serialize,
) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_keep_trailing_newline(true);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.render_named_str(name, template, context)
}

/// The text of the file `name` below `files/`, as it is.
///
/// # Errors
/// [`Kind::Internal`]: the files are ours.
pub(super) fn file(name: &str) -> Result<&'static str> {
    text(&FILES, name)
}

/// The text of a file of the base system, named by its path in the guest without the leading slash.
///
/// # Errors
/// [`Kind::Internal`]: the files are ours.
pub(super) fn base(path: &str) -> Result<&'static str> {
    text(&BASE, path)
}

/// All files of the base system: path in the guest without the leading slash, and text.
///
/// # Errors
/// [`Kind::Internal`]: the files are ours.
pub(super) fn base_files() -> Result<Vec<(&'static str, &'static str)>> {
    let mut dirs = vec![&BASE];
    let mut files = Vec::new();
    while let Some(dir) = dirs.pop() {
        dirs.extend(dir.dirs());
        for file in dir.files() {
            let both = file.path().to_str().zip(file.contents_utf8());
            let name = file.path().display();
            files.push(
                both.ok_or_else(|| Error::new(Kind::Internal, format!("{name} of the base is no text")))?,
            );
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// All links of the base system: target and path.
pub(super) fn base_links() -> Vec<(&'static str, &'static str)> {
    let lines = LINKS.lines().filter(|line| !line.starts_with('#'));
    let words = lines.filter_map(|line| line.trim().split_once(char::is_whitespace));
    words.map(|(target, path)| (target, path.trim())).collect()
}

fn text(dir: &'static Dir<'static>, name: &str) -> Result<&'static str> {
    dir.get_file(name)
        .and_then(|file| file.contents_utf8())
        .ok_or_else(|| Error::new(Kind::Internal, format!("no file {name} among the node's files")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_given_is_an_error() {
        let error = render("base/hosts", serde_json::json!({})).unwrap_err();
        assert!(error.to_string().contains("base/hosts"), "{error}");
    }
}
