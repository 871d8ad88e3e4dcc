//! What cloud-init finds on the seed (its NoCloud source): who the machine is, how it is reached, and that it is to leave everything else
//! alone. A base of sampan's own has no cloud-init and reads the files below `sampan/` instead; the same seed serves both.

use serde::Serialize;

use crate::error::{Error, Kind, Result};

/// Who a guest is.
pub(super) struct Identity<'a> {
    /// The node's name.
    pub(super) name: &'a str,
    /// Root's authorized key, one line.
    pub(super) authorized_key: &'a str,
    /// The guest's host key, OpenSSH's PEM.
    pub(super) host_key: &'a str,
    /// Its public half, one line.
    pub(super) host_key_public: &'a str,
}

/// The three files: name on the seed and contents.
///
/// # Errors
/// [`Kind::Internal`] when one cannot be written as YAML.
pub(super) fn files(identity: &Identity<'_>) -> Result<[(&'static str, Vec<u8>); 3]> {
    Ok([
        ("meta-data", yaml(&MetaData::new(identity))?.into_bytes()),
        (
            "user-data",
            format!("#cloud-config\n{}", yaml(&UserData::new(identity))?).into_bytes(),
        ),
        ("network-config", yaml(&Network::new())?.into_bytes()),
    ])
}

fn yaml(value: &impl Serialize) -> Result<String> {
    yaml_serde::to_string(value)
        .map_err(|error| Error::new(Kind::Internal, "the seed cannot be written as YAML").because(error))
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct MetaData<'a> {
    instance_id: &'a str,
    local_hostname: &'a str,
}

impl<'a> MetaData<'a> {
    fn new(identity: &Identity<'a>) -> Self {
        Self {
            instance_id: identity.name,
            local_hostname: identity.name,
        }
    }
}

/// A module of cloud-init's and how often it runs. Always: whoever kills a machine in its first boot has half of that boot's work on the
/// disk, and the next boot does it again.
type Module = (&'static str, &'static str);

/// What the first boot is to do. No user but root, no package, no clock: the rest is sampan's, and nothing is fetched.
const MODULES: [Module; 4] = [
    ("growpart", "always"),
    ("resizefs", "always"),
    ("set_hostname", "always"),
    ("ssh", "always"),
];

/// A cloud-config. Names are cloud-init's own.
#[derive(Serialize)]
struct UserData<'a> {
    /// None: also not the image's default user.
    users: [&'a str; 0],
    disable_root: bool,
    ssh_authorized_keys: [&'a str; 1],
    ssh_keys: HostKeys<'a>,
    growpart: GrowPart,
    cloud_init_modules: [Module; 4],
    cloud_config_modules: [Module; 0],
    cloud_final_modules: [Module; 0],
}

#[derive(Serialize)]
struct HostKeys<'a> {
    ed25519_private: &'a str,
    ed25519_public: &'a str,
}

#[derive(Serialize)]
struct GrowPart {
    mode: &'static str,
    devices: [&'static str; 1],
}

impl<'a> UserData<'a> {
    fn new(identity: &Identity<'a>) -> Self {
        Self {
            users: [],
            disable_root: false,
            ssh_authorized_keys: [identity.authorized_key.trim()],
            ssh_keys: HostKeys {
                ed25519_private: identity.host_key,
                ed25519_public: identity.host_key_public.trim(),
            },
            growpart: GrowPart {
                mode: "auto",
                devices: ["/"],
            },
            cloud_init_modules: MODULES,
            cloud_config_modules: [],
            cloud_final_modules: [],
        }
    }
}

/// A network configuration of version 2, which is netplan's: as `images/base/files/etc/systemd/network/10-dhcp.network` has it.
#[derive(Serialize)]
struct Network {
    version: u8,
    ethernets: Ethernets,
}

#[derive(Serialize)]
struct Ethernets {
    machine: Card,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Card {
    r#match: Match,
    dhcp4: bool,
    dhcp6: bool,
    accept_ra: bool,
    link_local: [&'static str; 0],
    dhcp_identifier: &'static str,
    dhcp4_overrides: Overrides,
}

#[derive(Serialize)]
struct Match {
    name: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Overrides {
    use_hostname: bool,
    use_domains: bool,
}

impl Network {
    fn new() -> Self {
        Self {
            version: 2,
            ethernets: Ethernets {
                machine: Card {
                    // The card of the machine, whatever the kernel calls it (eth0, ens3, enp0s2), and none that a container gets.
                    r#match: Match { name: "e*" },
                    dhcp4: true,
                    dhcp6: false,
                    accept_ra: false,
                    link_local: [],
                    dhcp_identifier: "mac",
                    dhcp4_overrides: Overrides {
                        use_hostname: false,
                        use_domains: false,
                    },
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use yaml_serde::Value;

    use super::*;

    const IDENTITY: Identity<'_> = Identity {
        name: "demo",
        authorized_key: "ssh-ed25519 AAAA sampan demo\n",
        host_key: "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn\nNzaC1\n-----END OPENSSH PRIVATE KEY-----\n",
        host_key_public: "ssh-ed25519 BBBB sampan demo host\n",
    };

    #[test]
    fn the_files_as_cloud_init_reads_them() {
        let files = files(&IDENTITY).unwrap();
        let text: Vec<String> = files
            .iter()
            .map(|(name, bytes)| format!("== {name}\n{}", String::from_utf8_lossy(bytes)))
            .collect();
        insta::assert_snapshot!("seed", text.concat());
    }

    #[test]
    fn keys_come_through_as_they_are() {
        let [_, (name, user), _] = files(&IDENTITY).unwrap();
        assert_eq!(name, "user-data");
        let text = String::from_utf8(user).unwrap();
        // Without this line cloud-init takes the file for no configuration at all.
        assert!(text.starts_with("#cloud-config\n"));
        let value: Value = yaml_serde::from_str(&text).unwrap();
        assert_eq!(
            value["ssh_keys"]["ed25519_private"].as_str(),
            Some(IDENTITY.host_key)
        );
        assert_eq!(
            value["ssh_authorized_keys"][0].as_str(),
            Some("ssh-ed25519 AAAA sampan demo")
        );
        assert_eq!(value["disable_root"].as_bool(), Some(false));
    }

    #[test]
    fn a_name_is_text_whatever_it_looks_like() {
        let [(_, meta), ..] = files(&Identity {
            name: "1e3",
            ..IDENTITY
        })
        .unwrap();
        let value: Value = yaml_serde::from_str(&String::from_utf8(meta).unwrap()).unwrap();
        assert_eq!(value["instance-id"].as_str(), Some("1e3"));
        assert_eq!(value["local-hostname"].as_str(), Some("1e3"));
    }
}
