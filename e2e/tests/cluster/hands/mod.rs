//! The subresource API on a cluster, by raw calls, by our virtctl and by KubeVirt's.

mod call;
mod debian;
mod forward;
mod kubevirt;
mod memory;
mod raw;
mod security;
mod virtctl;

pub(crate) use debian::everything_reaches_debian_unharmed;
pub(crate) use forward::a_port_is_half_as_fast_as_without;
pub(crate) use kubevirt::kubevirts_own_client_works;
pub(crate) use memory::streams_cost_little;
pub(crate) use raw::{each_verb_answers, the_api_is_discovered};
pub(crate) use security::a_viewer_only_looks;
pub(crate) use virtctl::each_verb_answers_virtctl;
