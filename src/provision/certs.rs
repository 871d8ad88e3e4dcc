//! The cluster's certificates: how long they are good, and new ones when they are near their end.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sampan_driver::Command;

use super::{Node, control_plane, guest};
use crate::error::{Error, Kind, Result};

const API_SERVER: &str = "/etc/kubernetes/pki/apiserver.crt";

/// Certificates that end sooner are renewed when the cluster starts or goes on, before the apiserver is asked for anything: it
/// could not be trusted with one that has expired.
const RENEW_WITHIN_DAYS: i64 = 30;

/// For how many days from now, by the host's clock, the apiserver's certificate is good; negative when it has expired.
///
/// # Errors
/// [`Kind::Guest`] when the guest cannot be asked; [`Kind::ControlPlane`] when it has no such certificate.
pub fn days_left(node: &Node<'_>) -> Result<i64> {
    days_of(&node.runner.run(&Command::new("cat").arg(API_SERVER))?.stdout)
}

/// As [`days_left`], of a certificate that was read already.
pub(super) fn days_of(pem: &[u8]) -> Result<i64> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let end = not_after(pem).ok_or_else(|| {
        Error::new(
            Kind::ControlPlane,
            format!("{API_SERVER} in the guest is not a certificate"),
        )
    })?;
    Ok((end - i64::try_from(now).unwrap_or(i64::MAX)).div_euclid(86400))
}

/// Renews the certificates, which are good for this many days, if that is not long.
pub(super) fn renew_if_near_end(node: &Node<'_>, days: i64) -> Result<()> {
    if days >= RENEW_WITHIN_DAYS {
        return Ok(());
    }
    node.reporter.info(&format!(
        "renewing the cluster's certificates: they are good for {days} days"
    ));
    renew(node)
}

/// Renews what kubeadm made, then lets the control plane start with it.
///
/// # Errors
/// [`Kind::ControlPlane`] when kubeadm fails or the control plane does not come back.
pub fn renew(node: &Node<'_>) -> Result<()> {
    let renew = Command::new("kubeadm")
        .args(["certs", "renew", "all", "--config", control_plane::CONFIG])
        .deadline(Duration::from_secs(120));
    node.cancel.check()?;
    node.runner
        .run(&renew)
        .map_err(guest::of_kind(Kind::ControlPlane))?;
    // Names of processes are cut at 15 characters. kubelet starts them again at once; status 1 means that none was running.
    let restart =
        Command::new("pkill").args(["--exact", "etcd|kube-apiserver|kube-controller|kube-scheduler"]);
    node.runner.succeeds(&restart)?;
    control_plane::wait_for_api(node, Duration::from_secs(300))
}

fn not_after(pem: &[u8]) -> Option<i64> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    Some(pem.parse_x509().ok()?.validity().not_after.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read() {
        let mut params = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2031, 5, 6);
        let cert = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        assert_eq!(not_after(cert.pem().as_bytes()), Some(1_935_792_000));
        assert_eq!(not_after(b"nonsense"), None);
    }
}
