//! Credentials for registries, as the user's docker client keeps them: in `config.json` itself, or with a helper program that it names.

use std::fmt;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use sampan_driver::{Command, Runner};
use serde_json::{Value, json};

use super::name;
use crate::error::{Error, Kind, Result};

/// What stands for Docker Hub in the client's settings.
const HUB: &str = "https://index.docker.io/v1/";

/// What a helper says when it knows nothing of a registry.
const UNKNOWN: &str = "credentials not found";

/// The user name by which a helper says that the secret is a token.
const TOKEN: &str = "<token>";

/// The header `X-Registry-Auth` for an image's registry; nothing when the user has no credentials for it. `dir` is the client's
/// directory, `host` runs helpers.
///
/// # Errors
/// [`Kind::HostConfig`] when the settings cannot be read, [`Kind::HostTool`] when a helper is missing or fails. No secret is told.
pub fn credentials(dir: &Path, image: &str, host: &dyn Runner) -> Result<Option<String>> {
    let known = known(dir, &registry(image), host)?;
    Ok(known.map(|known| URL_SAFE.encode(known.to_string())))
}

/// Who the user is to a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// By name and password.
    Password {
        /// The name.
        user: String,
        /// The password, or a token that stands for it.
        password: String,
    },
    /// By a token that is changed for others.
    Identity(String),
}

impl fmt::Debug for Login {
    /// Without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "Login({user:?})"),
            Self::Identity(_) => f.write_str("Login(token)"),
        }
    }
}

/// Who the user is to a registry such as "docker.io" or "registry.example:5000"; `dir` and `host` as for [`credentials`].
///
/// # Errors
/// As [`credentials`].
pub fn login_to(dir: &Path, registry: &str, host: &dyn Runner) -> Result<Option<Login>> {
    let registry = if registry == "docker.io" { HUB } else { registry };
    let Some(known) = known(dir, registry, host)? else {
        return Ok(None);
    };
    let text = |name: &str| known[name].as_str().map(str::to_owned);
    Ok(match text("identitytoken") {
        Some(token) => Some(Login::Identity(token)),
        None => text("username")
            .zip(text("password"))
            .map(|(user, password)| Login::Password { user, password }),
    })
}

/// What the client's settings say of a registry.
fn known(dir: &Path, registry: &str, host: &dyn Runner) -> Result<Option<Value>> {
    let path = dir.join("config.json");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&path, error)),
    };
    let config: Value = serde_json::from_slice(&text).map_err(|error| unreadable(&path, error))?;
    let helper = config["credHelpers"][plain(registry)]
        .as_str()
        .or(config["credsStore"].as_str());
    match helper {
        Some(helper) => ask(helper, registry, host),
        None => Ok(kept(&config["auths"], registry)),
    }
}

/// An image's registry, as the client's settings name it.
fn registry(image: &str) -> String {
    let full = name::full(image);
    match full.split('/').next() {
        Some("docker.io") | None => HUB.to_owned(),
        Some(host) => host.to_owned(),
    }
}

/// A registry without scheme and path: older clients wrote addresses.
fn plain(registry: &str) -> &str {
    let host = registry.split_once("://").map_or(registry, |(_, host)| host);
    host.split('/').next().unwrap_or(host)
}

/// What stands in the settings themselves.
fn kept(auths: &Value, registry: &str) -> Option<Value> {
    let auths = auths.as_object()?;
    let entry = auths.get(registry).or_else(|| {
        let same = |(name, _): &(&String, &Value)| plain(name) == plain(registry);
        auths.iter().find(same).map(|(_, entry)| entry)
    })?;
    if let Some(token) = entry["identitytoken"].as_str().filter(|token| !token.is_empty()) {
        return Some(json!({ "identitytoken": token, "serveraddress": registry }));
    }
    let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let (user, password) = match STANDARD.decode(text("auth")) {
        Ok(decoded) if !decoded.is_empty() => {
            let decoded = String::from_utf8(decoded).ok()?;
            let (user, password) = decoded.split_once(':')?;
            (user.to_owned(), password.trim_end_matches('\0').to_owned())
        }
        _ => (text("username"), text("password")),
    };
    (!user.is_empty()).then(|| login(&user, &password, registry))
}

fn login(user: &str, password: &str, registry: &str) -> Value {
    json!({ "username": user, "password": password, "serveraddress": registry })
}

/// What a helper says.
fn ask(helper: &str, registry: &str, host: &dyn Runner) -> Result<Option<Value>> {
    let program = format!("docker-credential-{helper}");
    let asked = host.run(&Command::new(&program).arg("get").stdin(registry));
    let output = match asked {
        Ok(output) => output,
        Err(error) if String::from_utf8_lossy(&error.output.stdout).contains(UNKNOWN) => return Ok(None),
        Err(error) => {
            return Err(Error::new(
                Kind::HostTool,
                format!("{program} gives no credentials for {registry}"),
            )
            .because(error)
            .hint("your docker client's config.json names it as credsStore or in credHelpers"));
        }
    };
    // What it said is a secret, so a message does not repeat it.
    let odd = || Error::new(Kind::HostTool, format!("{program} says what nobody understands"));
    let said: Value = serde_json::from_slice(&output.stdout).map_err(|_| odd())?;
    let (Some(user), Some(secret)) = (said["Username"].as_str(), said["Secret"].as_str()) else {
        return Err(odd());
    };
    Ok(Some(if user == TOKEN {
        json!({ "identitytoken": secret, "serveraddress": registry })
    } else {
        login(user, secret, registry)
    }))
}

