//! A mirror of upstream on a disk: laid out and named as the real hosts have them, with the checksum files beside them. What is
//! in the files is somebody else's to say.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use sampan::store::hash;
use serde_json::{Value, json};

/// Where cri-dockerd is, which a mirror may do without.
pub(crate) const CRI_DOCKERD: &str =
    "github.com/Mirantis/cri-dockerd/releases/download/v0.4.10/cri-dockerd-0.4.10.ARCH.tgz";

/// The mirror.
pub(crate) struct Mirror(pub(crate) PathBuf);

/// The images of a release, as the real registries have them; `helper` is busybox.
pub(crate) fn images(release: &str) -> Vec<String> {
    let (etcd, coredns, pause) = match release {
        "v1.36.3" => ("3.6.8-0", "v1.14.2", "3.10.2"),
        "v1.34.1" => ("3.6.4-0", "v1.12.1", "3.10.1"),
        other => panic!("no stand-in for {other}"),
    };
    let mut images: Vec<String> = [
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kube-proxy",
    ]
    .map(|name| format!("registry.k8s.io/{name}:{release}"))
    .to_vec();
    images.extend([
        format!("registry.k8s.io/etcd:{etcd}"),
        format!("registry.k8s.io/coredns/coredns:{coredns}"),
        format!("registry.k8s.io/pause:{pause}"),
    ]);
    images.extend(
        [
            "docker.io/rancher/local-path-provisioner:v0.0.30",
            "docker.io/library/busybox:1.37.0",
            "ghcr.io/projectcontour/contour:v1.33.8",
            "docker.io/envoyproxy/envoy:distroless-v1.40.0",
            "registry.k8s.io/metrics-server/metrics-server:v0.9.0",
            "docker.io/library/registry:3.0.0",
        ]
        .map(str::to_owned),
    );
    images
}

/// The kernel's name of an architecture.
fn cpu() -> &'static str {
    match sampan::bundle::arch() {
        "amd64" => "x86_64",
        _ => "aarch64",
    }
}

/// What the files of a mirror hold.
pub(crate) trait Content {
    /// A program, by its path in the archive that it comes in, or its name; none for what cannot be had.
    fn program(&self, path: &str) -> Option<Vec<u8>>;
    /// A package, by the name of its file.
    fn package(&self, file: &str) -> Vec<u8>;
    /// Writes the cloud image.
    fn cloud_image(&self, to: &Path);
    /// The configuration of an image for an architecture, and its layers, unpacked; none where there is none for it.
    fn image(&self, reference: &str, arch: &str) -> Option<(Value, Vec<Vec<u8>>)>;
}

impl Mirror {
    /// A mirror with all that a release needs.
    pub(crate) fn with(dir: &Path, release: &str, content: &dyn Content) -> Self {
        let mirror = Self(dir.to_owned());
        mirror.add_kubernetes(release, content);
        mirror.add_programs(content);
        mirror.add_cloud_image(content);
        for path in packages() {
            let file = path.rsplit('/').next().unwrap();
            mirror.put(&format!("snapshot.debian.org/{path}"), &content.package(file));
        }
        for image in images(release) {
            mirror.add_image(&image, content);
        }
        mirror
    }

