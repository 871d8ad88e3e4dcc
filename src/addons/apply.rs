//! Brings objects into a cluster and takes them out again: in stages, and within a stage several at a time over connections that are
//! kept, as each request costs an emulated apiserver tens of milliseconds.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::LABEL;
use crate::error::{Error, Kind, Result};
use crate::progress::Cancel;
use crate::provision::Node;
use crate::provision::manifests::Places;

/// Requests at a time: more only wait for the guest's processors.
const WORKERS: usize = 4;

/// How long a kind that was defined just now may take to be served.
const SERVED_DEADLINE: Duration = Duration::from_secs(60);

/// How often an apiserver that does not answer is asked.
const TRIES: usize = 3;

/// How long removed objects may take to go: pods that do not listen to SIGTERM take half a minute.
const GONE_DEADLINE: Duration = Duration::from_secs(180);

const PAUSE: Duration = Duration::from_millis(400);

/// An object and where the API keeps it.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    path: String,
    object: Value,
}

/// When an object's turn is; removing goes the other way round. Objects of kinds that others define come late, what the
/// apiserver itself depends on comes last: while nobody serves it, the apiserver is slow at other things.
fn stage(path: &str) -> usize {
    const BASICS: &[&str] = &[
        "configmaps",
        "limitranges",
        "persistentvolumes",
        "persistentvolumeclaims",
        "resourcequotas",
        "secrets",
        "services",
        "serviceaccounts",
        "customresourcedefinitions",
        "horizontalpodautoscalers",
        "ingressclasses",
        "networkpolicies",
        "poddisruptionbudgets",
        "clusterroles",
        "clusterrolebindings",
        "roles",
        "rolebindings",
        "priorityclasses",
        "storageclasses",
    ];
    const WORKLOADS: &[&str] = &[
        "daemonsets",
        "deployments",
        "statefulsets",
        "jobs",
        "cronjobs",
        "pods",
    ];
    const HOOKS: &[&str] = &[
        "apiservices",
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
    ];
    match resource(path) {
        "namespaces" => 0,
        one if BASICS.contains(&one) => 1,
        one if WORKLOADS.contains(&one) => 2,
        one if HOOKS.contains(&one) => 4,
        _ => 3,
    }
}

/// The number of stages.
const STAGES: usize = 5;

/// "deployments" of "/apis/apps/v1/namespaces/a/deployments/b".
fn resource(path: &str) -> &str {
    path.rsplit('/').nth(1).unwrap_or_default()
}

/// Finds each object's place.
pub(super) fn place(places: &mut Places<'_>, objects: Vec<Value>) -> Result<Vec<Placed>> {
    let mut placed = Vec::new();
    for object in objects {
        placed.push(Placed {
            path: places.path(&object)?,
            object,
        });
    }
    Ok(placed)
}

/// All paths, for the records.
pub(super) fn paths(placed: &[Placed], secrets: &[Value]) -> Vec<String> {
    let secrets = secrets.iter().map(secret_path);
    placed.iter().map(|one| one.path.clone()).chain(secrets).collect()
}

fn secret_path(secret: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &secret["metadata"];
    format!(
        "/api/v1/namespaces/{}/secrets/{}",
        text(&metadata["namespace"]),
        text(&metadata["name"])
    )
}

/// Brings everything into the cluster.
///
/// # Errors
/// Those of the API; [`Kind::Interrupted`].
pub(super) fn apply(node: &Node<'_>, placed: &[Placed], secrets: &[Value]) -> Result<()> {
    let secrets = secrets.iter().map(|secret| Placed {
        path: secret_path(secret),
        object: secret.clone(),
    });
    let all: Vec<Placed> = placed.iter().cloned().chain(secrets).collect();
    for number in 0..STAGES {
        let mut turn: Vec<&Placed> = all.iter().filter(|one| stage(&one.path) == number).collect();
        // Large definitions take longest: nobody is to wait for one that came last.
        turn.sort_by_key(|one| resource(&one.path) != "customresourcedefinitions");
        each(node.cancel, &turn, |one| put(node, one))?;
    }
    Ok(())
}

