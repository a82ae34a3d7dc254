//! Virtual machines in a cluster: `deploy/` is applied, machines run, `deploy/` is deleted.

mod admission;
mod crash;
mod ends;
mod examples;
pub(crate) mod guest;
mod hindrances;
pub(crate) mod install;
mod nodes;
mod scale;
mod security;
mod strategies;
mod uninstall;
mod writes;

pub(crate) use admission::a_faulty_manifest_is_refused_by_its_field;
pub(crate) use crash::{
    a_guest_outlives_every_part_of_ours, a_guest_outlives_the_api_server,
    guests_outlive_random_kills,
};
pub(crate) use ends::each_end_is_told_as_it_was;
pub(crate) use examples::each_example_runs;
pub(crate) use hindrances::what_hinders_a_start_is_told;
pub(crate) use install::Installation;
pub(crate) use nodes::{a_dead_nodes_machine_waits_for_certainty, a_drained_node_is_left};
pub(crate) use scale::a_thousand_instances_cost_what_a_hundred_do;
pub(crate) use security::{
    a_launcher_holds_nothing, a_lying_launcher_gains_nothing,
    a_stolen_token_is_good_for_its_node_only, accounts_can_do_what_is_written,
};
pub(crate) use strategies::each_run_strategy_does_what_it_says;
pub(crate) use uninstall::deletion_leaves_nothing;
pub(crate) use writes::a_start_takes_few_writes;