    /// Where something is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        let name = name.replace("ARCH", sampan::bundle::arch()).replace("CPU", cpu());
        self.0.join(name)
    }

    fn put(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// A bare sum beside each, as the release server has it.
    fn add_kubernetes(&self, release: &str, content: &dyn Content) {
        for name in ["kubelet", "kubeadm", "kubectl"] {
            let path = format!("dl.k8s.io/release/{release}/bin/linux/ARCH/{name}");
            let program = content.program(name).unwrap();
            self.put(&path, &program);
            self.put(&format!("{path}.sha256"), hash::bytes(&program).as_bytes());
        }
    }

    fn add_programs(&self, content: &dyn Content) {
        let archive = |paths: &[&str]| {
            let programs = paths.iter().map(|path| (*path, content.program(path)));
            let programs: Vec<_> = programs
                .filter_map(|(path, bytes)| Some((path, bytes?)))
                .collect();
            self::archive(&programs)
        };
        let github = |path: &str| format!("github.com/{path}");
        let containerd =
            github("containerd/containerd/releases/download/v2.4.1/containerd-2.4.1-linux-ARCH.tar.gz");
        let programs = [
            "bin/containerd",
            "bin/containerd-shim-runc-v2",
            "bin/ctr",
            "bin/containerd-stress",
        ];
        self.put(&containerd, &archive(&programs));
        self.put_sum(&containerd, &format!("{containerd}.sha256sum"));

        let runc = github("opencontainers/runc/releases/download/v1.5.2/runc.ARCH");
        let program = content.program("runc").unwrap();
        self.put(&runc, &program);
        let sums = format!(
            "{}  runc.riscv64\n{}  runc.{}\n",
            "0".repeat(64),
            hash::bytes(&program),
            sampan::bundle::arch()
        );
        self.put(
            "github.com/opencontainers/runc/releases/download/v1.5.2/runc.sha256sum",
            sums.as_bytes(),
        );

        let cni =
            github("containernetworking/plugins/releases/download/v1.9.1/cni-plugins-linux-ARCH-v1.9.1.tgz");
        let plugins = [
            "./bridge",
            "./loopback",
            "./host-local",
            "./portmap",
            "./firewall",
            "./dhcp",
            "./LICENSE",
        ];
        self.put(&cni, &archive(&plugins));
        self.put_sum(&cni, &format!("{cni}.sha256"));

        let docker = [
            "docker/docker",
            "docker/dockerd",
            "docker/docker-proxy",
            "docker/containerd",
        ];
        self.put(
            "download.docker.com/linux/static/stable/CPU/docker-29.8.1.tgz",
            &archive(&docker),
        );
        let cri = "cri-dockerd/cri-dockerd";
        if content.program(cri).is_some() {
            self.put(CRI_DOCKERD, &archive(&[cri]));
        }

        let own = "releases.sampan.internal/image-mirror/v1/image-mirror-linux-ARCH";
        self.put(own, &content.program("image-mirror").unwrap());
        self.put_sum(own, "releases.sampan.internal/image-mirror/v1/SHA256SUMS");
    }

    /// In the folder of one day, with the sums of that folder.
    fn add_cloud_image(&self, content: &dyn Content) {
        let folder = "cloud.debian.org/images/cloud/trixie/20261001-2618";
        let name = format!("{folder}/debian-13-genericcloud-ARCH-20261001-2618.qcow2");
        let path = self.put(&name, b"");
        content.cloud_image(&path);
        let sum = Command::new("sha512sum").arg(&path).output().unwrap();
        let sum = String::from_utf8(sum.stdout).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let sums = format!("{}  other.qcow2\n{}  {name}\n", "0".repeat(128), &sum[..128]);
        self.put(&format!("{folder}/SHA512SUMS"), sums.as_bytes());
    }

    /// The line that `sha256sum` prints.
    fn put_sum(&self, of: &str, at: &str) {
        let path = self.path(of);
        let sum = hash::file(&path, &mut |_| ()).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        self.put(at, format!("{sum}  {name}\n").as_bytes());
    }

    /// An image for the architectures that there are, laid out as a registry's addresses, its layers packed.
    pub(crate) fn add_image(&self, reference: &str, content: &dyn Content) {
        let (host, rest) = reference.split_once('/').unwrap();
        let (name, tag) = rest.rsplit_once(':').unwrap();
        let blob = |bytes: &[u8]| {
            let digest = format!("sha256:{}", hash::bytes(bytes));
            self.put(&format!("{host}/v2/{name}/blobs/{digest}"), bytes);
            digest
        };
        let descriptor = |kind: &str, bytes: &[u8]| {
            let media_type = format!("application/vnd.oci.image.{kind}");
            json!({ "mediaType": media_type, "digest": blob(bytes), "size": bytes.len() })
        };
        let mut entries = Vec::new();
        for arch in ["amd64", "arm64"] {
            let Some((config, layers)) = content.image(reference, arch) else {
                continue;
            };
            let layers = layers
                .iter()
                .map(|layer| descriptor("layer.v1.tar+gzip", &gzip(layer)));
            let manifest = json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": descriptor("config.v1+json", config.to_string().as_bytes()),
                "layers": layers.collect::<Vec<_>>(),
            });
            let bytes = manifest.to_string().into_bytes();
            let digest = format!("sha256:{}", hash::bytes(&bytes));
            self.put(&format!("{host}/v2/{name}/manifests/{digest}"), &bytes);
            let mut entry: Value =
                json!({ "mediaType": manifest["mediaType"], "digest": digest, "size": bytes.len() });
            entry["platform"] = json!({ "architecture": arch, "os": "linux" });
            entries.push(entry);
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": entries,
        });
        self.put(
            &format!("{host}/v2/{name}/manifests/{tag}"),
            index.to_string().as_bytes(),
        );
    }
}

/// The catalog with the sums of these packages in place of the real ones.
pub(crate) fn catalog(content: &dyn Content) -> String {
    let own = include_str!("../../images/upstream.toml");
    let mut packages = packages().into_iter();
    let lines = own.lines().map(|line| {
        if !line.starts_with("sha256 = { amd64") {
            return line.to_owned();
        }
        let path = packages.next().unwrap();
        let package = content.package(path.rsplit('/').next().unwrap());
        let (arch, sum) = (sampan::bundle::arch(), hash::bytes(&package));
        format!("sha256 = {{ {arch} = \"{sum}\" }}")
    });
    lines.map(|line| line + "\n").collect()
}

/// Paths of all packages on their host.
pub(crate) fn packages() -> Vec<String> {
    let own = include_str!("../../images/upstream.toml");
    let urls = own
        .lines()
        .filter_map(|line| line.strip_prefix("url = \"https://snapshot.debian.org/"));
    urls.map(|url| {
        url.trim_end_matches('"')
            .replace("{arch}", sampan::bundle::arch())
    })
    .collect()
}

/// A gzipped archive of files.
pub(crate) fn archive(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        add(&mut tar, path, content);
    }
    gzip(&tar.into_inner().unwrap())
}

/// Adds a file under a name as it is, also one that leads elsewhere.
pub(crate) fn add(tar: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_cksum();
    tar.append(&header, content).unwrap();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
