//! Manifests and indexes, as registries give them: what an image consists of, and which one is for an architecture.

use serde::Deserialize;

use super::{Blob, problem};
use crate::error::{Error, Result};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What a registry is asked for.
pub(super) const ACCEPTED: &[&str] = &[
    MANIFEST,
    INDEX,
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// More than any manifest has, in bytes.
pub(super) const MOST: u64 = 8 << 20;

/// A manifest or an index.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    schema_version: u32,
    media_type: Option<String>,
    manifests: Option<Vec<Entry>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

/// One image of an index.
#[derive(Debug, Deserialize)]
struct Entry {
    digest: String,
    platform: Option<Platform>,
}

#[derive(Debug, Default, Deserialize)]
struct Platform {
    os: String,
    architecture: String,
    #[serde(default)]
    variant: String,
}

/// A part of an image.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
}

impl Descriptor {
    /// Its sha256 in hex; [`Document::parts`] has looked at it.
    pub(super) fn hex(&self) -> &str {
        self.digest.trim_start_matches("sha256:")
    }
}

impl Document {
    pub(super) fn parse(image: &str, bytes: &[u8]) -> Result<Self> {
        let document: Self = serde_json::from_slice(bytes)
            .map_err(|error| problem::odd(image, "its manifest cannot be read").because(error))?;
        if document.schema_version != 2 {
            return Err(problem::odd(
                image,
                "its manifest is of an old kind that nobody runs any more",
            ));
        }
        Ok(document)
    }

    pub(super) fn media_type(&self) -> String {
        let usual = if self.manifests.is_some() { INDEX } else { MANIFEST };
        self.media_type.as_deref().unwrap_or(usual).to_owned()
    }

    /// The digest of the image for an architecture; nothing when this is no index.
    pub(super) fn choose(&self, image: &str, arch: &str) -> Result<Option<String>> {
        let Some(entries) = &self.manifests else {
            return Ok(None);
        };
        let fits = |entry: &&Entry| {
            let platform = entry.platform.as_ref();
            platform.is_some_and(|platform| platform.os == "linux" && platform.architecture == arch)
        };
        // The one that every machine of the architecture runs: without a variant, or, for arm64, the first of them.
        let rank = |entry: &&Entry| match entry.platform.as_ref().map(|platform| platform.variant.as_str()) {
            Some("") => 0,
            Some("v8") if arch == "arm64" => 1,
            _ => 2,
        };
        if let Some(entry) = entries.iter().filter(fits).min_by_key(rank) {
            check(image, &entry.digest)?;
            return Ok(Some(entry.digest.clone()));
        }
        let there = entries.iter().filter_map(|entry| entry.platform.as_ref());
        let mut there: Vec<String> = there
            .filter(|platform| platform.os != "unknown")
            .map(|platform| match platform.os.as_str() {
                "linux" => platform.architecture.clone(),
                os => format!("{os}/{}", platform.architecture),
            })
            .collect();
        there.sort();
        there.dedup();
        Err(problem::no_arch(image, arch, &there))
    }

    /// Configuration and layers.
    pub(super) fn parts(self, image: &str) -> Result<(Descriptor, Vec<Descriptor>)> {
        let (Some(config), Some(layers)) = (self.config, self.layers) else {
            return Err(problem::odd(
                image,
                "its manifest names no configuration or no layers",
            ));
        };
        for part in layers.iter().chain([&config]) {
            check(image, &part.digest)?;
        }
        Ok((config, layers))
    }
}

/// Digests become names of files.
fn check(image: &str, digest: &str) -> Result<()> {
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if hex.len() == 64 && hex.chars().all(is_hex) {
        return Ok(());
    }
    Err(problem::odd(
        image,
        &format!("its manifest names {digest:?}, which is not a sha256 digest"),
    ))
}

/// Whether an image that came without an index is for the architecture.
pub(super) fn check_arch(image: &str, config: &Blob, arch: &str) -> Result<()> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        architecture: String,
    }
    let bytes = std::fs::read(&config.path).map_err(Error::io(&config.path))?;
    // Something else than an image may have another configuration; then there is nothing to look at.
    let Ok(config) = serde_json::from_slice::<Config>(&bytes) else {
        return Err(problem::odd(image, "its configuration cannot be read"));
    };
    if config.architecture.is_empty() || config.architecture == arch {
        return Ok(());
    }
    Err(problem::no_arch(image, arch, &[config.architecture]))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn digest(letter: &str) -> String {
        format!("sha256:{}", letter.repeat(64))
    }

    fn entry(letter: &str, os: &str, arch: &str, variant: &str) -> Value {
        let mut entry = json!({
            "digest": digest(letter), "size": 1, "mediaType": MANIFEST,
            "platform": { "os": os, "architecture": arch },
        });
        if !variant.is_empty() {
            entry["platform"]["variant"] = json!(variant);
        }
        entry
    }

    fn choose(entries: &[Value], arch: &str) -> Result<Option<String>> {
        let document = json!({ "schemaVersion": 2, "manifests": entries });
        Document::parse("app:1", document.to_string().as_bytes())?.choose("app:1", arch)
    }

    #[test]
    fn an_index_leads_to_the_image_of_the_architecture() {
        let entries = [
            entry("0", "unknown", "unknown", ""),
            entry("1", "windows", "amd64", ""),
            entry("2", "linux", "amd64", "v3"),
            entry("3", "linux", "amd64", ""),
            entry("4", "linux", "arm64", "v9"),
            entry("5", "linux", "arm64", "v8"),
            entry("6", "linux", "s390x", "z"),
        ];
        for (arch, letter) in [("amd64", "3"), ("arm64", "5"), ("s390x", "6")] {
            assert_eq!(choose(&entries, arch).unwrap(), Some(digest(letter)), "{arch}");
        }
        let error = choose(&entries, "riscv64").unwrap_err();
        assert_eq!(error.to_string(), "there is no image app:1 for riscv64");
        assert!(
            error.hints()[0].contains("amd64, arm64, s390x, windows/amd64"),
            "{:?}",
            error.hints()
        );
    }

    #[test]
    fn a_manifest_of_one_image_is_no_index() {
        let part = json!({ "mediaType": "x", "digest": digest("a"), "size": 7 });
        let document = json!({ "schemaVersion": 2, "config": part, "layers": [part, part] });
        let document = Document::parse("app", document.to_string().as_bytes()).unwrap();
        assert_eq!(document.choose("app", "amd64").unwrap(), None);
        assert_eq!(document.media_type(), MANIFEST);
        let (config, layers) = document.parts("app").unwrap();
        assert_eq!(
            (config.size, layers.len(), config.hex()),
            (7, 2, "a".repeat(64).as_str())
        );
    }

    #[test]
    fn what_cannot_be_a_manifest_says_so() {
        let part = |digest: &str| json!({ "mediaType": "x", "digest": digest, "size": 7 });
        let climbing = json!({ "schemaVersion": 2, "config": part("sha256:../../x"), "layers": [] });
        for (text, word) in [
            ("<html>".to_owned(), "cannot be read"),
            (json!({ "schemaVersion": 1 }).to_string(), "old kind"),
            (json!({ "schemaVersion": 2 }).to_string(), "no configuration"),
            (climbing.to_string(), "not a sha256 digest"),
        ] {
            let parts = Document::parse("app", text.as_bytes()).and_then(|document| document.parts("app"));
            let error = parts.unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
