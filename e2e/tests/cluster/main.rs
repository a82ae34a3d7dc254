//! Tests on a real Kubernetes cluster.
//!
//! ```text
//! Cluster: two nodes of our own (e2e/cluster), or whatever KUBECONFIG names
//!  └─ Api: a client in its network
//!      ├─ traffic   pods on two nodes, Services, DNS, exec, logs     ┐
//!      ├─ extend    a CRD with CEL, a webhook, an aggregated API     │ at the same time
//!      ├─ volumes   local claims, file system and block; ConfigMap   ┘
//!      ├─ restart   kubelet and containerd
//!      ├─ vms       virtual machines: `deploy/` applied, and what it promises
//!      └─ hands     the subresource API, by raw calls and by virtctl
//! ```
//!
//! Nothing but [`cluster`] knows how a cluster was made. The images that pods run are those of
//! `e2e/cluster/build`; on another cluster they must be there under the same names.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a step that fails is a test that fails"
)]

mod api;
mod cluster;
mod extend;
mod hands;
mod machine;
mod restart;
mod traffic;
mod vms;
mod volumes;

use std::time::Duration;

use cluster::Cluster;

#[test]
fn a_cluster_has_what_virtual_machines_need_and_leaves_nothing() {
    let cluster = Cluster::start_alone("smoke", 2);
    cluster.run(async |api| {
        tokio::join!(
            traffic::pods_reach_each_other(api),
            extend::a_rule_rejects(api),
            extend::a_webhook_refuses_and_an_aggregated_api_answers(api),
            volumes::a_local_claim_keeps_files(api),
            volumes::a_local_claim_is_a_device(api),
            volumes::a_config_map_is_a_directory(api),
        );
        restart::pods_outlive_the_kubelet_and_containerd(api).await;
    });
    cluster.stop();
}

#[test]
fn a_cluster_that_is_killed_leaves_nothing() {
    for part in ["control", "keeper"] {
        let Some(cluster) = Cluster::start_own(&format!("killed-{part}"), 1) else {
            return;
        };
        cluster.run(async |api| {
            let namespace = api.namespace("killed").await;
            // What a cluster leaves most easily: the kernel's loop devices belong to no process.
            volumes::use_device(api, &namespace).await;
        });
        cluster.kill(part);
    }
}

#[test]
fn machines_run_on_a_cluster() {
    let cluster = Cluster::start("machines", 2);
    cluster.run(async |api| {
        let ferrovirt = vms::Installation::new(&cluster, api).await;
        vms::accounts_can_do_what_is_written(&ferrovirt);
        tokio::join!(
            vms::a_faulty_manifest_is_refused_by_its_field(api),
            vms::what_hinders_a_start_is_told(api),
            vms::a_launcher_holds_nothing(&ferrovirt),
        );
        tokio::join!(
            vms::a_start_takes_few_writes(&ferrovirt),
            vms::a_stolen_token_is_good_for_its_node_only(&ferrovirt),
        );
        vms::each_run_strategy_does_what_it_says(api).await;
        vms::a_lying_launcher_gains_nothing(&ferrovirt).await;
        vms::each_end_is_told_as_it_was(&ferrovirt).await;
        vms::a_drained_node_is_left(&ferrovirt).await;
        vms::a_dead_nodes_machine_waits_for_certainty(&ferrovirt).await;
        vms::deletion_leaves_nothing(ferrovirt).await;
    });
    cluster.stop();
}

#[test]
fn machines_outlive_what_runs_them() {
    let cluster = Cluster::start("outlive", 1);
    cluster.run(async |api| {
        let ferrovirt = vms::Installation::new(&cluster, api).await;
        vms::a_guest_outlives_every_part_of_ours(&ferrovirt).await;
        vms::a_guest_outlives_the_api_server(&ferrovirt, Duration::from_secs(20)).await;
        vms::guests_outlive_random_kills(&ferrovirt, 10).await;
    });
    cluster.stop();
}

#[test]
fn hands_reach_machines_on_a_cluster() {
    let cluster = Cluster::start("hands", 1);
    cluster.run(async |api| {
        let ferrovirt = vms::Installation::new(&cluster, api).await;
        hands::the_api_is_discovered(&ferrovirt).await;
        tokio::join!(
            hands::each_verb_answers(api),
            hands::each_verb_answers_virtctl(&ferrovirt),
            hands::a_viewer_only_looks(&ferrovirt),
            hands::everything_reaches_debian_unharmed(&ferrovirt),
        );
        hands::streams_cost_little(&ferrovirt).await;
    });
    cluster.stop();
}

#[test]
#[ignore = "measures what only optimised programs on an idle machine show"]
fn ports_are_half_as_fast_as_without() {
    let cluster = Cluster::start("ports", 1);
    cluster.run(async |api| {
        let ferrovirt = vms::Installation::new(&cluster, api).await;
        hands::a_port_is_half_as_fast_as_without(&ferrovirt).await;
    });
    cluster.stop();
}

#[test]
#[ignore = "compiles KubeVirt's client"]
fn kubevirts_own_client_works() {
    let cluster = Cluster::start("kubevirts", 1);
    cluster.run(async |api| {
        let ferrovirt = vms::Installation::new(&cluster, api).await;
        hands::kubevirts_own_client_works(&ferrovirt).await;
    });
    cluster.stop();
}

#[test]
#[ignore = "takes half an hour"]
fn machines_outlive_two_hundred_kills() {
    let cluster = Cluster::start("soak", 2);
    cluster.run(async |api| {
        let ferrovirt = vms::Installation::new(&cluster, api).await;
        vms::a_guest_outlives_the_api_server(&ferrovirt, Duration::from_secs(120)).await;
        vms::guests_outlive_random_kills(&ferrovirt, 200).await;
    });
    cluster.stop();
}

#[test]
#[ignore = "takes two minutes"]
fn a_thousand_instances_cost_what_a_hundred_do() {
    let Some(cluster) = Cluster::start_own("scale", 1) else {
        return;
    };
    cluster.run(async |api| {
        let ferrovirt = vms::Installation::new(&cluster, api).await;
        vms::a_thousand_instances_cost_what_a_hundred_do(&ferrovirt).await;
    });
    cluster.stop();
}

#[test]
fn examples_run_on_either_network() {
    for network in ["bridge", "ptp"] {
        let cluster = Cluster::start_with(network, "examples", 1);
        cluster.run(async |api| {
            let ferrovirt = vms::Installation::new(&cluster, api).await;
            vms::each_example_runs(&ferrovirt).await;
        });
        cluster.stop();
    }
}
