//! Small pure changes of one kubeconfig file's contents. Fields and entries that are not ours keep their values and their order.

use yaml_serde::{Mapping, Value};

/// The name of our extension.
pub(super) const OURS: &str = "sampan";

/// A list of a kubeconfig and the field its items keep their contents in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// "clusters".
    pub(super) list: &'static str,
    /// "cluster".
    pub(super) one: &'static str,
}

/// Clusters, users, contexts.
pub(super) const KINDS: [Kind; 3] = [
    Kind {
        list: "clusters",
        one: "cluster",
    },
    Kind {
        list: "users",
        one: "user",
    },
    Kind {
        list: "contexts",
        one: "context",
    },
];

/// What an item of a list must hold.
pub(super) struct Stanza {
    pub(super) kind: Kind,
    pub(super) fields: Vec<(&'static str, Value)>,
    /// Fields that must not be there, since they would win over ours or contradict them.
    pub(super) conflicts: Vec<&'static str>,
}

/// A kubeconfig with nothing in it.
pub(super) fn empty() -> Mapping {
    let mut mapping = Mapping::new();
    mapping.insert("apiVersion".into(), "v1".into());
    mapping.insert("kind".into(), "Config".into());
    for kind in KINDS {
        mapping.insert(kind.list.into(), Value::Sequence(Vec::new()));
    }
    mapping.insert("current-context".into(), "".into());
    mapping
}

/// Reads a file's text; the error says what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Mapping, String> {
    let mapping = match yaml_serde::from_str(text).map_err(|error| error.to_string())? {
        Value::Null => return Ok(empty()),
        Value::Mapping(mapping) => mapping,
        _ => return Err("it is no set of fields".to_owned()),
    };
    for Kind { list, .. } in KINDS {
        match mapping.get(list) {
            None | Some(Value::Null) => {}
            Some(Value::Sequence(items)) if items.iter().all(Value::is_mapping) => {}
            Some(_) => return Err(format!("\"{list}\" is no list of entries")),
        }
    }
    match mapping.get("current-context") {
        None | Some(Value::Null | Value::String(_)) => Ok(mapping),
        Some(_) => Err("\"current-context\" is no name".to_owned()),
    }
}

/// The item of a list that has this name.
pub(super) fn find<'a>(document: &'a Mapping, kind: Kind, name: &str) -> Option<&'a Mapping> {
    let items = document.get(kind.list)?.as_sequence()?;
    items
        .iter()
        .filter_map(Value::as_mapping)
        .find(|item| is_named(item, name))
}

/// Whether there is an item of this name that we did not make.
pub(super) fn is_foreign(document: &Mapping, kind: Kind, name: &str) -> bool {
    find(document, kind, name).is_some_and(|item| !is_ours(item, kind))
}

/// Whether an item holds what it must.
pub(super) fn is_same(item: &Mapping, stanza: &Stanza) -> bool {
    let body = item.get(stanza.kind.one);
    let field = |key: &str| body.and_then(|body| body.get(key));
    stanza.fields.iter().all(|(key, value)| field(key) == Some(value))
        && stanza.conflicts.iter().all(|key| field(key).is_none())
}

/// Makes or changes an item. One that holds all it must is left as it is, extension and all.
pub(super) fn put(document: &mut Mapping, name: &str, stanza: &Stanza, extension: &Mapping) {
    let items = list(document, stanza.kind);
    let at = items
        .iter()
        .position(|item| item.as_mapping().is_some_and(|item| is_named(item, name)));
    let at = at.unwrap_or_else(|| {
        let mut item = Mapping::new();
        item.insert("name".into(), name.into());
        items.push(Value::Mapping(item));
        items.len() - 1
    });
    let Value::Mapping(item) = &mut items[at] else {
        return;
    };
    if is_same(item, stanza) && is_ours(item, stanza.kind) {
        return;
    }
    let body = mapping_at(item, stanza.kind.one);
    for key in &stanza.conflicts {
        body.shift_remove(*key);
    }
    for (key, value) in &stanza.fields {
        body.insert((*key).into(), value.clone());
    }
    mark(body, extension);
}

/// Removes our item of this name; says whether there was one.
pub(super) fn remove(document: &mut Mapping, kind: Kind, name: &str) -> bool {
    let Some(Value::Sequence(items)) = document.get_mut(kind.list) else {
        return false;
    };
    let before = items.len();
    items.retain(|item| {
        !item
            .as_mapping()
            .is_some_and(|item| is_named(item, name) && is_ours(item, kind))
    });
    items.len() < before
}

/// The current context a file names.
pub(super) fn current(document: &Mapping) -> Option<&str> {
    document
        .get("current-context")
        .and_then(Value::as_str)
        .filter(|name| !name.is_empty())
}

/// Names the current context; an empty name unsets it.
pub(super) fn set_current(document: &mut Mapping, name: &str) {
    document.insert("current-context".into(), name.into());
}

fn is_named(item: &Mapping, name: &str) -> bool {
    item.get("name").and_then(Value::as_str) == Some(name)
}

fn is_ours(item: &Mapping, kind: Kind) -> bool {
    let extensions = item.get(kind.one).and_then(|body| body.get("extensions"));
    extensions
        .and_then(Value::as_sequence)
        .is_some_and(|all| all.iter().any(is_our_extension))
}

fn is_our_extension(extension: &Value) -> bool {
    extension
        .as_mapping()
        .is_some_and(|extension| is_named(extension, OURS))
}

/// Puts our extension among the others.
fn mark(body: &mut Mapping, extension: &Mapping) {
    let mut ours = Mapping::new();
    ours.insert("name".into(), OURS.into());
    ours.insert("extension".into(), Value::Mapping(extension.clone()));
    let slot = body.entry("extensions".into()).or_insert(Value::Null);
    let mut all = slot.as_sequence().cloned().unwrap_or_default();
    match all.iter_mut().find(|extension| is_our_extension(extension)) {
        Some(found) => *found = Value::Mapping(ours),
        None => all.push(Value::Mapping(ours)),
    }
    *slot = Value::Sequence(all);
}

/// A list of the file; made where there is none.
fn list(document: &mut Mapping, kind: Kind) -> &mut Vec<Value> {
    let slot = document.entry(kind.list.into()).or_insert(Value::Null);
    if !slot.is_sequence() {
        *slot = Value::Sequence(Vec::new());
    }
    match slot {
        Value::Sequence(items) => items,
        _ => unreachable!("made a sequence above"),
    }
}

/// A set of fields inside an item; made where there is none.
fn mapping_at<'a>(item: &'a mut Mapping, key: &str) -> &'a mut Mapping {
    let slot = item.entry(key.into()).or_insert(Value::Null);
    if !slot.is_mapping() {
        *slot = Value::Mapping(Mapping::new());
    }
    match slot {
        Value::Mapping(mapping) => mapping,
        _ => unreachable!("made a mapping above"),
    }
}
