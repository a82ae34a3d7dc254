//! Ferrovirt on a cluster, by the commands of the README.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use e2e::repository;
use http::Request;
use kube_client::api::{ListParams, Patch, PatchParams};
use kube_client::core::DynamicObject;
use serde_json::{Value, json};

use super::guest::mini;
use crate::api::{Api, eventually};
use crate::cluster::{self, Cluster};

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
        installation
            .configure(json!({"developerConfiguration": {"useEmulation": true}}))
            .await;
        installation.available();
        installation.ready().await;
        installation
    }

    /// Waits as KubeVirt's instructions say.
    fn available(&self) {
        let wait = ["wait", "kubevirt/kubevirt", "-n", NAMESPACE];
        let condition = ["--for=condition=Available", "--timeout=300s"];
        self.kubectl(&[&wait[..], &condition].concat());
    }

    /// Waits until the controllers and every node's handler are ready, and are known to be by whom it
    /// concerns: what nodes offer is told, and the API server reaches the controllers, a moment later.
    pub(crate) async fn ready(&self) {
        eventually("ferrovirt is ready", async || {
            let deployment = self.part("Deployment", "virt-controller").await?;
            let handlers = self.part("DaemonSet", "virt-handler").await?;
            let number = |object: &Value, field: &str| object["status"][field].as_u64();
            let controllers = number(&deployment, "readyReplicas")?;
            let ready = number(&handlers, "numberReady")?;
            let wanted = deployment["spec"]["replicas"].as_u64()?;
            let all = number(&handlers, "desiredNumberScheduled").filter(|all| *all > 0)?;
            let nodes = self.api.list("v1", "Node").await.ok()?;
            let offering = nodes.iter().filter(|node| offers(node)).count() as u64;
            let ready = controllers == wanted && ready == all && offering == all;
            (ready && self.is_reached().await).then_some(())
        })
        .await;
    }

    /// Whether the API server reaches the webhooks, and both versions of the subresource API.
    async fn is_reached(&self) -> bool {
        let machine = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
            "metadata": {"name": "probe", "namespace": NAMESPACE},
            "spec": {"runStrategy": "Halted", "template": {"spec": mini()}},
        });
        let machines = self
            .api
            .dynamic("kubevirt.io/v1", "VirtualMachine", Some(NAMESPACE));
        let params = PatchParams::apply("e2e").dry_run();
        let machine = Patch::Apply(machine);
        let checked = machines.patch("probe", &params, &machine).await;
        let client = self.api.client();
        let answers = ["v1", "v1alpha3"].map(async |version| {
            let path = format!("/apis/subresources.kubevirt.io/{version}/version");
            let request = Request::get(path).body(vec![]).expect("it is a path");
            client.request_text(request).await.is_ok()
        });
        let answers = futures::future::join_all(answers).await;
        checked.is_ok() && answers.into_iter().all(|answers| answers)
    }

    /// The ids of the containers of these programs, where they run as pods of ours.
    pub(crate) async fn containers(&self, programs: &[&str]) -> BTreeSet<String> {
        let programs = programs.join(", ");
        let params =
            ListParams::default().labels(&format!("app.kubernetes.io/name in ({programs})"));
        let pods = self.api.pods(NAMESPACE).list(&params).await;
        let pods = pods.expect("pods can be listed").items.into_iter();
        pods.filter_map(|pod| pod.status?.container_statuses)
            .flatten()
            .filter_map(|status| status.container_id)
            .collect()
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
        let params = ListParams::default()
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
        let printed = self.try_kubectl(arguments);
        printed.unwrap_or_else(|errors| panic!("kubectl {arguments:?}: {errors}"))
    }

    /// The same, where it may fail: what it printed, or its errors.
    pub(crate) fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command: Command = self.cluster.kubectl();
        let output = command.args(arguments).output().expect("kubectl starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }
}

/// Whether launchers may be put on a node, and find there what its handler gives them.
fn offers(node: &DynamicObject) -> bool {
    let labels = node.metadata.labels.iter().flatten();
    let mut said = labels.filter(|(name, _)| *name == "kubevirt.io/schedulable");
    let devices = &node.data["status"]["allocatable"]["devices.kubevirt.io/tun"];
    said.any(|(_, said)| said == "true") && devices.as_str().is_some_and(|count| count != "0")
}

/// The one too that the controller makes launchers of, which is a variable's value.
#[test]
fn an_overlay_moves_every_image() {
    let overlay = tempfile::tempdir().expect("a directory can be made");
    let deploy = repository().join("deploy").canonicalize();
    let deploy = deploy.expect("it is there");
    // Kustomize takes no absolute paths.
    symlink(deploy, overlay.path().join("deploy")).expect("it is a new directory");
    let moved = |program| {
        json!({
            "name": format!("ferrovirt/{program}"),
            "newName": format!("registry.test/{program}"), "newTag": "other",
        })
    };
    let kustomization = json!({
        "resources": ["deploy"],
        "images": [moved("virt-controller"), moved("virt-launcher")],
    });
    let file = overlay.path().join("kustomization.yaml");
    fs::write(file, kustomization.to_string()).expect("it is a new directory");
    let mut kubectl = Command::new(cluster::kubectl());
    let output = kubectl.arg("kustomize").arg(overlay.path()).output();
    let output = output.expect("kubectl starts");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("YAML is text");
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    assert!(!text.contains("ferrovirt/virt-"), "{text}");
    let count = |line| lines.iter().filter(|found| **found == line).count();
    assert_eq!(count("image: registry.test/virt-controller:other"), 1);
    assert_eq!(count("image: registry.test/virt-launcher:other"), 2);
    let launchers = [
        "- name: LAUNCHER_IMAGE",
        "value: registry.test/virt-launcher:other",
    ];
    assert!(lines.windows(2).any(|lines| lines == launchers), "{text}");
}
