//! `kubectl delete -k deploy`, with machines running.

use std::time::{Duration, Instant};

use super::guest::{Guest, mini};
use super::install::Installation;
use crate::api::eventually;

/// How long it may take: machines that do not end are waited for no longer than 45 s, and
/// Kubernetes has much to take away.
const WHOLE: Duration = Duration::from_secs(120);

pub(crate) async fn deletion_leaves_nothing(ferrovirt: Installation<'_>) {
    let api = ferrovirt.api;
    let namespace = &api.namespace("uninstalled").await;
    let machine = Guest::machine(api, namespace, "machine", "Always", mini()).await;
    let instance = Guest::instance(api, namespace, "instance", mini()).await;
    machine.answers().await;
    instance.answers().await;
    let began = Instant::now();
    ferrovirt.uninstall();
    let took = began.elapsed();
    println!("uninstalled in {took:?}");
    assert!(took < WHOLE, "{took:?}");
    for (version, kind) in [
        ("v1", "Namespace"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ("rbac.authorization.k8s.io/v1", "ClusterRole"),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
        (
            "admissionregistration.k8s.io/v1",
            "MutatingWebhookConfiguration",
        ),
        (
            "admissionregistration.k8s.io/v1",
            "ValidatingWebhookConfiguration",
        ),
        (
            "admissionregistration.k8s.io/v1",
            "ValidatingAdmissionPolicy",
        ),
    ] {
        // The garbage collector follows a moment later.
        eventually(&format!("no {kind} of ours is left"), async || {
            let objects = api.list(version, kind).await.ok()?;
            let names = objects
                .iter()
                .filter_map(|object| object.metadata.name.as_deref());
            let ours = |name: &str| {
                name.starts_with("ferrovirt")
                    || name.contains("kubevirt.io")
                    || name == "virt-controller"
            };
            (!names.into_iter().any(ours)).then_some(())
        })
        .await;
    }
    machine.no_pod().await;
    instance.no_pod().await;
}
