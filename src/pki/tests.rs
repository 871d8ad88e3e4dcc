use std::os::unix::fs::PermissionsExt;

use sampan_driver::{Command, Host, Runner};

use super::*;

fn verify(dir: &Path, purpose: &str, cert: &str) -> String {
    let command = Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile"])
        .path(&dir.join("ca.crt"))
        .path(&dir.join(cert));
    Host.run(&command).unwrap().text()
}

#[test]
fn the_authority_and_the_administrator_are_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pki");
    let made = ensure(&path, "dev").unwrap();
    assert_eq!(ensure(&path, "dev").unwrap(), made);
    for name in ["ca.crt", "ca.key", "admin.crt", "admin.key"] {
        assert_eq!(
            fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777,
            0o600,
            "{name}"
        );
    }
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(verify(&path, "sslclient", "admin.crt").ends_with("OK"));
}

#[test]
fn openssl_sees_what_kubeadm_asks_of_an_authority() {
    let dir = tempfile::tempdir().unwrap();
    ensure(dir.path(), "dev").unwrap();
    let text = |name: &str| {
        let command = Command::new("openssl")
            .args(["x509", "-noout", "-text", "-in"])
            .path(&dir.path().join(name));
        Host.run(&command).unwrap().text()
    };
    let ca = text("ca.crt");
    for wanted in [
        "CA:TRUE",
        "Certificate Sign",
        "X509v3 Subject Key Identifier",
        "prime256v1",
    ] {
        assert!(ca.contains(wanted), "{wanted} not in {ca}");
    }
    let admin = text("admin.crt");
    for wanted in [
        "O = system:masters",
        "CN = kubernetes-admin",
        "TLS Web Client Authentication",
    ] {
        assert!(
            admin.contains(wanted) || admin.contains(&wanted.replace(" = ", "=")),
            "{wanted} not in {admin}"
        );
    }
}

#[test]
fn an_administrator_near_its_end_is_made_anew_by_the_same_authority() {
    let dir = tempfile::tempdir().unwrap();
    let now = OffsetDateTime::now_utc();
    let first = ensure_at(dir.path(), "dev", now).unwrap();
    assert_eq!(
        ensure_at(dir.path(), "dev", now + Duration::days(330)).unwrap(),
        first
    );
    let second = ensure_at(dir.path(), "dev", now + Duration::days(340)).unwrap();
    assert_eq!(second.ca, first.ca);
    assert_ne!(second.admin, first.admin);
}

#[test]
fn a_damaged_administrator_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let first = ensure(dir.path(), "dev").unwrap();
    for (name, text) in [
        ("admin.crt", "damaged"),
        ("admin.key", first.ca.key.as_str()),
        ("admin.crt", &first.ca.cert),
    ] {
        fs::write(dir.path().join(name), text).unwrap();
        let again = ensure(dir.path(), "dev").unwrap();
        assert_eq!(again.ca, first.ca);
        check::signed(&again.admin, &again.ca, OffsetDateTime::now_utc()).unwrap();
    }
    let other = tempfile::tempdir().unwrap();
    ensure(other.path(), "other").unwrap();
    for name in ["admin.crt", "admin.key"] {
        fs::copy(other.path().join(name), dir.path().join(name)).unwrap();
    }
    ensure(dir.path(), "dev").unwrap();
    assert!(verify(dir.path(), "sslclient", "admin.crt").ends_with("OK"));
}

#[test]
fn the_authority_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let made = ensure(dir.path(), "dev").unwrap();
    let told = |name: &str, contents: Option<&[u8]>| {
        let path = dir.path().join(name);
        let before = fs::read(&path).unwrap();
        match contents {
            Some(contents) => fs::write(&path, contents).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let error = ensure(dir.path(), "dev").unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert!(error.hints()[0].contains("sampan delete"));
        assert_eq!(fs::read(&path).ok().as_deref(), contents, "left as it was");
        fs::write(&path, before).unwrap();
    };
    told("ca.crt", Some(b"damaged"));
    told("ca.crt", Some(b"\xff\xfe"));
    told("ca.crt", None);
    told("ca.crt", Some(made.admin.cert.as_bytes()));
    told(
        "ca.key",
        Some(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
    );
    told("ca.key", Some(made.admin.key.as_bytes()));
    told("ca.key", None);
    let late = ensure_at(dir.path(), "dev", OffsetDateTime::now_utc() + YEAR * 11).unwrap_err();
    assert!(late.to_string().contains("is valid only until"), "{late}");
    assert_eq!(ensure(dir.path(), "dev").unwrap(), made);
}

#[test]
fn an_interrupted_first_start_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ca.key"), "half").unwrap();
    ensure(dir.path(), "dev").unwrap();
    fs::remove_file(dir.path().join("admin.crt")).unwrap();
    ensure(dir.path(), "dev").unwrap();
    assert!(verify(dir.path(), "sslclient", "admin.crt").ends_with("OK"));
}

#[test]
fn a_server_is_known_by_its_names_and_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let pki = ensure(dir.path(), "dev").unwrap();
    let subject = Subject::server(
        "dockerd",
        vec!["sampan.internal".into()],
        vec![[127, 77, 0, 2].into(), [127, 0, 0, 1].into()],
    );
    let server = issue(&pki.ca, &subject).unwrap();
    fs::write(dir.path().join("server.crt"), &server.cert).unwrap();
    assert!(verify(dir.path(), "sslserver", "server.crt").ends_with("OK"));
    let bad = issue(&pki.ca, &Subject::server("x", vec!["ä".into()], vec![]));
    assert!(
        bad.unwrap_err()
            .to_string()
            .starts_with("cannot make a certificate")
    );
}
