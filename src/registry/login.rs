//! Who the user is to a registry. A password is shown as it is; an identity token (of `docker login` with some registries) is first
//! changed for a token that opens one repository, which the library cannot do.

use oci_client::Reference;
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;

pub use crate::images::Login;

use super::problem;
use crate::error::{Error, Kind, Result};

/// What is shown to the registry.
pub(super) async fn auth(
    http: &reqwest::Client,
    scheme: &str,
    reference: &Reference,
    login: Login,
) -> Result<RegistryAuth> {
    let token = match login {
        Login::Password { user, password } => return Ok(RegistryAuth::Basic(user, password)),
        Login::Identity(token) => token,
    };
    let registry = reference.resolve_registry();
    let failed = |error: reqwest::Error| problem::of_connection(error, registry, registry).into_error();
    let asked = http.get(format!("{scheme}://{registry}/v2/")).send();
    let answer = asked.await.map_err(failed)?;
    let header = answer.headers().get(reqwest::header::WWW_AUTHENTICATE);
    let challenge = header.and_then(|header| header.to_str().ok()).unwrap_or_default();
    let Some(realm) = field(challenge, "realm") else {
        return Ok(RegistryAuth::Anonymous);
    };
    let scope = format!("repository:{}:pull", reference.repository());
    let form = [
        ("grant_type", "refresh_token"),
        ("service", field(challenge, "service").unwrap_or(registry)),
        ("scope", &scope),
        ("client_id", "sampan"),
        ("refresh_token", &token),
    ];
    let answer = http.post(realm).form(&form).send().await.map_err(failed)?;
    let status = answer.status();
    if !status.is_success() {
        let message = format!("{registry} does not take your docker client's login any more ({status})");
        return Err(
            Error::new(Kind::Refused, message).hint(format!("`docker login {registry}` makes another"))
        );
    }
    #[derive(Deserialize)]
    struct Answer {
        access_token: String,
    }
    let answer: Answer = answer.json().await.map_err(failed)?;
    Ok(RegistryAuth::Bearer(answer.access_token))
}

/// A field of a challenge: `Bearer realm="https://…",service="…"`.
fn field<'a>(challenge: &'a str, name: &str) -> Option<&'a str> {
    let (_, fields) = challenge.split_once(' ')?;
    let start = fields.find(&format!("{name}=\""))? + name.len() + 2;
    let rest = &fields[start..];
    Some(&rest[..rest.find('"')?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_names_where_tokens_are() {
        let challenge = r#"Bearer realm="https://auth.example/token",service="registry.example""#;
        assert_eq!(field(challenge, "realm"), Some("https://auth.example/token"));
        assert_eq!(field(challenge, "service"), Some("registry.example"));
        assert_eq!(field(challenge, "scope"), None);
        assert_eq!(field("Basic", "realm"), None);
    }
}
