mod texts;

use sampan_driver::{Command, Host, Runner};

use super::*;

const FOREIGN: &str = "\
apiVersion: v1
kind: Config
x-unknown: [1, two]
clusters:
- name: prod
  cluster:
    server: https://prod:6443
    x-new-field: {a: 1}
users:
- name: prod
  user:
    token: secret
contexts:
- context:
    cluster: prod
    user: prod
    namespace: shop
  name: prod
current-context: prod
preferences: {}
";

fn entry(name: &str) -> Entry {
    Entry {
        name: name.to_owned(),
        server: "https://127.77.0.2:8443".to_owned(),
        tls_server_name: Some("sampan.internal".to_owned()),
        ca: b"ca".to_vec(),
        client_cert: b"cert".to_vec(),
        client_key: b"key".to_vec(),
    }
}

/// A directory with a kubeconfig of somebody else's in it.
fn foreign_file() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    fs::write(&path, FOREIGN).unwrap();
    (dir, path)
}

fn value(path: &Path) -> Value {
    yaml_serde::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// What the real kubectl prints; it must be on this machine.
fn kubectl(files: &[&Path], args: &[&str]) -> String {
    let list = files
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(":");
    let command = Command::new("kubectl")
        .args(args.iter().copied())
        .env("KUBECONFIG", list);
    match Host.run(&command) {
        Ok(output) => output.text(),
        Err(error) => panic!("these tests compare with the real kubectl: {error}"),
    }
}

#[test]
fn a_new_file_is_private_and_kubectl_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".kube/config");
    let files = Files::new(vec![path.clone()]);
    assert!(files.set(&entry("dev"), false).unwrap());
    assert_eq!(mode(&path), 0o600);
    assert_eq!(kubectl(&[&path], &["config", "current-context"]), "dev");
    let server =
        "jsonpath={.clusters[0].cluster.server} {.clusters[0].cluster.tls-server-name} {.users[0].name}";
    assert_eq!(
        kubectl(&[&path], &["config", "view", "--minify", "-o", server]),
        "https://127.77.0.2:8443 sampan.internal dev"
    );
    assert_eq!(
        fs::read_dir(path.parent().unwrap()).unwrap().count(),
        1,
        "no lock stays"
    );
}

#[test]
fn setting_twice_changes_nothing() {
    let (_dir, path) = foreign_file();
    let files = Files::new(vec![path.clone()]);
    assert!(files.set(&entry("dev"), false).unwrap());
    let first = fs::read(&path).unwrap();
    assert!(!files.set(&entry("dev"), false).unwrap());
    assert_eq!(fs::read(&path).unwrap(), first);
}

#[test]
fn foreign_content_order_and_mode_survive_set_and_remove() {
    let (_dir, path) = foreign_file();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let files = Files::new(vec![path.clone()]);
    files.set(&entry("dev"), true).unwrap();
    assert_eq!(files.current_context().unwrap().as_deref(), Some("prod"));
    assert!(files.remove("dev").unwrap());
    assert!(!files.remove("dev").unwrap());
    assert_eq!(value(&path), yaml_serde::from_str::<Value>(FOREIGN).unwrap());
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.find("x-unknown") < text.find("clusters") && text.find("users") < text.find("contexts"),
        "{text}"
    );
    assert_eq!(mode(&path), 0o640);
}

#[test]
fn removing_the_current_context_unsets_it() {
    let (_dir, path) = foreign_file();
    let files = Files::new(vec![path.clone()]);
    files.set(&entry("dev"), false).unwrap();
    assert_eq!(files.current_context().unwrap().as_deref(), Some("dev"));
    files.remove("dev").unwrap();
    assert_eq!(files.current_context().unwrap(), None);
    assert_eq!(
        kubectl(&[&path], &["config", "get-contexts", "-o", "name"]),
        "prod"
    );
}

#[test]
fn a_stopped_cluster_is_no_current_context_and_stays() {
    let (_dir, path) = foreign_file();
    let files = Files::new(vec![path]);
    assert!(!files.leave_context("dev").unwrap());
    files.set(&entry("dev"), false).unwrap();
    assert!(files.leave_context("dev").unwrap());
    assert_eq!(files.current_context().unwrap(), None);
    assert_eq!(files.status(&entry("dev")).unwrap(), Status::Configured);
}

#[test]
fn what_the_user_added_to_our_entries_stays() {
    let (_dir, path) = foreign_file();
    let files = Files::new(vec![path.clone()]);
    files.set(&entry("dev"), false).unwrap();
    kubectl(&[&path], &["config", "set-context", "dev", "--namespace=web"]);
    kubectl(
        &[&path],
        &[
            "config",
            "set-cluster",
            "dev",
            "--server=https://stale:1",
            "--proxy-url=http://p:1",
        ],
    );
    kubectl(&[&path], &["config", "set-credentials", "dev", "--token=old"]);
    assert_eq!(
        files.status(&entry("dev")).unwrap(),
        Status::Misconfigured {
            server: "https://stale:1".to_owned()
        }
    );
    assert!(files.set(&entry("dev"), false).unwrap());
    assert_eq!(files.status(&entry("dev")).unwrap(), Status::Configured);
    let view = kubectl(
        &[&path],
        &[
            "config",
            "view",
            "--minify",
            "--raw",
            "-o",
            "jsonpath={..namespace} {..proxy-url} {.users[0].user.token}",
        ],
    );
    assert_eq!(view, "web http://p:1");
}

