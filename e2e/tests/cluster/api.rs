//! A cluster's API, as the tests use it.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube_client::api::{
    Api as Typed, AttachParams, DeleteParams, ListParams, LogParams, Patch, PatchParams,
    ValidationDirective,
};
use kube_client::config::AuthInfo;
use kube_client::core::{ApiResource, DynamicObject, GroupVersionKind, TypeMeta};
use kube_client::{Client, Config, Error};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long a step may take on a machine that has other work, such as guests on emulated processors.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);

/// busybox, under the name that a user would write.
pub(crate) const BUSYBOX: &str = "busybox";
/// `e2e/cluster/probe`.
pub(crate) const PROBE: &str = "registry:5000/ferrovirt/probe:devel";

/// A client.
pub(crate) struct Api {
    client: Client,
    config: Config,
    /// In the names of everything that is made, so that one cluster serves one test after another.
    run: String,
}

impl Api {
    pub(crate) fn new(config: Config) -> Self {
        let client = Client::try_from(config.clone()).expect("a client can be made");
        let run = format!("{:x}", std::process::id());
        Self {
            client,
            config,
            run,
        }
    }

    /// A client that shows each answer as it is, where others try again on some.
    pub(crate) fn client(&self) -> Client {
        let mut config = self.config.clone();
        config.default_retry = false;
        Client::try_from(config).expect("a client can be made")
    }

    /// A name of this run's own, for objects without a namespace.
    pub(crate) fn name(&self, base: &str) -> String {
        format!("{base}-{}", self.run)
    }

