//! `addon.toml`: what an addon is.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// What it is good for, in one line.
    pub description: String,
    /// Whether new clusters have it.
    #[serde(default)]
    pub default: bool,
    /// Whether it is not there yet: its name is known, and what to say of it.
    #[serde(default)]
    pub coming: bool,
    /// Where to read more.
    #[serde(default)]
    pub docs: Option<String>,
    /// Images of the bundle that its templates name: the last parts of their names.
    #[serde(default)]
    pub images: Vec<String>,
    /// TLS secrets that are made for it.
    #[serde(default)]
    pub secret: Vec<Secret>,
    /// What must be true before it counts as enabled, in this order.
    #[serde(default)]
    pub ready: Vec<Ready>,
    /// What can be configured, with the values it has when nobody did.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// What `addons open` opens.
    #[serde(default)]
    pub open: Option<Open>,
}

/// A secret with `ca.crt`, `tls.crt` and `tls.key`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// DNS names that the certificate is for.
    pub names: Vec<String>,
    /// Secrets with the same authority trust each other.
    pub authority: String,
}

/// Something that must be true.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// Of what kind it is.
    pub kind: ReadyKind,
    /// Its namespace, where its kind has namespaces.
    #[serde(default)]
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Kinds that can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ReadyKind {
    /// Its pods are available.
    Deployment,
    /// Its pods are ready.
    DaemonSet,
    /// It is established.
    CustomResourceDefinition,
    /// It is available.
    #[serde(rename = "APIService")]
    ApiService,
    /// It is complete.
    Job,
    /// Where it is reached is published.
    Service,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub service: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_in_the_file_is_understood_and_anything_else_refused() {
        let text = r#"
            description = "Ingress"
            images = ["contour"]
            [[secret]]
            namespace = "a"
            name = "b"
            names = ["contour"]
            authority = "contour"
            [[ready]]
            kind = "APIService"
            name = "v1.x"
            [options]
            gateway-api = "false"
            [open]
            namespace = "a"
            service = "s"
        "#;
        let about: About = toml::from_str(text).unwrap();
        assert!(!about.default);
        assert_eq!(about.ready[0].kind, ReadyKind::ApiService);
        assert_eq!(about.options["gateway-api"], "false");
        let error = toml::from_str::<About>("description = 'x'\nimagse = []").unwrap_err();
        assert!(error.message().contains("imagse"), "{error}");
    }
}
