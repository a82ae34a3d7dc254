//! Virtual machines in a cluster: `deploy/` is applied, machines run, `deploy/` is deleted.

mod ends;
mod examples;
mod guest;
mod hindrances;
mod install;
mod strategies;

pub(crate) use ends::each_end_is_told_as_it_was;
pub(crate) use examples::each_example_runs;
pub(crate) use hindrances::what_hinders_a_start_is_told;
pub(crate) use install::Installation;
pub(crate) use strategies::each_run_strategy_does_what_it_says;
