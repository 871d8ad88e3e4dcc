//! What one small, mostly idle node needs of each component: arguments that the stock settings of a many-node cluster would
//! waste its processors on. `--extra-config` overrides each.

/// etcd: one member, so nobody to hold an election with. Its data stay synced to disk.
pub(super) const ETCD: &[(&str, &str)] = &[
    ("heartbeat-interval", "1000"),
    ("election-timeout", "10000"),
    ("snapshot-count", "5000"),
    ("log-level", "warn"),
    // kubeadm's 5 s wakes each of the apiserver's seventy watches as often.
    ("watch-progress-notify-interval", "60s"),
];

/// The apiserver.
pub(super) const API_SERVER: &[(&str, &str)] = &[
    ("profiling", "false"),
    // Metrics that nobody reads here: a count of every resource each minute, the size of the database each half.
    ("etcd-count-metric-poll-period", "0"),
    ("etcd-db-metric-poll-interval", "0"),
];

/// The controller manager: nobody to elect against, one node to look at.
pub(super) const CONTROLLER_MANAGER: &[(&str, &str)] = &[
    ("leader-elect", "false"),
    ("node-monitor-period", "30s"),
    ("node-monitor-grace-period", "5m"),
    ("profiling", "false"),
];

/// The scheduler.
pub(super) const SCHEDULER: &[(&str, &str)] = &[("leader-elect", "false"), ("profiling", "false")];
