//! Whatever text stands in a kubeconfig comes back as it was, for us and for kubectl.

use proptest::prelude::*;

use super::*;

/// Texts that a YAML reader might take for something else, and ordinary ones.
fn text() -> impl Strategy<Value = String> {
    const TRICKY: &[&str] = &[
        "yes",
        "on",
        "n",
        "~",
        "null",
        "1e3",
        "0o17",
        "0x1f",
        "1_000",
        "12:30:45",
        "=",
        "<<",
        "- a",
        "a: b",
        "#",
        "",
        "2026-01-01",
        ".inf",
        "!x",
        "&a",
        "*a",
        "é\u{2028}\n\t",
    ];
    prop_oneof![
        prop::sample::select(TRICKY).prop_map(str::to_owned),
        "[a-z0-9.@/-]{1,12}"
    ]
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        text().prop_map(Into::into),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map("[a-z]{1,6}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

fn foreign_config() -> impl Strategy<Value = serde_json::Value> {
    let items = |one: &'static str| {
        prop::collection::btree_map(
            text(),
            prop::collection::btree_map("[a-z]{1,8}", json(), 0..3),
            0..4,
        )
        .prop_map(move |items| {
            let item = |(name, body)| serde_json::json!({ "name": name, one: body });
            items.into_iter().map(item).collect::<Vec<_>>()
        })
    };
    (items("cluster"), items("user"), items("context"), text(), json()).prop_map(
        |(clusters, users, contexts, current, unknown)| {
            serde_json::json!({"clusters": clusters, "x-unknown": unknown, "users": users, "contexts": contexts,
                "current-context": current})
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_foreign_comes_back_after_set_and_remove(config in foreign_config()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        fs::write(&path, serde_json::to_string(&config).unwrap()).unwrap();
        let before = value(&path);
        let files = Files::new(vec![path.clone()]);
        files.set(&entry("our-dev-1"), true).unwrap();
        prop_assert_eq!(files.status(&entry("our-dev-1")).unwrap(), Status::Configured);
        files.remove("our-dev-1").unwrap();
        let after = value(&path);
        prop_assert_eq!(&after["x-unknown"], &before["x-unknown"]);
        for list in ["clusters", "users", "contexts", "current-context"] {
            prop_assert_eq!(&after[list], &before[list]);
        }
    }
}

#[test]
fn kubectl_reads_texts_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    let names = [
        "yes",
        "on",
        "n",
        "~",
        "null",
        "1e3",
        "0o17",
        "017",
        "1_000",
        "12:30:45",
        "=",
        "2026-01-01",
        ".inf",
        "0b1",
        "+1",
        "1.",
        "NO",
    ];
    let users: Vec<_> = names
        .iter()
        .map(|name| serde_json::json!({"name": name, "user": {"token": name}}))
        .collect();
    fs::write(&path, serde_json::json!({ "users": users }).to_string()).unwrap();
    Files::new(vec![path.clone()]).set(&entry("dev"), false).unwrap();
    let seen = kubectl(
        &[&path],
        &[
            "config",
            "view",
            "--raw",
            "-o",
            "jsonpath={range .users[*]}{.user.token}\n{end}",
        ],
    );
    let mut seen: Vec<&str> = seen
        .split("\\n")
        .flat_map(str::lines)
        .filter(|line| !line.is_empty())
        .collect();
    seen.sort_unstable();
    let mut names = names.to_vec();
    names.sort_unstable();
    assert_eq!(seen, names);
}
