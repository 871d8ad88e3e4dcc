//! Every file and directory name that sampan puts on disk. `docs/files.md` explains them to users.
//!
//! ```text
//! CONFIG/config.toml                    settings
//! CONFIG/addons/NAME/                   an addon of the user's: addon.toml and *.yaml
//! DATA/current                          name of the current profile
//! DATA/addresses.lock                   held while a profile chooses its loopback address
//! DATA/profiles/NAME.lock               held by the one process that changes the profile
//! DATA/profiles/NAME/profile.toml       what the profile is: sizes, versions, address, bundle
//!                   /state.toml         steps that are done, with a hash of their inputs
//!                   /addons.toml        addons to be enabled or disabled by the next start, and what was seen of them last
//!                   /events.json        what is going on right now, for `status`
//!                   /ssh/               id_ed25519, id_ed25519.pub, host_ed25519, host_ed25519.pub
//!                   /pki/               ca.crt, ca.key, admin.crt, admin.key
//!                          docker-ca.crt, docker-ca.key, docker-server.crt, docker-server.key
//!                   /docker/            ca.pem, cert.pem, key.pem: what the user's docker shows and trusts
//!                   /ports.toml         the user's own forwards
//!                   /supervisor.sock, supervisor.lock, supervisor.log   the process that publishes ports
//!                   /seed.img           FAT image the guest reads its identity from
//!                   /machine/           the driver's own: disk, sockets, pidfile, serial log
//!                   /kept/              hard links to what the machine stands on, against removal by hand
//!                   /claim              the layer that the machine is going to be forked from
//!                   /forking            there while `fork` makes the profile
//! DATA/layers/ID/                       a layer made of a user's machine by `snapshot save` or `fork`; as below
//! CACHE/layers/KEY-ID/layer.toml        a ready layer: what it is, sizes and sums; written last. No ID is used twice: machines
//!                                       stand on the files below by their names, so other files must never get these
//!                    /damaged.toml      its name in a layer that failed its check
//!                    /state/            the driver's own: memory, devices and disk of the machine
//!                    /ssh/ /pki/ /docker/ seed.img  the identity its machine has; forks begin with it
//! CACHE/layers/.making-KEY/             the same under construction: laid out as DATA
//! CACHE/bundles/KEY/                    one bundle (bundle.toml, disk.raw, parts.img, addons/NAME/, …)
//! CACHE/downloads/sha256/HEX            what was fetched: whole, and verified
//!                 /sha512/HEX           links to the same by their other sum
//!                 /parts/ID.part        what was fetched of one address so far
//!                 /parts/ID.toml        which version of it that is
//!                 /parts/ID.lock        held by the one process that fetches it
//!                 /first-use.toml       sums of what no checksum is published of, as it was first fetched
//! CACHE/build/                          component builds by hash, the unpacked images tree, logs
//! CACHE/drivers/NAME/                   verdicts of host probes
//! CACHE/used/KEY                        touched when a bundle or a ready layer is used
//! CACHE/locks/                          locks of layers under construction; layers.lock while some are chosen or removed
//! ```

use std::path::{Path, PathBuf};

/// The three roots. Under `SAMPAN_HOME` they are `config`, `data` and `cache` below it; else the platform's own directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Settings.
    pub config: PathBuf,
    /// Profiles: what belongs to the user.
    pub data: PathBuf,
    /// Layers: what can be made again.
    pub cache: PathBuf,
}

impl Layout {
    /// All three under one directory (`SAMPAN_HOME`).
    pub fn under(home: &Path) -> Self {
        Self {
            config: home.join("config"),
            data: home.join("data"),
            cache: home.join("cache"),
        }
    }

    /// The settings file.
    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// The directory of the user's own addons.
    pub fn addons(&self) -> PathBuf {
        self.config.join("addons")
    }

    /// The file naming the current profile.
    pub fn current_profile(&self) -> PathBuf {
        self.data.join("current")
    }

    /// Lock for choosing an address.
    pub fn addresses_lock(&self) -> PathBuf {
        self.data.join("addresses.lock")
    }

    /// The directory of all profiles.
    pub fn profiles(&self) -> PathBuf {
        self.data.join("profiles")
    }

