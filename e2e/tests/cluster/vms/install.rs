//! Ferrovirt on a cluster, by the commands of the README.

use std::process::Command;

use e2e::repository;
use serde_json::{Value, json};

use crate::api::{Api, eventually};
use crate::cluster::Cluster;

/// Where `deploy/` puts everything.
pub(crate) const NAMESPACE: &str = "ferrovirt";

/// Ferrovirt, installed.
pub(crate) struct Installation<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) api: &'a Api,
}

impl<'a> Installation<'a> {
    /// `kubectl apply -k deploy`, for nodes without KVM, and the wait until it is ready.
    pub(crate) async fn new(cluster: &'a Cluster, api: &'a Api) -> Self {
        let installation = Self { cluster, api };
        let deploy = repository().join("deploy");
        installation.kubectl(&["apply", "-k", &deploy.display().to_string()]);
        installation.ready().await;
        installation
            .configure(json!({"developerConfiguration": {"useEmulation": true}}))
            .await;
        installation
    }

    /// Waits until the controller and every node's handler are ready.
    pub(crate) async fn ready(&self) {
        let nodes = self.api.nodes().await.len();
        eventually("ferrovirt is ready", async || {
            let deployment = self.part("Deployment", "virt-controller").await?;
            let handlers = self.part("DaemonSet", "virt-handler").await?;
            let number = |object: &Value, field: &str| object["status"][field].as_u64();
            let controllers = number(&deployment, "readyReplicas")?;
            let ready = number(&handlers, "numberReady")?;
            let wanted = deployment["spec"]["replicas"].as_u64()?;
            (controllers == wanted && ready == nodes as u64).then_some(())
        })
        .await;
    }

    async fn part(&self, kind: &str, name: &str) -> Option<Value> {
        let object = self.api.get("apps/v1", kind, Some(NAMESPACE), name).await;
        Some(object.ok()?.data)
    }

    /// Sets `spec.configuration` of the KubeVirt object.
    pub(crate) async fn configure(&self, configuration: Value) {
        let object = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "KubeVirt",
            "metadata": {"name": "kubevirt", "namespace": NAMESPACE},
            "spec": {"configuration": configuration},
        });
        // The webhook answers a moment after its pods are ready: the Service has to hear of them.
        eventually("the KubeVirt object is accepted", async || {
            self.api.try_apply(object.clone()).await.ok().map(|_| ())
        })
        .await;
    }

    /// The token of the handler on a node, as whoever has taken that node over has it.
    pub(crate) async fn token_of_handler(&self, node: &str) -> String {
        let pods = self.api.pods(NAMESPACE);
        let params = kube_client::api::ListParams::default()
            .labels("app.kubernetes.io/name=virt-handler")
            .fields(&format!("spec.nodeName={node}"));
        let pods = pods.list(&params).await.expect("pods can be listed");
        let pod = pods
            .items
            .into_iter()
            .next()
            .expect("every node has a handler");
        let (name, uid) = (pod.metadata.name, pod.metadata.uid);
        let name = name.expect("every object has a name");
        let uid = uid.expect("every object has a uid");
        let token = self.kubectl(&[
            "create",
            "token",
            "virt-handler",
            "-n",
            NAMESPACE,
            "--bound-object-kind=Pod",
            "--bound-object-name",
            &name,
            "--bound-object-uid",
            &uid,
        ]);
        token.trim().to_owned()
    }

    /// `kubectl delete -k deploy`.
    pub(crate) fn uninstall(self) {
        let deploy = repository().join("deploy").display().to_string();
        self.kubectl(&["delete", "-k", &deploy, "--wait"]);
    }

    /// Runs kubectl; what it printed.
    ///
    /// # Panics
    /// Where it fails.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        let mut command: Command = self.cluster.kubectl();
        let output = command.args(arguments).output().expect("kubectl starts");
        assert!(
            output.status.success(),
            "kubectl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