fn unreadable(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(
        Kind::HostConfig,
        format!("{}: cannot read the settings of docker", path.display()),
    )
    .because(error)
    .hint("look at the file; `docker login` writes it")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use sampan_driver::Host;

    use super::*;

    /// What is sent for an image with these settings; `HELPERS` in them is a directory with a helper.
    fn sent(settings: &str, image: &str) -> Result<Option<Value>> {
        let dir = tempfile::tempdir().unwrap();
        let helper = dir.path().join("docker-credential-x");
        let script = "#!/bin/sh\n[ \"$1\" = get ] || exit 2\nread -r server || true\ncase $server in\n\
            known.example) echo '{\"ServerURL\":\"\",\"Username\":\"u\",\"Secret\":\"s\"}' ;;\n\
            token.example) echo '{\"Username\":\"<token>\",\"Secret\":\"t\"}' ;;\n\
            odd.example) echo 'secret' ;;\n\
            broken.example) echo 'locked' >&2; exit 3 ;;\n\
            *) echo 'credentials not found in native keychain'; exit 1 ;;\nesac\n";
        fs::write(&helper, script).unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("config.json"), settings).unwrap();
        let header = credentials(dir.path(), image, &Beside(dir.path()))?;
        Ok(header.map(|header| serde_json::from_slice(&URL_SAFE.decode(header).unwrap()).unwrap()))
    }

    /// Runs programs of a directory.
    struct Beside<'a>(&'a Path);

    impl Runner for Beside<'_> {
        fn place(&self) -> String {
            Host.place()
        }
        fn run_streamed(
            &self,
            command: &Command,
            on_output: &mut dyn FnMut(sampan_driver::Stream, &[u8]),
        ) -> Result<(), sampan_driver::CommandError> {
            let mut command = command.clone();
            command.program = self.0.join(&command.program).to_string_lossy().into_owned();
            Host.run_streamed(&command, on_output)
        }
    }

    fn as_user(user: &str, password: &str, registry: &str) -> Option<Value> {
        Some(login(user, password, registry))
    }

    #[test]
    fn what_docker_login_wrote_is_sent_to_its_registry_only() {
        // dTpwOnE= is u:p:q
        let settings = r#"{ "auths": {
            "r.example:5000": { "auth": "dTpwOnE=" },
            "https://index.docker.io/v1/": { "auth": "dTpw" },
            "https://old.example/v1/": { "username": "o", "password": "w" },
            "t.example": { "auth": "dTpw", "identitytoken": "i" },
            "empty.example": {}
        } }"#;
        for (image, wanted) in [
            ("r.example:5000/app:1", as_user("u", "p:q", "r.example:5000")),
            ("r.example/app:1", None),
            ("app", as_user("u", "p", HUB)),
            ("team/app:2", as_user("u", "p", HUB)),
            ("old.example/app", as_user("o", "w", "old.example")),
            (
                "t.example/app",
                Some(json!({ "identitytoken": "i", "serveraddress": "t.example" })),
            ),
            ("empty.example/app", None),
            ("localhost:5000/app", None),
        ] {
            assert_eq!(sent(settings, image).unwrap(), wanted, "{image}");
        }
        assert_eq!(sent("{}", "app").unwrap(), None);
        let nowhere = tempfile::tempdir().unwrap();
        assert_eq!(credentials(nowhere.path(), "app", &Host).unwrap(), None);
    }

    #[test]
    fn a_registry_is_told_who_the_user_is() {
        let dir = tempfile::tempdir().unwrap();
        let settings = r#"{ "auths": {
            "https://index.docker.io/v1/": { "auth": "dTpw" },
            "t.example": { "identitytoken": "i" }
        } }"#;
        fs::write(dir.path().join("config.json"), settings).unwrap();
        let login = |registry: &str| login_to(dir.path(), registry, &Host).unwrap();
        let hub = Login::Password {
            user: "u".into(),
            password: "p".into(),
        };
        assert_eq!(login("docker.io"), Some(hub));
        assert_eq!(login("t.example"), Some(Login::Identity("i".into())));
        assert_eq!(login("registry.k8s.io"), None);
        assert!(!format!("{:?}", login("docker.io")).contains("\"p\""));
    }

    #[test]
    fn helpers_are_asked() {
        let store = r#"{ "auths": { "other.example": { "auth": "dTpw" } }, "credsStore": "x" }"#;
        assert_eq!(
            sent(store, "known.example/app").unwrap(),
            as_user("u", "s", "known.example")
        );
        assert_eq!(
            sent(store, "token.example/app").unwrap(),
            Some(json!({ "identitytoken": "t", "serveraddress": "token.example" }))
        );
        assert_eq!(sent(store, "other.example/app").unwrap(), None);
        let one = r#"{ "auths": { "other.example": { "auth": "dTpw" } }, "credHelpers": { "known.example": "x" } }"#;
        assert_eq!(
            sent(one, "known.example/app").unwrap(),
            as_user("u", "s", "known.example")
        );
        assert_eq!(
            sent(one, "other.example/app").unwrap(),
            as_user("u", "p", "other.example")
        );
    }

    #[test]
    fn what_is_wrong_with_them_is_told_without_secrets() {
        let kind = |settings: &str, image: &str| sent(settings, image).unwrap_err().kind();
        assert_eq!(kind("{", "app"), Kind::HostConfig);
        let store = r#"{ "credsStore": "x" }"#;
        assert_eq!(kind(store, "broken.example/app"), Kind::HostTool);
        assert_eq!(kind(r#"{ "credsStore": "none" }"#, "app"), Kind::HostTool);
        let odd = sent(store, "odd.example/app").unwrap_err();
        assert!(!format!("{odd:?}").contains("secret"), "{odd:?}");
    }
}