    /// One profile's files.
    pub fn profile(&self, name: &str) -> ProfileLayout {
        ProfileLayout {
            dir: self.profiles().join(name),
            lock: self.profiles().join(format!("{name}.lock")),
        }
    }

    /// The directory of all ready layers.
    pub fn ready_layers(&self) -> PathBuf {
        self.cache.join("layers")
    }

    /// One ready layer.
    pub fn ready_layer(&self, key: &str) -> LayerLayout {
        LayerLayout(self.ready_layers().join(key))
    }

    /// Where a ready layer is made: laid out as `data`, with one profile in it.
    pub fn template(&self, key: &str) -> PathBuf {
        self.ready_layers().join(format!("{TEMPLATE_PREFIX}{key}"))
    }

    /// The directory of all layers made of users' machines.
    pub fn user_layers(&self) -> PathBuf {
        self.data.join("layers")
    }

    /// A layer made of a user's machine.
    pub fn user_layer(&self, id: &str) -> LayerLayout {
        LayerLayout(self.user_layers().join(id))
    }

    /// The directory of all bundles.
    pub fn bundles(&self) -> PathBuf {
        self.cache.join("bundles")
    }

    /// One bundle.
    pub fn bundle(&self, key: &str) -> BundleLayout {
        BundleLayout(self.bundles().join(key))
    }

    /// What was fetched.
    pub fn downloads(&self) -> PathBuf {
        self.cache.join("downloads")
    }

    /// Component builds by hash, the unpacked images tree, logs.
    pub fn build(&self) -> PathBuf {
        self.cache.join("build")
    }

    /// A driver's verdicts about this host.
    pub fn driver_cache(&self, driver: &str) -> PathBuf {
        self.cache.join("drivers").join(driver)
    }

    /// Touched when a bundle or a ready layer is used.
    pub fn used_stamp(&self, key: &str) -> PathBuf {
        self.cache.join("used").join(key)
    }

    /// Held while layers are chosen to be used, or to be removed.
    pub fn layers_lock(&self) -> PathBuf {
        self.layer_lock("layers")
    }

    /// The lock of a layer under construction.
    pub fn layer_lock(&self, key: &str) -> PathBuf {
        self.cache.join("locks").join(format!("{key}.lock"))
    }
}

/// What the names of ready layers under construction begin with.
pub const TEMPLATE_PREFIX: &str = ".making-";

/// Names inside a layer's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerLayout(pub PathBuf);

impl LayerLayout {
    /// What the layer is; there when the layer is complete.
    pub fn manifest(&self) -> PathBuf {
        self.0.join("layer.toml")
    }

    /// What [`Self::manifest`] is called in a layer that failed its check; it is removed when no machine stands on it.
    pub fn damaged(&self) -> PathBuf {
        self.0.join("damaged.toml")
    }

    /// The driver's own.
    pub fn state(&self) -> PathBuf {
        self.0.join(LAYER_STATE)
    }
}

/// The driver's own directory in a layer.
pub const LAYER_STATE: &str = "state";

/// What of a profile's directory is its identity to the guest; a layer has the same names.
pub const IDENTITY: [&str; 4] = ["ssh", "pki", "docker", "seed.img"];

/// Names inside a profile's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileLayout {
    /// The directory itself.
    pub dir: PathBuf,
    /// The lock, outside the directory so that it outlives a delete.
    pub lock: PathBuf,
}

impl ProfileLayout {
    /// What the profile is.
    pub fn profile_toml(&self) -> PathBuf {
        self.dir.join("profile.toml")
    }

    /// Steps that are done.
    pub fn state_toml(&self) -> PathBuf {
        self.dir.join("state.toml")
    }

    /// What the next start is to do with addons.
    pub fn addons_toml(&self) -> PathBuf {
        self.dir.join("addons.toml")
    }

    /// The upgrade that is under way.
    pub fn upgrade_toml(&self) -> PathBuf {
        self.dir.join("upgrade.toml")
    }

    /// What is going on right now.
    pub fn events(&self) -> PathBuf {
        self.dir.join("events.json")
    }

    /// The user's own forwards.
    pub fn ports(&self) -> PathBuf {
        self.dir.join("ports.toml")
    }

    /// The supervisor's socket.
    pub fn supervisor_socket(&self) -> PathBuf {
        self.dir.join("supervisor.sock")
    }

