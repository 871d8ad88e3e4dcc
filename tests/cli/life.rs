//! A cluster's whole life with the test driver.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::support::TestEnvironment;

/// Clusters choose their addresses by what is free: one test at a time, or they take each other's.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn start_again_status_stop_start_delete() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    insta::assert_snapshot!(env.run("start --driver fake --memory 3g"), @r#"
    status: 30
    --- stdout
    making cluster "sampan": fake, 2 CPUs, 3072 MiB memory, 20000 MiB disk, Kubernetes v1.36.3
    ✓ checking the driver (TIME)
    ✓ setting up the profile (TIME)
    using fake 0.1.0
    ✓ starting the machine (TIME)
    ✓ waiting for the machine (TIME)
    ✓ preparing the node (TIME)
    ✓ starting containerd (TIME)
    ✗ importing container images (TIME)
    --- stderr
    X Exiting due to HOST_BUNDLE: images/node.tar of bundle 502702675b7d93aa lacks registry.k8s.io/kube-apiserver:v1.36.3, registry.k8s.io/kube-controller-manager:v1.36.3, registry.k8s.io/kube-scheduler:v1.36.3, registry.k8s.io/kube-proxy:v1.36.3, registry.k8s.io/etcd:3.6.8-0, registry.k8s.io/coredns/coredns:v1.14.2, registry.k8s.io/pause:3.10.2, docker.io/rancher/local-path-provisioner:v0.0.30, sampan.local/helper:v1
    hint: build the bundle again: `sampan bundle remove`, then `sampan bundle build`
    "#);
    insta::assert_snapshot!(env.run("start"), @r"
    status: 30
    --- stdout
    ✓ checking the driver (TIME)
    ✓ setting up the profile (TIME)
    using fake 0.1.0
    ✓ starting the machine (TIME)
    ✓ waiting for the machine (TIME)
    ✗ importing container images (TIME)
    --- stderr
    X Exiting due to HOST_BUNDLE: images/node.tar of bundle 502702675b7d93aa lacks registry.k8s.io/kube-apiserver:v1.36.3, registry.k8s.io/kube-controller-manager:v1.36.3, registry.k8s.io/kube-scheduler:v1.36.3, registry.k8s.io/kube-proxy:v1.36.3, registry.k8s.io/etcd:3.6.8-0, registry.k8s.io/coredns/coredns:v1.14.2, registry.k8s.io/pause:3.10.2, docker.io/rancher/local-path-provisioner:v0.0.30, sampan.local/helper:v1
    hint: build the bundle again: `sampan bundle remove`, then `sampan bundle build`
    ");
    insta::assert_snapshot!(env.run("status"), @r"
    status: 7
    --- stdout
    sampan
    type: Control Plane
    host: Stopped
    kubelet: Stopped
    apiserver: Stopped
    kubeconfig: Stopped

    --- stderr
    ");
    insta::assert_snapshot!(env.run("status -o json"), @r#"
    status: 7
    --- stdout
    {"Name":"sampan","Host":"Stopped","Kubelet":"Stopped","APIServer":"Stopped","Kubeconfig":"Stopped","Worker":false}--- stderr
    "#);
    insta::assert_snapshot!(env.run("stop"), @r#"
    status: 0
    --- stdout
    ✓ stopping the cluster (TIME)
    cluster "sampan" was not running
    --- stderr
    "#);
    insta::assert_snapshot!(env.run("status"), @r"
    status: 7
    --- stdout
    sampan
    type: Control Plane
    host: Stopped
    kubelet: Stopped
    apiserver: Stopped
    kubeconfig: Stopped

    --- stderr
    ");
    insta::assert_snapshot!(env.run("stop"), @r#"
    status: 0
    --- stdout
    ✓ stopping the cluster (TIME)
    cluster "sampan" was not running
    --- stderr
    "#);
    assert_eq!(env.status("start"), 0);
    assert_eq!(env.status("status"), 0);
    insta::assert_snapshot!(env.run("delete"), @"");
    insta::assert_snapshot!(env.run("delete"), @"");
    assert_eq!(env.status("status"), 85);
}
