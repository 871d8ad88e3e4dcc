//! kubeconfig.
