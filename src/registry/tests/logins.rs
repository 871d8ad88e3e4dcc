//! Registries that want to know who asks.

use super::*;

/// A registry that gives a token to who says the right thing, and things to who has the token.
fn guarded(registry: &Registry, at_door: impl Fn(&Request) -> bool + Send + Sync + 'static) {
    let address = registry.address;
    registry.moody(move |request| {
        if request.path.starts_with("/token") {
            let fine = at_door(request)
                && (request.path.contains("app%3Apull") || request.body.contains("app%3Apull"));
            let token = r#"{"token":"abc","access_token":"abc"}"#;
            return Some(if fine {
                Answer::new(200, token)
            } else {
                Answer::new(401, "no")
            });
        }
        if request.header("authorization") == "Bearer abc" {
            return None;
        }
        let challenge = format!(r#"Bearer realm="http://{address}/token",service="me""#);
        Some(Answer::new(401, "{}").with("WWW-Authenticate", challenge))
    });
}

#[test]
fn who_has_a_login_gets_a_token() {
    let (registry, app, _) = registry();
    guarded(&registry, |request| {
        request.header("authorization") == "Basic dTpw"
    });
    let mut host = Host::new();
    let error = host.pull(&app).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    let hint = format!("`docker login {}`", registry.address);
    assert!(error.hints()[0].starts_with(&hint), "{:?}", error.hints());
    host.login = Some(Login::Password {
        user: "u".into(),
        password: "wrong".into(),
    });
    let error = host.pull(&app).unwrap_err();
    assert!(error.hints()[0].contains("not enough"), "{:?}", error.hints());
    host.login = Some(Login::Password {
        user: "u".into(),
        password: "p".into(),
    });
    host.pull(&app).unwrap();
}

#[test]
fn anybody_may_get_a_token_too() {
    let (registry, app, _) = registry();
    guarded(&registry, |request| request.header("authorization").is_empty());
    Host::new().pull(&app).unwrap();
}

#[test]
fn an_identity_token_is_changed_for_another() {
    let (registry, app, _) = registry();
    guarded(&registry, |request| {
        request.method == "POST" && request.body.contains("refresh_token=secret")
    });
    let mut host = Host::new();
    host.login = Some(Login::Identity("old".into()));
    assert_eq!(host.pull(&app).unwrap_err().kind(), Kind::Refused);
    host.login = Some(Login::Identity("secret".into()));
    host.pull(&app).unwrap();
}

#[test]
fn a_registry_may_want_the_password_itself() {
    let (registry, app, _) = registry();
    registry.moody(|request| {
        let refuse = request.header("authorization") != "Basic dTpw";
        refuse.then(|| Answer::new(401, "{}").with("WWW-Authenticate", "Basic realm=\"me\""))
    });
    let mut host = Host::new();
    assert_eq!(host.pull(&app).unwrap_err().kind(), Kind::Refused);
    host.login = Some(Login::Password {
        user: "u".into(),
        password: "p".into(),
    });
    host.pull(&app).unwrap();
}
