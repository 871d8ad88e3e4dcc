//! Acceptance tests against a real QEMU guest and the user's own `kubectl`: stories 1 to 6 and 8 to 10 of the project's scenarios.
//!
//! The stories run on one cluster one after the other, in the order below, each a test of its own. Run with
//! `./dev test vm`; `cargo test --test vm -- NAME` runs the first, which all others need, and those whose names match
//! (or one of several, with commas between them). The ready snapshot is taken from the machine's cache and left there, so only the first
//! run of a changed sampan boots cold.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking and says what it saw"
)]

mod addons;
mod buildkit;
mod client;
mod cluster;
mod cri;
mod docker;
mod images;
mod life;
mod network;
mod offline;
mod reach;
mod registries;
mod rolling;
mod snapshots;
mod support;
mod upgrade;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use support::World;

/// A story: a name and what is done and checked.
type Story = (&'static str, fn(&World));

/// In this order: later ones build on what earlier ones left in the cluster.
const STORIES: &[Story] = &[
    ("first_cluster", cluster::first_cluster),
    (
        "nothing_restarted_on_the_way",
        cluster::nothing_restarted_on_the_way,
    ),
    (
        "second_start_changes_nothing",
        cluster::second_start_changes_nothing,
    ),
    (
        "status_and_profile_list_tell_the_state",
        reach::status_and_profile_list_tell_the_state,
    ),
    (
        "ssh_cp_logs_ip_and_kubectl_reach_the_node",
        reach::ssh_cp_logs_ip_and_kubectl_reach_the_node,
    ),
    (
        "a_pod_resolves_services_and_a_claim_binds",
        cluster::a_pod_resolves_services_and_a_claim_binds,
    ),
    ("the_host_has_a_name", reach::the_host_has_a_name),
    (
        "services_are_reached_by_themselves",
        network::services_are_reached_by_themselves,
    ),
    (
        "a_port_without_pods_refuses",
        network::a_port_without_pods_refuses,
    ),
    (
        "publishing_outlives_its_supervisor_and_the_apiserver",
        network::publishing_outlives_its_supervisor_and_the_apiserver,
    ),
    (
        "nothing_leaks_and_a_start_brings_all_back",
        network::nothing_leaks_and_a_start_brings_all_back,
    ),
    (
        "docker_is_closed_without_a_certificate",
        docker::docker_is_closed_without_a_certificate,
    ),
    (
        "eval_points_docker_and_unset_points_back",
        client::eval_points_docker_and_unset_points_back,
    ),
    ("what_docker_builds_pods_run", docker::what_docker_builds_pods_run),
    (
        "buildkit_builds_what_pods_run",
        buildkit::buildkit_builds_what_pods_run,
    ),
    (
        "docker_runs_containers_beside_pods",
        docker::docker_runs_containers_beside_pods,
    ),
    (
        "ports_of_containers_are_reached",
        docker::ports_of_containers_are_reached,
    ),
    (
        "a_service_is_reached_by_its_url",
        addons::a_service_is_reached_by_its_url,
    ),
    ("metrics_server_measures", addons::metrics_server_measures),
    ("ingress_leads_to_pods", addons::ingress_leads_to_pods),
    (
        "a_registry_has_one_name_for_docker_and_pods",
        addons::a_registry_has_one_name_for_docker_and_pods,
    ),
    (
        "a_registry_without_tls_and_a_mirror",
        registries::a_registry_without_tls_and_a_mirror,
    ),
    (
        "producer_and_consumer_find_each_other",
        addons::producer_and_consumer_find_each_other,
    ),
    ("names_come_and_go_for_both", docker::names_come_and_go_for_both),
    (
        "a_pod_that_waits_holds_its_image",
        docker::a_pod_that_waits_holds_its_image,
    ),
    (
        "versions_roll_without_losing_a_request",
        rolling::versions_roll_without_losing_a_request,
    ),
    (
        "pruning_takes_nothing_from_the_cluster",
        docker::pruning_takes_nothing_from_the_cluster,
    ),
    (
        "images_come_and_go_and_only_what_lacks_is_sent",
        images::images_come_and_go_and_only_what_lacks_is_sent,
    ),
    (
        "a_full_disk_leaves_no_half_of_an_image",
        images::a_full_disk_leaves_no_half_of_an_image,
    ),
    ("pods_run_on_docker_itself", cri::pods_run_on_docker_itself),
    (
        "docker_goes_on_after_stop_and_start",
        docker::docker_goes_on_after_stop_and_start,
    ),
    (
        "a_saved_cluster_counts_on_as_if_nothing_had_been",
        snapshots::a_saved_cluster_counts_on,
    ),
    (
        "a_clock_that_was_wrong_is_set_right",
        snapshots::a_wrong_clock_is_set_right,
    ),
    (
        "a_paused_cluster_stands_still",
        snapshots::a_paused_cluster_stands_still,
    ),
    (
        "a_stop_in_the_middle_of_a_rollout_only_delays_it",
        snapshots::a_stop_in_a_rollout_delays_it,
    ),
    (
        "a_snapshot_brings_memory_and_disk_back",
        snapshots::a_snapshot_brings_all_back,
    ),
    ("a_fork_goes_its_own_way", snapshots::a_fork_goes_its_own_way),
    (
        "a_stop_that_is_killed_loses_nothing_acknowledged",
        snapshots::a_killed_stop_loses_nothing,
    ),
    (
        "a_shutdown_and_start_keep_everything",
        life::a_shutdown_keeps_everything,
    ),
    (
        "a_killed_machine_is_noticed_and_recovers",
        life::a_killed_machine_recovers,
    ),
    (
        "an_upgrade_keeps_everything",
        upgrade::an_upgrade_keeps_everything,
    ),
    ("two_profiles_side_by_side", life::two_profiles_side_by_side),
    ("delete_leaves_nothing", life::delete_leaves_nothing),
    (
        "a_bundle_file_is_all_it_takes",
        offline::a_bundle_file_is_all_it_takes,
    ),
];

/// These take minutes each under emulation: they run when they are asked for by name (`./dev test more`, `rolling`, `offline`, `upgrade`, `buildkit`, `registries`,
/// `cri`).
const LONG: [&str; 11] = [
    "pods_run_on_docker_itself",
    "metrics_server_measures",
    "names_come_and_go_for_both",
    "a_pod_that_waits_holds_its_image",
    "a_clock_that_was_wrong_is_set_right",
    "a_stop_in_the_middle_of_a_rollout_only_delays_it",
    "a_registry_without_tls_and_a_mirror",
    "buildkit_builds_what_pods_run",
    "versions_roll_without_losing_a_request",
    "a_bundle_file_is_all_it_takes",
    "an_upgrade_keeps_everything",
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The stories share two cores and one cluster.
    arguments.test_threads = Some(1);
    let only = arguments.filter.take();
    let is_wanted = |name: &str| match &only {
        Some(only) => only.split(',').any(|only| name.contains(only)),
        None => !LONG.contains(&name),
    };
    let world = Arc::new(World::new());
    let trials = STORIES
        .iter()
        .enumerate()
        .filter(|(index, (name, _))| *index == 0 || is_wanted(name))
        .map(|(index, &(name, story))| {
            let world = Arc::clone(&world);
            Trial::test(name, move || world.tell(index == 0, story).map_err(Failed::from))
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    world.clean_up();
    conclusion.exit_code()
}