    /// Held by the one supervisor.
    pub fn supervisor_lock(&self) -> PathBuf {
        self.dir.join("supervisor.lock")
    }

    /// What the supervisor did.
    pub fn supervisor_log(&self) -> PathBuf {
        self.dir.join("supervisor.log")
    }

    /// The user's private key for the guest.
    pub fn ssh_key(&self) -> PathBuf {
        self.dir.join("ssh/id_ed25519")
    }

    /// The guest's private host key.
    pub fn ssh_host_key(&self) -> PathBuf {
        self.dir.join("ssh/host_ed25519")
    }

    /// The directory of the cluster's certificates: ca.crt, ca.key, admin.crt, admin.key.
    pub fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// The directory that DOCKER_CERT_PATH names: ca.pem, cert.pem, key.pem.
    pub fn docker(&self) -> PathBuf {
        self.dir.join("docker")
    }

    /// The guest's identity as a disk image.
    pub fn seed(&self) -> PathBuf {
        self.dir.join("seed.img")
    }

    /// Hard links to files of layers and bundles that the machine stands on, named by their full paths.
    pub fn kept(&self) -> PathBuf {
        self.dir.join("kept")
    }

    /// The directory of the layer that the machine is going to be forked from.
    pub fn claim(&self) -> PathBuf {
        self.dir.join("claim")
    }

    /// There while the profile is being made as a fork of another.
    pub fn forking(&self) -> PathBuf {
        self.dir.join("forking")
    }

    /// There while the machine is taken back to a snapshot of another version.
    pub fn restoring(&self) -> PathBuf {
        self.dir.join("restoring")
    }

    /// The driver's own directory.
    pub fn machine(&self) -> PathBuf {
        self.dir.join("machine")
    }
}

/// Names inside a bundle's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleLayout(pub PathBuf);

impl BundleLayout {
    /// Manifest: versions and sha256 sums.
    pub fn manifest(&self) -> PathBuf {
        self.0.join("bundle.toml")
    }

    /// What was really fetched for it; a bundle that was built has none.
    pub fn lock(&self) -> PathBuf {
        self.0.join("bundle.lock")
    }

    /// Base disk, raw and partitioned.
    pub fn disk(&self) -> PathBuf {
        self.0.join("disk.raw")
    }

    /// Kernel for direct boot.
    pub fn kernel(&self) -> PathBuf {
        self.0.join("vmlinuz")
    }

    /// Initial RAM disk for direct boot.
    pub fn initrd(&self) -> PathBuf {
        self.0.join("initrd.img")
    }

    /// Kernel command line for direct boot, one line.
    pub fn cmdline(&self) -> PathBuf {
        self.0.join("cmdline")
    }

    /// Programs and container images as a read-only disk.
    pub fn parts(&self) -> PathBuf {
        self.0.join("parts.img")
    }

    /// The host's kubectl.
    pub fn kubectl(&self) -> PathBuf {
        self.0.join("bin/kubectl")
    }

    /// What addons are: a directory for each, with `addon.toml` and manifests.
    pub fn addons(&self) -> PathBuf {
        self.0.join("addons")
    }
}

/// Names inside the directory of what was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadsLayout(pub PathBuf);

impl DownloadsLayout {
    /// A whole, verified file by its sha256 in hex.
    pub fn sha256(&self, sum: &str) -> PathBuf {
        self.0.join("sha256").join(sum)
    }

    /// A link to such a file, by its sha512 in hex.
    pub fn sha512(&self, sum: &str) -> PathBuf {
        self.0.join("sha512").join(sum)
    }

    /// What there is so far of something.
    pub fn part(&self, id: &str) -> PathBuf {
        self.0.join("parts").join(format!("{id}.part"))
    }

    /// Which version of it [`Self::part`] is.
    pub fn part_version(&self, id: &str) -> PathBuf {
        self.0.join("parts").join(format!("{id}.toml"))
    }

    /// Held while it is fetched.
    pub fn part_lock(&self, id: &str) -> PathBuf {
        self.0.join("parts").join(format!("{id}.lock"))
    }

    /// Sums that nobody published, as they were at first.
    pub fn first_use(&self) -> PathBuf {
        self.0.join("first-use.toml")
    }

    /// Held while [`Self::first_use`] is changed.
    pub fn first_use_lock(&self) -> PathBuf {
        self.0.join("first-use.lock")
    }
}
