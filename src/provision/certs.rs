//! The cluster's certificates: how long they are good, and new ones when they are near their end.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sampan_driver::Command;

use super::{Node, control_plane, guest};
use crate::error::{Error, Kind, Result};

/// Prints the certificates that end first: the apiserver's, and kubelet's own, if there is one yet.
pub(super) const SHOW: &str = "cat /etc/kubernetes/pki/apiserver.crt
sed -n '/BEGIN CERTIFICATE/,/END CERTIFICATE/p' /var/lib/kubelet/pki/kubelet-client-current.pem 2>/dev/null || true
";

/// Certificates that end sooner are renewed when the cluster starts or goes on, before the apiserver is asked for anything: it
/// could not be trusted with one that has expired.
const RENEW_WITHIN_DAYS: i64 = 30;

/// kubelet renews its own a good while before its end, if it runs then. One that ends sooner was slept through.
const KUBELET_RENEWS_DAYS: i64 = 1;

/// For how many days from now, by the host's clock, certificates are good; negative for those that have expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DaysLeft {
    /// The apiserver's, and with it all that kubeadm made.
    cluster: i64,
    /// The one that kubelet shows the apiserver.
    kubelet: Option<i64>,
}

/// Reads what [`SHOW`] printed.
///
/// # Errors
/// [`Kind::ControlPlane`] when that is no certificate.
pub(super) fn days_left(shown: &[u8]) -> Result<DaysLeft> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let days = |end: i64| (end - i64::try_from(now).unwrap_or(i64::MAX)).div_euclid(86400);
    let ends = ends(shown);
    let cluster = ends.first().ok_or_else(|| {
        Error::new(
            Kind::ControlPlane,
            "the guest's apiserver has no certificate that can be read",
        )
    })?;
    Ok(DaysLeft {
        cluster: days(*cluster),
        kubelet: ends.get(1).copied().map(days),
    })
}

/// Asks the guest for its certificates, and renews what is near its end.
///
/// # Errors
/// Those of [`days_left`]; [`Kind::ControlPlane`] when kubeadm fails or the control plane does not come back.
pub(super) fn check(node: &Node<'_>) -> Result<()> {
    let shown = node.runner.run(&Command::new("sh").arg("-s").stdin(SHOW))?.stdout;
    renew_if_near_end(node, days_left(&shown)?)
}

/// Renews what is near its end.
///
/// # Errors
/// As [`check`].
pub(super) fn renew_if_near_end(node: &Node<'_>, left: DaysLeft) -> Result<()> {
    if left.cluster < RENEW_WITHIN_DAYS {
        node.reporter.info(&format!(
            "renewing the cluster's certificates: they are good for {} days",
            left.cluster
        ));
        renew(node)
    } else if left.kubelet.is_some_and(|days| days < KUBELET_RENEWS_DAYS) {
        node.reporter
            .info("renewing kubelet's certificate: the cluster slept through its end");
        renew_kubelet(node)
    } else {
        Ok(())
    }
}

/// Renews what kubeadm made, then lets the control plane start with it.
fn renew(node: &Node<'_>) -> Result<()> {
    kubeadm(node, &["certs", "renew", "all"])?;
    // Names of processes are cut at 15 characters. kubelet starts them again at once; status 1 means that none was running.
    let restart =
        Command::new("pkill").args(["--exact", "etcd|kube-apiserver|kube-controller|kube-scheduler"]);
    node.runner.succeeds(&restart)?;
    renew_kubelet(node)?;
    control_plane::wait_for_api(node, Duration::from_secs(300))
}

/// Gives kubelet a new certificate of the cluster's authority, as kubeadm does at first; pods run on meanwhile.
fn renew_kubelet(node: &Node<'_>) -> Result<()> {
    let old = "rm -f /etc/kubernetes/kubelet.conf /var/lib/kubelet/pki/kubelet-client-current.pem \
               /var/lib/kubelet/pki/kubelet-client-*";
    guest::run(node, &Command::new("sh").args(["-c", old]))?;
    kubeadm(node, &["init", "phase", "kubeconfig", "kubelet"])?;
    guest::systemctl(node, &["restart", "kubelet.service"], Kind::ControlPlane)
}

fn kubeadm(node: &Node<'_>, args: &[&str]) -> Result<()> {
    let command = Command::new("kubeadm")
        .args(args.iter().copied())
        .args(["--config", control_plane::CONFIG])
        .deadline(Duration::from_secs(120));
    node.cancel.check()?;
    node.runner
        .run(&command)
        .map(drop)
        .map_err(guest::of_kind(Kind::ControlPlane))
}

/// When the certificates end that are in a text, in seconds since 1970.
fn ends(pems: &[u8]) -> Vec<i64> {
    x509_parser::pem::Pem::iter_from_buffer(pems)
        .flatten()
        .filter_map(|pem| Some(pem.parse_x509().ok()?.validity().not_after.timestamp()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(year: i32) -> String {
        let mut params = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 5, 6);
        params
            .self_signed(&rcgen::KeyPair::generate().unwrap())
            .unwrap()
            .pem()
    }

    #[test]
    fn the_ends_of_certificates_are_read() {
        assert_eq!(ends(pem(2031).as_bytes()), [1_935_792_000]);
        assert!(ends(b"nonsense").is_empty());
        assert_eq!(days_left(b"nonsense").unwrap_err().kind(), Kind::ControlPlane);
        let one = days_left(pem(2031).as_bytes()).unwrap();
        assert_eq!(one.kubelet, None);
        let both = days_left(format!("{}{}", pem(2031), pem(2001)).as_bytes()).unwrap();
        assert_eq!(both.cluster, one.cluster);
        assert!(both.kubelet.unwrap() < 0);
    }
}
