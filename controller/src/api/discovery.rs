//! What is served, as clients of the API server discover it.

use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::{ApiError, GROUP, VERSIONS};

/// The calls of a namespace: what they are of, and the verb that RBAC knows them by. What is
/// answered with «not supported yet» is not among them.
const CALLS: [(&str, &str); 19] = [
    ("expand-vm-spec", "update"),
    ("virtualmachineinstances/console", "get"),
    ("virtualmachineinstances/filesystemlist", "get"),
    ("virtualmachineinstances/freeze", "update"),
    ("virtualmachineinstances/guestosinfo", "get"),
    ("virtualmachineinstances/pause", "update"),
    ("virtualmachineinstances/portforward", "get"),
    ("virtualmachineinstances/reset", "update"),
    ("virtualmachineinstances/softreboot", "update"),
    ("virtualmachineinstances/unfreeze", "update"),
    ("virtualmachineinstances/unpause", "update"),
    ("virtualmachineinstances/userlist", "get"),
    ("virtualmachineinstances/vnc", "get"),
    ("virtualmachineinstances/vnc/screenshot", "get"),
    ("virtualmachines/expand-spec", "get"),
    ("virtualmachines/portforward", "get"),
    ("virtualmachines/restart", "update"),
    ("virtualmachines/start", "update"),
    ("virtualmachines/stop", "update"),
];

/// The discovery documents. They name nobody, and the API server asks for them before it sends
/// anything else: they are for everybody.
pub(super) fn routes() -> Router {
    let mut router = Router::new()
        .route("/apis", get(async || Json(groups())))
        .route(&format!("/apis/{GROUP}"), get(async || Json(group())));
    for version in VERSIONS {
        let path = format!("/apis/{GROUP}/{version}");
        router = router.route(&path, get(async || Json(resources(version))));
    }
    router.method_not_allowed_fallback(async || ApiError::method_not_allowed())
}

/// Which release this is, as `k8s.io/apimachinery`'s `version.Info`.
pub(super) async fn version() -> Json<Value> {
    let version = env!("CARGO_PKG_VERSION");
    let (major, rest) = version.split_once('.').unwrap_or((version, ""));
    let minor = rest.split('.').next().unwrap_or_default();
    Json(json!({
        "major": major,
        "minor": minor,
        "gitVersion": format!("v{version}"),
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, ARCHITECTURE),
    }))
}

/// As Go, and so Kubernetes, names it.
const ARCHITECTURE: &str = if cfg!(target_arch = "x86_64") {
    "amd64"
} else {
    std::env::consts::ARCH
};

/// APIGroupList.
fn groups() -> Value {
    json!({"apiVersion": "v1", "kind": "APIGroupList", "groups": [about()]})
}

/// APIGroup.
fn group() -> Value {
    let mut group = about();
    group["apiVersion"] = "v1".into();
    group["kind"] = "APIGroup".into();
    group
}

fn about() -> Value {
    let version =
        |version: &str| json!({"groupVersion": format!("{GROUP}/{version}"), "version": version});
    json!({
        "name": GROUP,
        "versions": VERSIONS.map(version),
        "preferredVersion": version(VERSIONS[0]),
    })
}

/// APIResourceList.
fn resources(version: &str) -> Value {
    let resource = |name: &str, namespaced: bool, verb: &str| {
        json!({
            "name": name,
            "singularName": "",
            "namespaced": namespaced,
            "kind": kind(name),
            "verbs": [verb],
        })
    };
    let calls = CALLS.iter();
    let mut resources: Vec<_> = calls
        .map(|(name, verb)| resource(name, true, verb))
        .collect();
    resources.push(resource("version", false, "get"));
    json!({
        "apiVersion": "v1",
        "kind": "APIResourceList",
        "groupVersion": format!("{GROUP}/{version}"),
        "resources": resources,
    })
}

/// What a call is about.
fn kind(name: &str) -> &'static str {
    match name.split('/').next() {
        Some("virtualmachineinstances") => "VirtualMachineInstance",
        Some("version") => "Version",
        _ => "VirtualMachine",
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Request, header};
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;
    use kube_client::{Client, Config};
    use tokio::sync::watch;

    use super::*;
    use crate::api::{ApiContext, Handlers, Streams, namespaced};
    use crate::server::Readiness;

    #[test]
    fn documents_are_as_clients_read_them() {
        let versions = json!([
            {"groupVersion": "subresources.kubevirt.io/v1", "version": "v1"},
            {"groupVersion": "subresources.kubevirt.io/v1alpha3", "version": "v1alpha3"},
        ]);
        let expected = json!({
            "apiVersion": "v1",
            "kind": "APIGroup",
            "name": "subresources.kubevirt.io",
            "versions": versions,
            "preferredVersion": versions[0],
        });
        assert_eq!(group(), expected);
        let groups = groups();
        assert_eq!(groups["kind"], "APIGroupList");
        assert_eq!(groups["groups"][0]["versions"], versions);

        let list = resources("v1alpha3");
        assert_eq!(list["kind"], "APIResourceList");
        assert_eq!(list["groupVersion"], "subresources.kubevirt.io/v1alpha3");
        let console = json!({
            "name": "virtualmachineinstances/console",
            "singularName": "",
            "namespaced": true,
            "kind": "VirtualMachineInstance",
            "verbs": ["get"],
        });
        assert!(list["resources"].as_array().unwrap().contains(&console));
    }

    #[tokio::test]
    async fn what_is_listed_is_served() {
        let nobody = Config::new("http://127.0.0.1:1".parse().unwrap());
        let client = Client::try_from(nobody).unwrap();
        let context = ApiContext {
            client: client.clone(),
            readiness: watch::channel(Readiness::Ready).1,
            trust: watch::channel(None).1,
            handlers: Handlers {
                client,
                namespace: "ferrovirt".into(),
                tls: watch::channel(None).1,
            },
            streams: Streams::new(watch::channel(false).1),
        };
        let router = TowerToHyperService::new(namespaced().with_state(context));
        for (name, verb) in CALLS {
            let path = match name.split_once('/') {
                Some((of, call @ "portforward")) => format!("/{of}/web/{call}/22"),
                Some((of, call)) => format!("/{of}/web/{call}"),
                None => format!("/{name}"),
            };
            // A method that no call has: who is there says which it has.
            let request = Request::builder().method("TRACE").uri(path);
            let request = request.body(Body::empty()).unwrap();
            let answer = router.call(request).await.unwrap();
            let methods = answer.headers().get(header::ALLOW);
            let methods = methods.map(|methods| methods.to_str().unwrap());
            let expected = match verb {
                "get" => "GET,HEAD",
                _ => "PUT",
            };
            assert_eq!(methods, Some(expected), "{name}");
        }
    }

    #[test]
    fn the_release_is_told() {
        let Json(version) = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(version());
        let told = version["gitVersion"].as_str().unwrap();
        assert_eq!(told, concat!("v", env!("CARGO_PKG_VERSION")));
        assert!(told.starts_with(&format!(
            "v{}.{}.",
            version["major"].as_str().unwrap(),
            version["minor"].as_str().unwrap()
        )));
    }
}
