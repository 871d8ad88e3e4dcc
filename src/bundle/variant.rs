//! This sampan's own bundle under another patch version of Kubernetes: the same sources, linked to say another version. Tests of
//! upgrades need two versions, and kubeadm only looks at what they are called.

use std::path::Path;

use super::{Catalog, build, catalog, current_key, lock, put_together};
use crate::error::{Error, Kind, Result};
use crate::layout::Layout;
use crate::progress::{Cancel, Reporter};
use crate::store::hash;

/// Builds the bundle in `target`, a directory that is not there yet, with the build cache of `layout`; returns its key. Programs that
/// do not say the version are taken from the cache.
///
/// # Errors
/// [`Kind::Usage`] for a version of another minor one; else as [`super::build_here`].
pub fn build_as(
    layout: &Layout,
    version: &str,
    target: &Path,
    reporter: &dyn Reporter,
    cancel: &Cancel,
) -> Result<String> {
    let catalog = renamed(catalog()?, version)?;
    let key = hash::Key::new("variant 1")
        .with("bundle", current_key()?)
        .with("kubernetes", version)
        .short();
    let order = build::Order {
        key: &key,
        catalog,
        target: target.to_owned(),
        tidy: false,
    };
    let _lock = lock(layout, reporter, cancel)?;
    put_together(layout, &order, reporter, cancel)?;
    Ok(key)
}

/// A catalog with another version wherever it names that of Kubernetes.
fn renamed(mut catalog: Catalog, version: &str) -> Result<Catalog> {
    let old = std::mem::replace(&mut catalog.bundle.kubernetes, version.to_owned());
    let minor = |version: &str| version.rsplit_once('.').map(|(minor, _)| minor.to_owned());
    if minor(version) != minor(&old) {
        return Err(Error::new(
            Kind::Usage,
            format!("the sources are of Kubernetes {old}, and cannot pass for {version}"),
        )
        .hint("choose another patch version"));
    }
    for component in catalog
        .components
        .iter_mut()
        .filter(|component| component.version == old)
    {
        version.clone_into(&mut component.version);
        component.ldflags = component
            .ldflags
            .replace(&format!("={old} "), &format!("={version} "));
    }
    for image in catalog.images.iter_mut().filter(|image| image.tag == old) {
        version.clone_into(&mut image.tag);
    }
    Ok(catalog)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_names_the_version_changes() {
        let own = catalog().unwrap();
        let old = own.bundle.kubernetes.clone();
        let other = renamed(own.clone(), &format!("{old}9")).unwrap();
        let component = |catalog: &Catalog, name: &str| {
            let mut all = catalog.components.iter();
            all.find(|component| component.name == name).unwrap().clone()
        };
        assert_eq!(component(&other, "etcd"), component(&own, "etcd"));
        let flags = component(&other, "kubernetes").ldflags;
        assert_eq!(
            flags.matches(&format!("gitVersion={old}9 ")).count(),
            2,
            "{flags}"
        );
        let tags =
            |catalog: &Catalog, tag: &str| catalog.images.iter().filter(|image| image.tag == tag).count();
        assert_eq!(tags(&other, &format!("{old}9")), tags(&own, &old));
        assert_eq!(tags(&other, &old), 0);
        assert_eq!(renamed(own, "v1.2.3").unwrap_err().kind(), Kind::Usage);
    }
}
