//! Verbs: calls that are answered once.
//!
//! ```text
//! start, stop, restart ──▶ plan ──▶ one write of the machine ──▶ the controller's reconcilers
//! pause, freeze, guestosinfo, … ──▶ the handler of the instance's node ──▶ its launcher
//! expand-spec ──▶ the machine, as it is
//! ```

mod expand;
mod instance;
mod machine;
mod options;
mod plan;
#[cfg(test)]
mod tests;

use axum::Router;
use axum::routing::{MethodRouter, get, put};
use serde::Deserialize;

use self::instance::{Action, Question};
use super::{ApiContext, ApiError};

pub(super) use self::instance::find;

/// The machine or the instance that a path names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Named {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// What KubeVirt can do with machines and instances, and we cannot.
const LATER: [(&str, &str, &str); 5] = [
    ("virtualmachines", "migrate", "live migration"),
    (
        "virtualmachines",
        "addvolume",
        "adding volumes to a machine",
    ),
    (
        "virtualmachines",
        "removevolume",
        "removing volumes from a machine",
    ),
    (
        "virtualmachineinstances",
        "addvolume",
        "adding volumes to an instance",
    ),
    (
        "virtualmachineinstances",
        "removevolume",
        "removing volumes from an instance",
    ),
];

/// Every verb of a namespace's machines and instances.
pub(super) fn routes() -> Router<ApiContext> {
    let mut routes = Router::new()
        .route(
            &path("virtualmachines", "start"),
            put(|state, path, body| machine::act(options::Start::verb, state, path, body)),
        )
        .route(
            &path("virtualmachines", "stop"),
            put(|state, path, body| machine::act(options::Stop::verb, state, path, body)),
        )
        .route(
            &path("virtualmachines", "restart"),
            put(|state, path, body| machine::act(options::Restart::verb, state, path, body)),
        )
        .route(&path("virtualmachines", "expand-spec"), get(expand::stored))
        .route("/expand-vm-spec", put(expand::given));
    use Action::*;
    for action in [Pause, Unpause, SoftReboot, Reset, Freeze, Unfreeze] {
        routes = routes.route(
            &path("virtualmachineinstances", action.name()),
            does(action),
        );
    }
    use Question::*;
    for question in [GuestOsInfo, UserList, FileSystemList] {
        routes = routes.route(
            &path("virtualmachineinstances", question.name()),
            tells(question),
        );
    }
    for (resource, verb, what) in LATER {
        let refused = move || async move { ApiError::not_supported(what) };
        routes = routes.route(&path(resource, verb), put(refused));
    }
    routes
}

/// Where a subresource is in its namespace.
pub(super) fn path(resource: &str, subresource: &str) -> String {
    format!("/{resource}/{{name}}/{subresource}")
}

fn does(action: Action) -> MethodRouter<ApiContext> {
    put(move |state, path, body| instance::act(action, state, path, body))
}

fn tells(question: Question) -> MethodRouter<ApiContext> {
    get(move |state, path| instance::ask(question, state, path))
}
