//! The layers that the catalog names: put together from built programs, or made by a script from the base's root file system; and the
//! archives of images that are made of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sampan_driver::Command;

use super::catalog::{Catalog, Image};
use super::components::{self, Built, Place};
use super::layers::Layer;
use super::manifest::{Archive, ImageRef};
use super::parts::Part;
use super::{arch, job, oci, tree};
use crate::error::{Error, Result};
use crate::progress::Reporter;
use crate::store::{atomic, hash};

const SCRIPT_DEADLINE: Duration = Duration::from_secs(10 * 60);

/// All layers by name.
pub(super) type Layers = BTreeMap<String, MadeLayer>;

/// A layer that is ready to be written.
pub(super) struct MadeLayer {
    /// What is in it.
    pub(super) layer: Layer,
    /// The directory of the cache that it is from, if a script made it.
    pub(super) dir: Option<PathBuf>,
}

/// All layers of the catalog: of programs that were built, or by their scripts.
pub(super) fn layers(
    place: &Place<'_>,
    catalog: &Catalog,
    built: &[Built],
    base: &Path,
    reporter: &dyn Reporter,
) -> Result<Layers> {
    let mut layers = Layers::new();
    for spec in &catalog.layers {
        let made = match &spec.script {
            Some(script) => {
                let dir = script_layer(place, &spec.name, script, base, reporter)?;
                MadeLayer {
                    layer: Layer::of_dir(&dir.join("root"))?,
                    dir: Some(dir),
                }
            }
            None => {
                let mut layer = Layer::default();
                for file in &spec.files {
                    layer.program(&file.path, components::program(built, &file.program)?);
                }
                for link in &spec.links {
                    layer.link(&link.path, &link.target);
                }
                MadeLayer { layer, dir: None }
            }
        };
        layers.insert(spec.name.clone(), made);
    }
    Ok(layers)
}

/// Runs a layer's script unless it was run with the same inputs before; returns the directory whose `root` is the layer.
fn script_layer(
    place: &Place<'_>,
    name: &str,
    script: &str,
    base: &Path,
    reporter: &dyn Reporter,
) -> Result<PathBuf> {
    let base_name = base.file_name().unwrap_or_default().to_string_lossy();
    let key = hash::Key::new("layer 1")
        .with("base", base_name.as_bytes())
        .with("tree", tree::hash_of("containers"));
    let target = place
        .build
        .join("layers")
        .join(format!("{name}-{}", key.with("script", script).short()));
    if target.is_dir() {
        return Ok(target);
    }
    reporter.detail(&format!("making the image layer {name}"));
    let dir = atomic::Dir::begin(&target)?;
    let root = dir.path().join("root");
    fs::create_dir(&root).map_err(Error::io(&root))?;
    let command = Command::new("sh")
        .path(&place.tree.join(script))
        .path(&base.join("rootfs.tar"))
        .path(&root)
        .deadline(SCRIPT_DEADLINE);
    job::run(
        &format!("layer {name}"),
        &command,
        &place.log(&format!("layer-{name}")),
        place.cancel,
        place.stop,
    )?;
    dir.commit()?;
    Ok(target)
}

/// Writes the archives of container images into a directory; returns their images, and them as files of the parts disk.
pub(super) fn archives(
    place: &Place<'_>,
    catalog: &Catalog,
    layers: &Layers,
    staging: &Path,
    reporter: &dyn Reporter,
) -> Result<(Vec<ImageRef>, Vec<Part>)> {
    reporter.detail("writing the container images");
    let layers = layers
        .iter()
        .map(|(name, made)| (name.as_str(), &made.layer))
        .collect();
    let (mut images, mut files) = (Vec::new(), Vec::new());
    for archive in Archive::ALL {
        let of_it: Vec<&Image> = catalog
            .images
            .iter()
            .filter(|image| image.archive == archive)
            .collect();
        let path = staging.join(archive.file());
        images.extend(oci::write(&path, arch(), &of_it, &layers, place.cancel)?);
        files.push(Part {
            folder: "images".into(),
            name: archive.file().into(),
            from: path,
            executable: false,
        });
    }
    Ok((images, files))
}
