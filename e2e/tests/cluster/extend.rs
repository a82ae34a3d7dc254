//! The ways to extend the API that Ferrovirt uses.

use serde_json::{Value, json};

use crate::api::{Api, PROBE, eventually, pod};

pub(crate) async fn a_rule_rejects(api: &Api) {
    let group = "rules.ferrovirt.dev";
    let name = format!("counters.{group}");
    let rule = json!({"rule": "self.most >= self.least", "message": "most is below least"});
    let number = json!({"type": "integer"});
    api.apply(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {
            "group": group, "scope": "Cluster",
            "names": {"kind": "Counter", "plural": "counters", "singular": "counter"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object",
                "properties": {"spec": {
                    "type": "object", "properties": {"least": number, "most": number},
                    "x-kubernetes-validations": [rule],
                }},
            }}}],
        },
    }))
    .await;
    let counter = |least, most| {
        json!({
            "apiVersion": format!("{group}/v1"), "kind": "Counter", "metadata": {"name": "one"},
            "spec": {"least": least, "most": most},
        })
    };
    eventually("the custom resource is served", async || {
        api.try_apply(counter(1, 2)).await.ok()
    })
    .await;
    let refused = api.try_apply(counter(2, 1)).await;
    let refused = refused.expect_err("the rule holds").to_string();
    assert!(refused.contains("most is below least"), "{refused}");
    api.delete(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        None,
        &name,
    )
    .await;
}

pub(crate) async fn a_webhook_refuses_and_an_aggregated_api_answers(api: &Api) {
    let namespace = &api.namespace("extend").await;
    let host = format!("probe.{namespace}.svc");
    let container = json!({"image": PROBE, "command": ["probe", "--https", host], "readinessProbe": {
        "httpGet": {"port": 8443, "scheme": "HTTPS"}, "periodSeconds": 1,
    }});
    api.run_pod(namespace, pod("probe", None, container)).await;
    api.apply(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "probe", "namespace": namespace},
        "spec": {"selector": {"app": "probe"}, "ports": [{"port": 443, "targetPort": 8443}]},
    }))
    .await;
    // `caBundle` is base64 upon the PEM's own.
    let fetch = "wget -qO- http://127.0.0.1:8080/certificate | base64 | tr -d '\\n'";
    let bundle = api.shell(namespace, "probe", fetch).await;
    tokio::join!(
        webhook(api, namespace, &bundle),
        aggregated(api, namespace, &bundle)
    );
}

async fn webhook(api: &Api, namespace: &str, bundle: &str) {
    let name = api.name("probe");
    api.apply(json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [{
            "name": "probe.ferrovirt.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "failurePolicy": "Fail", "matchPolicy": "Equivalent",
            "clientConfig": {
                "service": {"name": "probe", "namespace": namespace, "path": "/validate"}, "caBundle": bundle,
            },
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "rules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"],
                "operations": ["CREATE", "UPDATE"],
            }],
        }],
    }))
    .await;
    let config = |name: &str, annotations: Value| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        })
    };
    eventually("the webhook refuses", async || {
        let refused = api
            .try_apply(config("bad", json!({"refuse": "it says so"})))
            .await;
        let error = refused.err()?.to_string();
        error.contains("it says so").then_some(())
    })
    .await;
    api.apply(config("good", json!({}))).await;
    api.delete(
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        None,
        &name,
    )
    .await;
}

async fn aggregated(api: &Api, namespace: &str, bundle: &str) {
    let name = "v1.probe.ferrovirt.dev";
    api.apply(json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name},
        "spec": {
            "group": "probe.ferrovirt.dev", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 10,
            "service": {"name": "probe", "namespace": namespace}, "caBundle": bundle,
        },
    }))
    .await;
    let greetings = eventually("the aggregated API answers", async || {
        api.list("probe.ferrovirt.dev/v1", "Greeting").await.ok()
    })
    .await;
    // The aggregator tells who asks, by headers that its certificate vouches for.
    let users: Vec<_> = greetings
        .iter()
        .map(|greeting| &greeting.data["user"])
        .collect();
    assert!(
        matches!(users[..], [Value::String(user)] if !user.is_empty()),
        "{users:?}"
    );
    api.delete("apiregistration.k8s.io/v1", "APIService", None, name)
        .await;
}