    /// A new namespace in which pods may do everything.
    pub(crate) async fn namespace(&self, base: &str) -> String {
        let name = self.name(base);
        let privileged = json!({"pod-security.kubernetes.io/enforce": "privileged"});
        self.apply(json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": privileged},
        }))
        .await;
        // The account that pods run as follows a moment later.
        eventually("the namespace's service account", async || {
            let account = self.get("v1", "ServiceAccount", Some(&name), "default");
            account.await.ok()
        })
        .await;
        name
    }

    /// Applies an object.
    ///
    /// # Panics
    /// Where the API server refuses it.
    pub(crate) async fn apply(&self, object: Value) -> DynamicObject {
        let what = format!("{} {}", object["kind"], object["metadata"]["name"]);
        let applied = self.try_apply(object).await;
        applied.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// Applies an object that may be refused.
    pub(crate) async fn try_apply(&self, object: Value) -> Result<DynamicObject, Error> {
        self.apply_with(object, ValidationDirective::Warn).await
    }

    /// Applies an object; `unknown` is what the API server does about fields that it does not know.
    pub(crate) async fn apply_with(
        &self,
        object: Value,
        unknown: ValidationDirective,
    ) -> Result<DynamicObject, Error> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = text(&object["metadata"]["name"]);
        let namespace = object["metadata"]["namespace"].as_str();
        let typed = self.dynamic(
            &text(&object["apiVersion"]),
            &text(&object["kind"]),
            namespace,
        );
        let params = PatchParams {
            field_validation: Some(unknown),
            ..PatchParams::apply("e2e").force()
        };
        typed.patch(&name, &params, &Patch::Apply(&object)).await
    }

    /// Merges into an object.
    pub(crate) async fn patch(
        &self,
        version: &str,
        kind: &str,
        namespace: Option<&str>,
        name: &str,
        patch: &Value,
    ) -> Result<DynamicObject, Error> {
        let typed = self.dynamic(version, kind, namespace);
        let params = PatchParams::default();
        typed.patch(name, &params, &Patch::Merge(patch)).await
    }

    /// Merges into an object's status.
    pub(crate) async fn patch_status(
        &self,
        version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<DynamicObject, Error> {
        let typed = self.dynamic(version, kind, Some(namespace));
        let params = PatchParams::default();
        typed
            .patch_status(name, &params, &Patch::Merge(patch))
            .await
    }

    /// The same API, as the owner of a token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        let mut config = self.config.clone();
        config.auth_info = AuthInfo {
            token: Some(token.to_owned().into()),
            ..AuthInfo::default()
        };
        let client = Client::try_from(config.clone()).expect("a client can be made");
        Self {
            client,
            config,
            run: self.run.clone(),
        }
    }

    /// Reads an object.
    pub(crate) async fn get(
        &self,
        version: &str,
        kind: &str,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<DynamicObject, Error> {
        self.dynamic(version, kind, namespace).get(name).await
    }

    /// Lists objects that have no namespace.
    pub(crate) async fn list(
        &self,
        version: &str,
        kind: &str,
    ) -> Result<Vec<DynamicObject>, Error> {
        let typed = self.dynamic(version, kind, None);
        Ok(typed.list(&ListParams::default()).await?.items)
    }

    /// Deletes an object; its end is not waited for.
    pub(crate) async fn delete(
        &self,
        version: &str,
        kind: &str,
        namespace: Option<&str>,
        name: &str,
    ) {
        let typed = self.dynamic(version, kind, namespace);
        let deleted = typed.delete(name, &DeleteParams::default()).await;
        deleted.unwrap_or_else(|error| panic!("delete {kind} {name}: {error}"));
    }

    /// Objects of a kind.
    pub(crate) fn dynamic(
        &self,
        version: &str,
        kind: &str,
        namespace: Option<&str>,
    ) -> Typed<DynamicObject> {
        let types = TypeMeta {
            api_version: version.to_owned(),
            kind: kind.to_owned(),
        };
        let kind = GroupVersionKind::try_from(&types).expect("the test's versions are well-formed");
        let resource = ApiResource::from_gvk(&kind);
        match namespace {
            Some(namespace) => Typed::namespaced_with(self.client.clone(), namespace, &resource),
            None => Typed::all_with(self.client.clone(), &resource),
        }
    }

    /// Evicts a pod, as `kubectl drain` does.
    pub(crate) async fn evict(&self, namespace: &str, pod: &str) {
        let evicted = self.pods(namespace).evict(pod, &Default::default()).await;
        evicted.unwrap_or_else(|error| panic!("evict {pod}: {error}"));
    }

    /// Asks a machine to start or to stop, as KubeVirt's API does it.
    pub(crate) async fn request_state(&self, namespace: &str, name: &str, requests: Value) {
        let patch = json!({"status": {"stateChangeRequests": requests}});
        let patched =
            self.patch_status("kubevirt.io/v1", "VirtualMachine", namespace, name, &patch);
        let patched = patched.await;
        patched.unwrap_or_else(|error| panic!("{name}: {requests}: {error}"));
    }

    /// The events of a namespace.
    pub(crate) async fn events(&self, namespace: &str) -> Vec<Value> {
        let typed = self.dynamic("events.k8s.io/v1", "Event", Some(namespace));
        let events = typed.list(&ListParams::default()).await;
        let events = events.expect("events can be listed").items.into_iter();
        events
            .filter_map(|event| serde_json::to_value(event).ok())
            .collect()
    }

    /// The names of the nodes that are ready.
    pub(crate) async fn nodes(&self) -> Vec<String> {
        let nodes: Typed<Node> = Typed::all(self.client.clone());
        let nodes = nodes.list(&ListParams::default()).await;
        let nodes = nodes.expect("nodes can be listed").items.into_iter();
        nodes
            .filter(ready_node)
            .filter_map(|node| node.metadata.name)
            .collect()
    }

    /// Makes a pod and waits until it is ready.
    pub(crate) async fn run_pod(&self, namespace: &str, mut pod: Value) -> Pod {
        pod["metadata"]["namespace"] = json!(namespace);
        let name = pod["metadata"]["name"].as_str().map(str::to_owned);
        let name = name.expect("a pod has a name");
        self.apply(pod).await;
        self.wait_pod(namespace, &name, "ready", ready_pod).await
    }

    /// Waits for what `check` wants of a pod.
    pub(crate) async fn wait_pod(
        &self,
        namespace: &str,
        name: &str,
        what: &str,
        check: impl Fn(&Pod) -> bool,
    ) -> Pod {
        let mut last = None;
        let until = Instant::now() + LIMIT;
        while Instant::now() < until {
            last = self.pods(namespace).get(name).await.ok();
            if let Some(pod) = last.take_if(|pod| check(pod)) {
                return pod;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let status = last.and_then(|pod| pod.status);
        panic!("pod {namespace}/{name} is not {what} within {LIMIT:?}: {status:#?}");
    }

    /// Deletes a pod and waits until it is gone.
    pub(crate) async fn remove_pod(&self, namespace: &str, name: &str) {
        self.delete("v1", "Pod", Some(namespace), name).await;
        eventually("the pod is gone", async || {
            match self.pods(namespace).get_opt(name).await {
                Ok(None) => Some(()),
                _ => None,
            }
        })
        .await;
    }

    pub(crate) fn pods(&self, namespace: &str) -> Typed<Pod> {
        Typed::namespaced(self.client.clone(), namespace)
    }

    /// What a pod has printed.
    pub(crate) async fn logs(&self, namespace: &str, pod: &str) -> String {
        let logs = self.pods(namespace).logs(pod, &LogParams::default()).await;
        logs.unwrap_or_else(|error| panic!("logs of {pod}: {error}"))
    }

    /// What one container of a pod has printed.
    pub(crate) async fn container_logs(&self, namespace: &str, pod: &str, name: &str) -> String {
        let params = LogParams {
            container: Some(name.to_owned()),
            ..LogParams::default()
        };
        let logs = self.pods(namespace).logs(pod, &params).await;
        logs.unwrap_or_else(|error| panic!("logs of {pod}, {name}: {error}"))
    }

    /// What a shell script prints that runs in a pod.
    ///
    /// # Panics
    /// Where it fails.
    pub(crate) async fn shell(&self, namespace: &str, pod: &str, script: &str) -> String {
        let output = self.try_shell(namespace, pod, script).await;
        output.unwrap_or_else(|error| panic!("{pod}: {script}: {error}"))
    }

    /// The same, where it may fail.
    pub(crate) async fn try_shell(
        &self,
        namespace: &str,
        pod: &str,
        script: &str,
    ) -> Result<String, String> {
        let done = tokio::time::timeout(LIMIT, self.execute(namespace, pod, script));
        done.await.unwrap_or_else(|late| Err(late.to_string()))
    }

    /// Runs a shell script in a pod that reads `input`.
    ///
    /// # Panics
    /// Where it fails.
    pub(crate) async fn feed(&self, namespace: &str, pod: &str, script: &str, input: &[u8]) {
        let params = AttachParams::default().stdin(true).stdout(false);
        let pods = self.pods(namespace);
        let done = async {
            let mut process = pods.exec(pod, ["sh", "-c", script], &params).await?;
            let status = process.take_status();
            let mut stdin = process.stdin().expect("it was asked for");
            stdin.write_all(input).await.map_err(Error::ReadEvents)?;
            // The script sees the end of its input.
            stdin.shutdown().await.map_err(Error::ReadEvents)?;
            drop(stdin);
            Ok::<_, Error>(match status {
                Some(status) => status.await,
                None => None,
            })
        };
        let done = tokio::time::timeout(LIMIT, done).await;
        let status = done.expect("the script ends").expect("it can be fed");
        let status = status.and_then(|status| status.status);
        assert_eq!(status.as_deref(), Some("Success"), "{pod}: {script}");
    }

    async fn execute(&self, namespace: &str, pod: &str, script: &str) -> Result<String, String> {
        let params = AttachParams::default().stdin(false);
        let pods = self.pods(namespace);
        let process = pods.exec(pod, ["sh", "-c", script], &params).await;
        let mut process = process.map_err(|error| error.to_string())?;
        let (stdout, stderr) = (process.stdout(), process.stderr());
        let status = process.take_status();
        let (stdout, stderr) = tokio::join!(read(stdout), read(stderr));
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        match status.and_then(|status| status.status).as_deref() {
            Some("Success") => Ok(stdout),
            other => Err(format!("{other:?}: {stdout}{stderr}")),
        }
    }
}

async fn read(stream: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let mut text = String::new();
    if let Some(mut stream) = stream {
        // What arrived before the connection ended is still worth showing.
        let _ = stream.read_to_string(&mut text).await;
    }
    text
}

fn ready_node(node: &Node) -> bool {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    ready.any(|condition| condition.status == "True")
}

pub(crate) fn ready_pod(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    ready.any(|condition| condition.status == "True")
}

/// A pod with one container, on a node where one is named.
pub(crate) fn pod(name: &str, node: Option<&str>, container: Value) -> Value {
    let mut container = container;
    container["name"] = json!("main");
    let selector = node.map(|node| json!({"kubernetes.io/hostname": node}));
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 0, "nodeSelector": selector, "containers": [container]},
    })
}

/// A pod that does nothing.
pub(crate) fn sleeper(name: &str, node: Option<&str>) -> Value {
    let container = json!({"image": BUSYBOX, "command": ["sleep", "infinity"]});
    pod(name, node, container)
}

/// A pod that may do to its node what it likes.
pub(crate) fn on_the_node(name: &str, node: &str) -> Value {
    let mut pod = sleeper(name, Some(node));
    pod["spec"]["hostPID"] = json!(true);
    pod["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    pod["spec"]["containers"][0]["volumeMounts"] = json!([
        {"name": "dev", "mountPath": "/dev"},
        {"name": "var", "mountPath": "/node"},
    ]);
    pod["spec"]["volumes"] = json!([
        {"name": "dev", "hostPath": {"path": "/dev"}},
        {"name": "var", "hostPath": {"path": "/var/lib/ferrovirt-e2e", "type": "DirectoryOrCreate"}},
    ]);
    pod
}

/// Waits until `check` gives a value.
///
/// # Panics
/// With `what`, when [`LIMIT`] has passed.
pub(crate) async fn eventually<T: Debug>(
    what: &str,
    mut check: impl AsyncFnMut() -> Option<T>,
) -> T {
    let until = Instant::now() + LIMIT;
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(Instant::now() < until, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
