use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn nobody(_: &str) -> Option<String> {
    None
}

fn user<'a>(variables: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
    |name| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    }
}

fn tls(dir: &str) -> Endpoint<'_> {
    Endpoint::Tls {
        address: "127.77.0.2:2376".parse().unwrap(),
        certificates: Path::new(dir),
    }
}

fn in_shell(shell: Shell) -> String {
    let set = set("dev", &tls("/data/dev/docker"), false, &nobody);
    let unset = unset(false, &nobody);
    format!(
        "{}{}--\n{}",
        shell.lines(&set),
        shell.hint("dev"),
        shell.lines(&unset)
    )
}

#[test]
fn bash() {
    insta::assert_snapshot!(in_shell(Shell::Bash), @r#"
    export DOCKER_TLS_VERIFY="1"
    export DOCKER_HOST="tcp://127.77.0.2:2376"
    export DOCKER_CERT_PATH="/data/dev/docker"
    export SAMPAN_ACTIVE_DOCKERD="dev"

    # To point your shell to sampan's docker-daemon, run:
    # eval $(sampan -p dev docker-env)
    --
    unset DOCKER_TLS_VERIFY;
    unset DOCKER_HOST;
    unset DOCKER_CERT_PATH;
    unset SAMPAN_ACTIVE_DOCKERD;
    "#);
}

#[test]
fn fish() {
    insta::assert_snapshot!(in_shell(Shell::Fish), @r#"
    set -gx DOCKER_TLS_VERIFY "1";
    set -gx DOCKER_HOST "tcp://127.77.0.2:2376";
    set -gx DOCKER_CERT_PATH "/data/dev/docker";
    set -gx SAMPAN_ACTIVE_DOCKERD "dev";

    # To point your shell to sampan's docker-daemon, run:
    # sampan -p dev docker-env | source
    --
    set -e DOCKER_TLS_VERIFY;
    set -e DOCKER_HOST;
    set -e DOCKER_CERT_PATH;
    set -e SAMPAN_ACTIVE_DOCKERD;
    "#);
}

#[test]
fn powershell() {
    insta::assert_snapshot!(in_shell(Shell::Powershell), @r#"
    $Env:DOCKER_TLS_VERIFY = "1"
    $Env:DOCKER_HOST = "tcp://127.77.0.2:2376"
    $Env:DOCKER_CERT_PATH = "/data/dev/docker"
    $Env:SAMPAN_ACTIVE_DOCKERD = "dev"
    # To point your shell to sampan's docker-daemon, run:
    # & sampan -p dev docker-env --shell powershell | Invoke-Expression
    --
    Remove-Item Env:\\DOCKER_TLS_VERIFY
    Remove-Item Env:\\DOCKER_HOST
    Remove-Item Env:\\DOCKER_CERT_PATH
    Remove-Item Env:\\SAMPAN_ACTIVE_DOCKERD
    "#);
}

#[test]
fn cmd() {
    insta::assert_snapshot!(in_shell(Shell::Cmd), @r#"
    SET DOCKER_TLS_VERIFY=1
    SET DOCKER_HOST=tcp://127.77.0.2:2376
    SET DOCKER_CERT_PATH=/data/dev/docker
    SET SAMPAN_ACTIVE_DOCKERD=dev
    REM To point your shell to sampan's docker-daemon, run:
    REM @FOR /f "tokens=*" %i IN ('sampan -p dev docker-env --shell cmd') DO @%i
    --
    SET DOCKER_TLS_VERIFY=
    SET DOCKER_HOST=
    SET DOCKER_CERT_PATH=
    SET SAMPAN_ACTIVE_DOCKERD=
    "#);
}

#[test]
fn tcsh() {
    insta::assert_snapshot!(in_shell(Shell::Tcsh), @r#"
    setenv DOCKER_TLS_VERIFY "1";
    setenv DOCKER_HOST "tcp://127.77.0.2:2376";
    setenv DOCKER_CERT_PATH "/data/dev/docker";
    setenv SAMPAN_ACTIVE_DOCKERD "dev";

    : "To point your shell to sampan's docker-daemon, run:"
    : eval `sampan -p dev docker-env`
    --
    unsetenv DOCKER_TLS_VERIFY;
    unsetenv DOCKER_HOST;
    unsetenv DOCKER_CERT_PATH;
    unsetenv SAMPAN_ACTIVE_DOCKERD;
    "#);
}

#[test]
fn emacs() {
    insta::assert_snapshot!(in_shell(Shell::Emacs), @r#"
    (setenv "DOCKER_TLS_VERIFY" "1")
    (setenv "DOCKER_HOST" "tcp://127.77.0.2:2376")
    (setenv "DOCKER_CERT_PATH" "/data/dev/docker")
    (setenv "SAMPAN_ACTIVE_DOCKERD" "dev")
    ;; To point your shell to sampan's docker-daemon, run:
    ;; (with-temp-buffer (shell-command "sampan -p dev docker-env --shell emacs" (current-buffer)) (eval-buffer))
    --
    (setenv "DOCKER_TLS_VERIFY" nil)
    (setenv "DOCKER_HOST" nil)
    (setenv "DOCKER_CERT_PATH" nil)
    (setenv "SAMPAN_ACTIVE_DOCKERD" nil)
    "#);
}

#[test]
fn none() {
    insta::assert_snapshot!(in_shell(Shell::None), @r#"
    DOCKER_TLS_VERIFY=1
    DOCKER_HOST=tcp://127.77.0.2:2376
    DOCKER_CERT_PATH=/data/dev/docker
    SAMPAN_ACTIVE_DOCKERD=dev
    --
    DOCKER_TLS_VERIFY
    DOCKER_HOST
    DOCKER_CERT_PATH
    SAMPAN_ACTIVE_DOCKERD
    "#);
}

#[test]
fn notations() {
    let agent = user(&[("SSH_AUTH_SOCK", "/run/agent")]);
    let set = set("dev", &tls("/d"), false, &agent);
    let mut text = String::new();
    for notation in [Notation::Json, Notation::Yaml, Notation::Text] {
        text += &notate(notation, &set, false, &agent).unwrap();
        text += &notate(notation, &unset(false, &nobody), true, &nobody).unwrap();
    }
    insta::assert_snapshot!(text, @r#"
    {"DOCKER_TLS_VERIFY":"1","DOCKER_HOST":"tcp://127.77.0.2:2376","DOCKER_CERT_PATH":"/d","SAMPAN_ACTIVE_DOCKERD":"dev","SSH_AUTH_SOCK":"/run/agent","SSH_AGENT_PID":""}
    ["DOCKER_TLS_VERIFY","DOCKER_HOST","DOCKER_CERT_PATH","SAMPAN_ACTIVE_DOCKERD"]
    DOCKER_TLS_VERIFY: '1'
    DOCKER_HOST: tcp://127.77.0.2:2376
    DOCKER_CERT_PATH: /d
    SAMPAN_ACTIVE_DOCKERD: dev
    SSH_AUTH_SOCK: /run/agent
    SSH_AGENT_PID: ''
    - DOCKER_TLS_VERIFY
    - DOCKER_HOST
    - DOCKER_CERT_PATH
    - SAMPAN_ACTIVE_DOCKERD
    DOCKER_TLS_VERIFY=1
    DOCKER_HOST=tcp://127.77.0.2:2376
    DOCKER_CERT_PATH=/d
    SAMPAN_ACTIVE_DOCKERD=dev
    DOCKER_TLS_VERIFY
    DOCKER_HOST
    DOCKER_CERT_PATH
    SAMPAN_ACTIVE_DOCKERD
    "#);
}

#[test]
fn shells_are_known_by_name_and_path() {
    for (name, shell) in [
        ("zsh", Shell::Bash),
        ("/bin/sh", Shell::Bash),
        ("/usr/bin/fish", Shell::Fish),
        ("-tcsh", Shell::Tcsh),
        ("csh", Shell::Tcsh),
        ("pwsh", Shell::Powershell),
        (r"C:\Windows\System32\cmd.exe", Shell::Cmd),
        ("emacs", Shell::Emacs),
        ("none", Shell::None),
        ("", Shell::Bash),
        ("xonsh", Shell::Bash),
    ] {
        assert_eq!(Shell::named(name), shell, "{name}");
    }
    assert_eq!(Shell::of_program("fish"), Some(Shell::Fish));
    assert_eq!(Shell::of_program("make"), None);
}

/// What a shell has after evaluating the lines.
fn evaluated(program: &str, shell: Shell, changes: &[Change], name: &str) -> Option<String> {
    let script = format!("{}printf %s \"${name}\"", shell.lines(changes));
    let output = std::process::Command::new(program)
        .args(["-c", &script])
        .output()
        .ok()?;
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn odd_paths_come_out_of_the_shells_that_are_here_as_they_went_in() {
    let odd = r#"/a b/"q"/$HOME/`id`/it's/\n/100%/!x/ü"#;
    let changes = set("dev", &tls(odd), false, &nobody);
    for (program, shell) in [
        ("sh", Shell::Bash),
        ("bash", Shell::Bash),
        ("zsh", Shell::Bash),
        ("fish", Shell::Fish),
        ("tcsh", Shell::Tcsh),
    ] {
        if let Some(value) = evaluated(program, shell, &changes, "DOCKER_CERT_PATH") {
            assert_eq!(value, odd, "{program}");
        }
    }
    let one = [("K".to_owned(), Some(odd.to_owned()))];
    let all: String = [
        Shell::Bash,
        Shell::Fish,
        Shell::Powershell,
        Shell::Cmd,
        Shell::Tcsh,
        Shell::Emacs,
    ]
    .map(|shell| shell.lines(&one))
    .concat();
    insta::assert_snapshot!(all, @r#"
    export K="/a b/\"q\"/\$HOME/\`id\`/it's/\\n/100%/!x/ü"
    set -gx K "/a b/\"q\"/\$HOME/`id`/it's/\\n/100%/!x/ü";
    $Env:K = "/a b/`"q`"/`$HOME/``id``/it's/\n/100%/!x/ü"
    SET K=/a b/"q"/$HOME/`id`/it's/\n/100%/!x/ü
    setenv K '/a b/"q"/$HOME/`id`/it'\''s/\n/100%/\!x/ü';
    (setenv "K" "/a b/\"q\"/$HOME/`id`/it's/\\n/100%/!x/ü")
    "#);
}

#[test]
fn what_the_user_had_is_kept_once_and_given_back() {
    let before = [("DOCKER_HOST", "ssh://build"), ("NO_PROXY", "localhost")];
    let first = set("dev", &tls("/d"), true, &user(&before));
    let value = |changes: &[Change], name: &str| {
        changes
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
    };
    let kept = "SAMPAN_EXISTING_DOCKER_HOST";
    assert_eq!(value(&first, kept), Some(Some("ssh://build".to_owned())));
    assert_eq!(
        value(&first, "NO_PROXY"),
        Some(Some("localhost,127.77.0.2".to_owned()))
    );
    assert_eq!(
        value(&first, "SAMPAN_EXISTING_DOCKER_CERT_PATH"),
        None,
        "the user had none"
    );

    // Pointing to another cluster must not take the first one's variables for the user's own.
    let now: Vec<(&str, &str)> = first
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_deref().unwrap()))
        .collect();
    let second = set("other", &tls("/e"), true, &user(&now));
    assert_eq!(value(&second, kept), None);
    assert_eq!(value(&second, "SAMPAN_EXISTING_NO_PROXY"), None);
    assert_eq!(
        value(&second, "NO_PROXY"),
        Some(Some("localhost,127.77.0.2".to_owned())),
        "it is there"
    );

    insta::assert_snapshot!(Shell::Bash.lines(&unset(true, &user(&now))), @r#"
    unset DOCKER_TLS_VERIFY;
    unset DOCKER_CERT_PATH;
    unset SAMPAN_ACTIVE_DOCKERD;
    unset SAMPAN_EXISTING_DOCKER_HOST;
    unset SAMPAN_EXISTING_NO_PROXY;
    export DOCKER_HOST="ssh://build"
    export NO_PROXY="localhost"
    "#);
    assert_eq!(unset(false, &nobody).len(), 4);
    assert_eq!(value(&unset(true, &nobody), "NO_PROXY"), Some(None));
}

#[test]
fn by_ssh_there_is_a_host_and_nothing_of_tls() {
    let endpoint = Endpoint::Ssh {
        address: "127.77.0.2:2222".parse().unwrap(),
        user: "root",
    };
    insta::assert_snapshot!(Shell::None.lines(&set("dev", &endpoint, false, &nobody)), @r#"
    DOCKER_HOST=ssh://root@127.77.0.2:2222
    SAMPAN_ACTIVE_DOCKERD=dev
    "#);
}

fn certificates(dir: &Path) {
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        fs::write(dir.join(name), name).unwrap();
    }
}

#[test]
fn certificates_that_cannot_be_read_are_told() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    check_certificates(dir.path()).unwrap();
    fs::remove_file(dir.path().join("key.pem")).unwrap();
    let error = check_certificates(dir.path()).unwrap_err();
    assert!(error.to_string().contains("key.pem"), "{error}");
    assert!(error.hints()[0].contains("sampan stop"));
}

#[test]
fn a_context_is_made_renewed_and_removed_and_others_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let docker = dir.path().join("docker");
    let store = Store::new(docker.clone(), Path::new("/data"));
    let address = "127.77.0.2:2376".parse().unwrap();
    assert_eq!(store.write("dev", address, dir.path()).unwrap(), Written::Made);
    assert_eq!(store.write("dev", address, dir.path()).unwrap(), Written::Renewed);
    let id = hash_of("dev");
    let meta = docker.join("contexts/meta").join(&id).join("meta.json");
    insta::assert_snapshot!(fs::read_to_string(&meta).unwrap(), @r#"
    {"Name":"dev","Metadata":{"Description":"cluster dev of sampan","sampan":"/data"},"Endpoints":{"docker":{"Host":"tcp://127.77.0.2:2376","SkipTLSVerify":false}}}
    "#);
    let key = docker.join("contexts/tls").join(&id).join("docker/key.pem");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);

    let other = Store::new(docker.clone(), Path::new("/elsewhere"));
    assert_eq!(
        other.write("dev", address, dir.path()).unwrap_err().kind(),
        Kind::Exists
    );
    assert!(!other.remove("dev").unwrap());
    fs::write(
        docker.join("config.json"),
        r#"{"auths":{},"currentContext":"dev"}"#,
    )
    .unwrap();
    assert!(store.remove("dev").unwrap());
    assert!(!meta.exists() && !key.exists());
    assert_eq!(
        fs::read_to_string(docker.join("config.json")).unwrap(),
        "{\n  \"auths\": {}\n}"
    );
    assert!(!store.remove("dev").unwrap());
    for name in ["default", "a"] {
        assert_eq!(
            store.write(name, address, dir.path()).unwrap_err().kind(),
            Kind::Usage
        );
    }
}

fn hash_of(name: &str) -> String {
    crate::store::hash::bytes(name.as_bytes())
}
