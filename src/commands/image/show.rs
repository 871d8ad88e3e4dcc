//! `image ls`.

use serde_json::Value;

use crate::bundle::Manifest;
use crate::cli::image::ImageFormat;
use crate::cluster::{self, Context, Profile};
use crate::error::{Error, Kind, Result};
use crate::images::{self, Listed};
use crate::progress::Reporter;
use crate::ui::Table;

use super::{App, Reached};

pub(super) fn list(app: &App, reached: &Reached, format: ImageFormat) -> Result<()> {
    let own = match Manifest::read(&reached.access.bundle)? {
        Some(manifest) => manifest.images,
        None => Vec::new(),
    };
    let own: Vec<(String, String)> = own
        .into_iter()
        .map(|image| (format!("{}:{}", image.name, image.tag), image.digest))
        .collect();
    // Each of the two takes a handshake with an emulated processor: together, not one after the other.
    let context = app.context()?;
    let (docker, node) = std::thread::scope(|scope| {
        let node = scope.spawn(|| node(&context, &reached.access.profile));
        (reached.engine.images(), node.join())
    });
    let node = node.unwrap_or_else(|_| Err(Error::new(Kind::Internal, "the question was not put")));
    let node = node
        .inspect_err(|error| {
            app.ui
                .warn(&format!("images that Kubernetes pulled are not listed: {error}"));
        })
        .ok();
    let all = images::list(&docker?, &own, node.as_ref());
    match format {
        ImageFormat::Short => {
            for name in all.iter().flat_map(|image| image.repo_tags.iter().rev()) {
                app.ui.line(name);
            }
        }
        ImageFormat::Table => app.ui.line(&table(&all).to_string()),
        ImageFormat::Json => app.ui.json(&all),
        ImageFormat::Yaml => {
            let text = yaml_serde::to_string(&all)
                .map_err(|error| Error::new(Kind::Internal, "cannot write YAML").because(error))?;
            app.ui.bytes(text.as_bytes());
        }
    }
    Ok(())
}

/// The node as Kubernetes tells it.
fn node(context: &Context, profile: &Profile) -> Result<Value> {
    let path = format!("/api/v1/nodes/{}", profile.node());
    cluster::api(context, profile)?.get_within(&path, std::time::Duration::from_secs(5))
}

fn table(all: &[Listed]) -> Table {
    let mut table = Table::new(&["Image", "Tag", "Image ID", "Size"]);
    for image in all {
        let id: String = image.id.chars().take(13).collect();
        let size = size(&image.size);
        for name in &image.repo_tags {
            let (repository, tag) = name.rsplit_once(':').unwrap_or((name, ""));
            table.row(&[repository.to_owned(), tag.to_owned(), id.clone(), size.clone()]);
        }
        if image.repo_tags.is_empty() {
            table.row(&["<none>".to_owned(), "<none>".to_owned(), id, size]);
        }
    }
    table
}

/// "742kB", "28.9MB": as docker writes sizes.
fn size(bytes: &str) -> String {
    let mut size: f64 = bytes.parse().unwrap_or_default();
    let mut units = ["B", "kB", "MB", "GB", "TB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while size >= 1000.0
        && let Some(next) = units.next()
    {
        size /= 1000.0;
        unit = next;
    }
    let digits = if size >= 100.0 || unit == "B" {
        0
    } else if size >= 10.0 {
        1
    } else {
        2
    };
    format!("{size:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_docker_does() {
        for (bytes, text) in [
            ("0", "0B"),
            ("742", "742B"),
            ("742000", "742kB"),
            ("28900000", "28.9MB"),
            ("1234567890", "1.23GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
