//! A node for tests, with nobody behind it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use sampan_driver::{Command, CommandError, Runner, Stream};
use tempfile::TempDir;

use super::{Api, ImageRef, Node, Parts, Pki};
use crate::pki::docker::Served;
use crate::progress::{Cancel, Silent};
use crate::settings::{ClusterSpec, ContainerRuntime, ExtraConfig};

/// Succeeds at everything, with nothing to say.
pub(super) struct Yes;

impl Runner for Yes {
    fn place(&self) -> String {
        "test".into()
    }

    fn run_streamed(&self, _: &Command, _: &mut dyn FnMut(Stream, &[u8])) -> Result<(), CommandError> {
        Ok(())
    }
}

pub(super) struct Fixture {
    pub(super) spec: ClusterSpec,
    pub(super) parts: Parts,
    pki: Pki,
    api: Api,
    cancel: Cancel,
    _dir: TempDir,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = rcgen::CertificateParams::new(Vec::new())
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let pki = Pki {
            ca_cert: dir.path().join("ca.crt"),
            ca_key: dir.path().join("ca.key"),
            docker: Served::new(dir.path()),
        };
        std::fs::write(&pki.ca_cert, cert.pem()).unwrap();
        std::fs::write(&pki.ca_key, key.serialize_pem()).unwrap();
        for path in [&pki.docker.ca, &pki.docker.cert, &pki.docker.key] {
            std::fs::write(path, "PEM\n").unwrap();
        }
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        Self {
            spec: ClusterSpec {
                name: "demo".into(),
                driver: "fake".into(),
                cpus: 2,
                memory_mib: 2048,
                disk_mib: 8192,
                kubernetes_version: "v1.36.3".into(),
                container_runtime: ContainerRuntime::Containerd,
                dns_domain: "cluster.local".into(),
                service_cidr: "10.96.0.0/12".into(),
                pod_cidr: "10.244.0.0/16".into(),
                apiserver_names: Vec::new(),
                feature_gates: String::new(),
                insecure_registries: Vec::new(),
                registry_mirrors: Vec::new(),
                extra_config: Vec::new(),
            },
            parts: Parts {
                key: "k".into(),
                cloud: false,
                images: [
                    ("registry.k8s.io/kube-proxy", "v1.36.3"),
                    ("registry.k8s.io/coredns/coredns", "v1.14.2"),
                    ("registry.k8s.io/pause", "3.10.2"),
                    ("docker.io/rancher/local-path-provisioner", "v0.0.30"),
                    ("sampan.local/helper", "v1"),
                    ("ghcr.io/projectcontour/contour", "v1.33.8"),
                ]
                .map(|(name, tag)| ImageRef {
                    name: name.into(),
                    tag: tag.into(),
                    addon: name.ends_with("/contour"),
                })
                .to_vec(),
            },
            api: Api::new(nowhere, &pki.ca_cert, &pki.ca_cert, &pki.ca_key).unwrap(),
            pki,
            cancel: Cancel::default(),
            _dir: dir,
        }
    }

    /// Adds one `--extra-config`.
    pub(super) fn extra(mut self, component: &str, key: &str, value: &str) -> Self {
        self.spec.extra_config.push(ExtraConfig {
            component: component.into(),
            key: key.into(),
            value: value.into(),
        });
        self
    }

    pub(super) fn node(&self) -> Node<'_> {
        Node {
            runner: &Yes,
            api: &self.api,
            name: &self.spec.name,
            spec: &self.spec,
            parts: &self.parts,
            pki: &self.pki,
            address: IpAddr::V4(Ipv4Addr::new(10, 0, 2, 15)),
            host: IpAddr::V4(Ipv4Addr::new(10, 0, 2, 2)),
            reporter: &Silent,
            cancel: &self.cancel,
        }
    }
}