#[test]
fn entries_that_sampan_did_not_make_are_left_alone() {
    let (_dir, path) = foreign_file();
    let files = Files::new(vec![path.clone()]);
    for error in [
        files.set(&entry("prod"), false).unwrap_err(),
        files.check("prod").unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::Kubeconfig);
        assert!(
            error
                .to_string()
                .ends_with("has a cluster \"prod\" that sampan did not make"),
            "{error}"
        );
    }
    assert!(!files.remove("prod").unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), FOREIGN);
    files.check("dev").unwrap();
}

#[test]
fn what_is_new_goes_where_kubectl_would_put_it() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| dir.path().join(name));
    let files = Files::new(vec![a.clone(), PathBuf::new(), b.clone(), a.clone(), c.clone()]);
    // Nothing exists: the last one.
    files.set(&entry("one"), false).unwrap();
    assert!(!a.exists() && !b.exists() && c.exists());
    // The first that exists.
    fs::write(&b, "").unwrap();
    files.set(&entry("two"), false).unwrap();
    assert!(fs::read_to_string(&b).unwrap().contains("two") && !a.exists());
    // What is there is changed where it is.
    let moved = Entry {
        server: "https://127.77.0.9:8443".to_owned(),
        ..entry("one")
    };
    files.set(&moved, true).unwrap();
    assert!(fs::read_to_string(&c).unwrap().contains("127.77.0.9"));
    let all: [&Path; 3] = [&a, &b, &c];
    assert_eq!(kubectl(&all, &["config", "current-context"]), "two");
    assert_eq!(
        kubectl(&all, &["config", "get-contexts", "-o", "name"]),
        "one\ntwo"
    );
    // And kubectl itself agrees about the file.
    kubectl(
        &all,
        &["config", "set-cluster", "three", "--server=https://three"],
    );
    assert!(fs::read_to_string(&b).unwrap().contains("three"));
    assert!(files.remove("one").unwrap() && files.remove("two").unwrap());
    assert_eq!(kubectl(&all, &["config", "get-contexts", "-o", "name"]), "");
}

#[test]
fn a_damaged_file_is_named_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    for text in [
        "clusters: [",
        "just text",
        "clusters: {a: 1}",
        "contexts: [1]",
        "current-context: [x]",
        "a: 1\na: 2\n",
    ] {
        fs::write(&path, text).unwrap();
        let files = Files::new(vec![path.clone()]);
        for result in [
            files.set(&entry("dev"), false),
            files.remove("dev"),
            files.status(&entry("dev")).map(|_| true),
        ] {
            let error = result.unwrap_err();
            assert!(
                error.to_string().contains("config is not a kubeconfig"),
                "{text}: {error}"
            );
            assert!(!error.hints().is_empty());
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    fs::write(&path, b"\xff\xfe").unwrap();
    assert!(
        Files::new(vec![path])
            .set(&entry("dev"), false)
            .unwrap_err()
            .to_string()
            .contains("it is not text")
    );
}

#[test]
fn somebody_elses_lock_is_waited_for_and_then_named() {
    let (dir, path) = foreign_file();
    let lock = dir.path().join("config.lock");
    fs::write(&lock, "").unwrap();
    let error = lock::all(std::slice::from_ref(&path), Duration::from_millis(100)).unwrap_err();
    assert!(
        error.to_string().contains("config.lock is still there") && error.hints()[0].contains("rm "),
        "{error}"
    );
    assert!(lock.exists(), "it is not ours to remove");

    let (sender, receiver) = std::sync::mpsc::channel();
    let files = Files::new(vec![path]);
    let waiter = std::thread::spawn(move || {
        sender.send(()).unwrap();
        files.set(&entry("dev"), false)
    });
    receiver.recv().unwrap();
    fs::remove_file(&lock).unwrap();
    assert!(waiter.join().unwrap().unwrap());
    assert!(!lock.exists());
}

#[test]
fn many_writers_lose_nothing() {
    let (_dir, path) = foreign_file();
    let threads: Vec<_> = (0..8)
        .map(|number| {
            let files = Files::new(vec![path.clone()]);
            std::thread::spawn(move || files.set(&entry(&format!("dev{number}")), true))
        })
        .collect();
    for thread in threads {
        assert!(thread.join().unwrap().unwrap());
    }
    assert_eq!(value(&path)["contexts"].as_sequence().unwrap().len(), 9);
}

#[test]
fn a_link_stays_a_link() {
    let (dir, path) = foreign_file();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    Files::new(vec![link.clone()]).set(&entry("dev"), false).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&path).unwrap().contains("dev"));
}

#[test]
fn no_file_at_all_is_told() {
    let error = Files::new(vec![PathBuf::new()])
        .set(&entry("dev"), false)
        .unwrap_err();
    assert!(error.to_string().contains("no kubeconfig to write to"), "{error}");
}