/// Applies one object; a kind that is not served yet is waited for, and an apiserver that does not answer is asked again.
fn put(node: &Node<'_>, one: &Placed) -> Result<()> {
    let end = Instant::now() + SERVED_DEADLINE;
    let mut tries = 0;
    loop {
        let error = match node.api.apply_at(&one.path, &one.object) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        node.cancel.check()?;
        tries += 1;
        let again = match error.kind() {
            Kind::NotFound => stage(&one.path) == 3 && Instant::now() < end,
            Kind::ApiStopped | Kind::ControlPlane => tries < TRIES,
            _ => false,
        };
        if !again {
            return Err(error);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Removes these objects and waits until they are gone.
///
/// # Errors
/// [`Kind::Addon`] when some do not go; those of the API; [`Kind::Interrupted`].
pub(super) fn remove(node: &Node<'_>, addon: &str, paths: &[String]) -> Result<()> {
    for number in (0..STAGES).rev() {
        let turn: Vec<&String> = paths.iter().filter(|path| stage(path) == number).collect();
        each(node.cancel, &turn, |path| delete(node, path))?;
        each(node.cancel, &turn, |path| gone(node, addon, path))?;
    }
    Ok(())
}

/// A kind that is not served any more has no objects.
fn delete(node: &Node<'_>, path: &str) -> Result<()> {
    let mut tries = 0;
    loop {
        match node.api.delete(path) {
            Err(error) if error.kind() == Kind::ApiStopped && tries < TRIES => tries += 1,
            other => return other,
        }
        node.cancel.check()?;
        std::thread::sleep(PAUSE);
    }
}

fn gone(node: &Node<'_>, addon: &str, path: &str) -> Result<()> {
    let end = Instant::now() + GONE_DEADLINE;
    loop {
        match node.api.find(path) {
            Ok(None) => return Ok(()),
            Ok(Some(_)) => {}
            Err(error) if matches!(error.kind(), Kind::ApiStopped | Kind::ControlPlane) => {}
            Err(error) => return Err(error),
        }
        node.cancel.check()?;
        if Instant::now() >= end {
            let message = format!("{addon}: {path} is not gone after {}s", GONE_DEADLINE.as_secs());
            return Err(Error::new(Kind::Addon, message)
                .hint("see what holds it: kubectl describe shows finalizers and events"));
        }
        node.reporter
            .detail(&format!("{addon}: waiting until {path} is gone"));
        std::thread::sleep(PAUSE);
    }
}

/// As [`remove`], with what else bears the addon's label in the same collections.
///
/// # Errors
/// As [`remove`].
pub(super) fn remove_labelled(node: &Node<'_>, addon: &str, paths: &[String]) -> Result<()> {
    let collections: BTreeSet<&str> = paths
        .iter()
        .filter_map(|path| Some(path.rsplit_once('/')?.0))
        .collect();
    let collections: Vec<&str> = collections.into_iter().collect();
    let found = Mutex::new(paths.iter().cloned().collect::<BTreeSet<String>>());
    each(node.cancel, &collections, |collection| {
        let list = node
            .api
            .find(&format!("{collection}?labelSelector={LABEL}%3D{addon}"))?
            .unwrap_or_default();
        let names = list["items"].as_array().into_iter().flatten();
        let names = names.filter_map(|item| item["metadata"]["name"].as_str());
        found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(names.map(|name| format!("{collection}/{name}")));
        Ok(())
    })?;
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    remove(node, addon, &found.into_iter().collect::<Vec<_>>())
}

/// Does something with each of many, several at a time; the first failure ends it.
fn each<T: Sync>(cancel: &Cancel, items: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..WORKERS.min(items.len()) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = cancel.check().and_then(|()| work(item)) {
                        next.store(items.len(), Ordering::Relaxed);
                        failed
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .get_or_insert(error);
                    }
                }
            });
        }
    });
    failed
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_need_comes_first_and_what_the_apiserver_needs_last() {
        let order = [
            "/api/v1/namespaces/a",
            "/api/v1/namespaces/a/serviceaccounts/b",
            "/apis/apps/v1/namespaces/a/deployments/b",
            "/apis/gateway.networking.k8s.io/v1/gatewayclasses/b",
            "/apis/apiregistration.k8s.io/v1/apiservices/v1.b",
        ];
        let stages: Vec<_> = order.iter().map(|path| stage(path)).collect();
        assert_eq!(stages, [0, 1, 2, 3, 4]);
        assert_eq!(
            stage("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/b"),
            1
        );
    }

    #[test]
    fn the_first_failure_ends_the_work_and_is_told() {
        let count = AtomicUsize::new(0);
        let items: Vec<usize> = (0..1000).collect();
        let error = each(&Cancel::default(), &items, |item| {
            count.fetch_add(1, Ordering::Relaxed);
            if *item == 3 {
                return Err(Error::new(Kind::Addon, "no"));
            }
            Ok(())
        });
        assert_eq!(error.unwrap_err().to_string(), "no");
        let done = AtomicUsize::new(0);
        each(&Cancel::default(), &items, |_| {
            done.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
        assert_eq!(done.into_inner(), 1000);
        let cancelled = Cancel::default();
        cancelled.flag().store(true, Ordering::Relaxed);
        assert_eq!(
            each(&cancelled, &items, |_| Ok(())).unwrap_err().kind(),
            Kind::Interrupted
        );
    }
}
