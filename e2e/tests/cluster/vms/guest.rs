//! One machine under test: its objects, its guest's answers.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use kube_client::Error;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::api::{Api, LIMIT, eventually};

/// How long a guest with a whole operating system may take to boot beside others, each on an emulated
/// processor.
const BOOT: Duration = Duration::from_secs(900);

/// How long a guest may take to take a connection, and for an answer, before it is asked again: one
/// that boots hears nothing.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(20);

/// The `mini` guest: boots in seconds; echoes on port 7, gives a shell on 23, serves HTTP on 80.
const MINI: &str = "localhost/ferrovirt/mini:devel";

/// The specification of an instance that boots the `mini` guest.
pub(crate) fn mini() -> Value {
    json!({
        "domain": {
            "devices": {"disks": [{"name": "root", "disk": {"bus": "virtio"}}]},
            "memory": {"guest": "128Mi"},
        },
        "terminationGracePeriodSeconds": 10,
        "volumes": [{"name": "root", "containerDisk": {"image": MINI}}],
    })
}

/// A VirtualMachineInstance, by namespace and name.
pub(crate) struct Guest<'a> {
    pub(crate) api: &'a Api,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

impl<'a> Guest<'a> {
    /// Applies an instance.
    pub(crate) async fn instance(
        api: &'a Api,
        namespace: &'a str,
        name: &'a str,
        spec: Value,
    ) -> Self {
        let object = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
            "spec": spec,
        });
        api.apply(object).await;
        Self {
            api,
            namespace,
            name,
        }
    }

    /// Applies a machine.
    pub(crate) async fn machine(
        api: &'a Api,
        namespace: &'a str,
        name: &'a str,
        strategy: &str,
        spec: Value,
    ) -> Self {
        let guest = Self {
            api,
            namespace,
            name,
        };
        guest.apply_machine(strategy, spec).await;
        guest
    }

    /// Applies the machine again, with another strategy or template.
    pub(crate) async fn apply_machine(&self, strategy: &str, spec: Value) {
        let (name, namespace) = (self.name, self.namespace);
        let object = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "runStrategy": strategy,
                "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
            },
        });
        self.api.apply(object).await;
    }

    /// The instance, where there is one.
    pub(crate) async fn vmi(&self) -> Option<Value> {
        eventually("what became of the instance", async || {
            self.object("VirtualMachineInstance").await.ok()
        })
        .await
    }

    async fn object(&self, kind: &str) -> Result<Option<Value>, Error> {
        let objects = self
            .api
            .dynamic("kubevirt.io/v1", kind, Some(self.namespace));
        let object = objects.get_opt(self.name).await?;
        Ok(object.map(|object| serde_json::to_value(object).expect("an object is JSON")))
    }

    /// Waits for what `check` finds in the machine.
    pub(crate) async fn wait_vm<T: Debug>(
        &self,
        what: &str,
        check: impl Fn(&Value) -> Option<T>,
    ) -> T {
        self.wait("VirtualMachine", LIMIT, what, check).await
    }

    /// Waits for what `check` finds in the instance.
    pub(crate) async fn wait_vmi<T: Debug>(
        &self,
        what: &str,
        check: impl Fn(&Value) -> Option<T>,
    ) -> T {
        self.wait("VirtualMachineInstance", LIMIT, what, check)
            .await
    }

    /// Waits until the guest has booted so far that its agent answers.
    pub(crate) async fn agent(&self) {
        let connected = |vmi: &Value| holds(vmi, "AgentConnected").then_some(());
        self.wait("VirtualMachineInstance", BOOT, "in touch", connected)
            .await;
    }

    async fn wait<T: Debug>(
        &self,
        kind: &str,
        limit: Duration,
        what: &str,
        check: impl Fn(&Value) -> Option<T>,
    ) -> T {
        let until = Instant::now() + limit;
        loop {
            let object = self.object(kind).await.ok().flatten().unwrap_or_default();
            if let Some(found) = check(&object) {
                return found;
            }
            assert!(
                Instant::now() < until,
                "{}/{}: {kind} not {what} within {limit:?}: {:#}",
                self.namespace,
                self.name,
                object["status"]
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the machine's status in one word is `status`.
    pub(crate) async fn printable(&self, status: &str) {
        self.wait_vm(status, |vm| {
            (vm["status"]["printableStatus"] == status).then_some(())
        })
        .await;
    }

    /// Waits until the instance is in `phase`; gives it.
    pub(crate) async fn phase(&self, phase: &str) -> Value {
        self.wait_vmi(phase, |vmi| {
            (vmi["status"]["phase"] == phase).then(|| vmi.clone())
        })
        .await
    }

    /// Waits until the guest answers at its address, by everything that it serves; gives the address.
    pub(crate) async fn answers(&self) -> String {
        self.phase("Running").await;
        let address = self
            .wait_vmi("addressed", |vmi| {
                let address = vmi["status"]["interfaces"][0]["ipAddress"].as_str()?;
                Some(address.to_owned())
            })
            .await;
        let what = format!("{} answers at {address}", self.name);
        eventually(&what, async || echo(&address).await).await;
        for port in [23, 80] {
            self.listens(&address, port).await;
        }
        address
    }

    /// Waits until somebody in the guest listens at a port.
    pub(crate) async fn listens(&self, address: &str, port: u16) {
        let what = format!("{} listens at {address}, port {port}", self.name);
        eventually(&what, async || connect(address, port).await).await;
    }

    /// Has the guest run a line of shell; its end is not waited for.
    pub(crate) async fn shell(&self, address: &str, line: &str) {
        // It may end the guest: so it runs once it is known here that it will, when this connection
        // is gone, which the shell outlives.
        let line = format!(
            "set +m; trap '' HUP; echo be\"\"gun; while read -r it; do :; done; {line}\r\n"
        );
        let what = format!("a shell of {}", self.name);
        eventually(&what, async || {
            let begun = async {
                let mut stream = connect(address, 23).await?;
                stream.write_all(line.as_bytes()).await.ok()?;
                let mut answer = vec![];
                while !String::from_utf8_lossy(&answer).contains("begun\r\n") {
                    let count = stream.read_buf(&mut answer).await.ok()?;
                    (count > 0).then_some(())?;
                }
                Some(())
            };
            // Whoever gives up has already said the line.
            timeout(LIMIT, begun).await.ok()?
        })
        .await;
    }

    /// What the guest prints when it runs a line of shell; none where it cannot be reached.
    pub(crate) async fn ask(&self, address: &str, line: &str) -> Option<String> {
        let answer = async {
            let mut stream = connect(address, 23).await?;
            let line = format!("{line}; exit\r\n");
            stream.write_all(line.as_bytes()).await.ok()?;
            let mut answer = vec![];
            stream.read_to_end(&mut answer).await.ok()?;
            Some(String::from_utf8_lossy(&answer).into_owned())
        };
        timeout(ANSWER, answer).await.ok()?
    }

    /// Leaves a mark in the guest that a reboot takes away.
    pub(crate) async fn mark(&self, address: &str) {
        self.says(address, "touch /tmp/mark && echo mar\"\"ked", "marked")
            .await;
    }

    /// Waits until the guest has booted since it was marked, answers, and hears its power button.
    pub(crate) async fn rebooted(&self, address: &str) {
        let hears = "ls -l /proc/$(pidof acpid)/fd | grep -q /dev/input";
        let fresh = format!("[ ! -e /tmp/mark ] && {hears} && echo fr\"\"esh");
        self.says(address, &fresh, "fresh").await;
    }

    /// Asks the guest until it prints this line.
    async fn says(&self, address: &str, line: &str, wanted: &str) {
        let what = format!("{}: {line}", self.name);
        let wanted = format!("{wanted}\r\n");
        eventually(&what, async || {
            let said = self.ask(address, line).await?;
            said.contains(&wanted).then_some(())
        })
        .await;
    }

    /// Kills its QEMU, from a pod that sees the node's processes.
    pub(crate) async fn kill_qemu(&self, from: &str) {
        let script = format!("{}; test -n \"$killed\"", self.end_of_qemu());
        self.api.shell(self.namespace, from, &script).await;
    }

    /// A script that kills its QEMU where that is on the node, and says so in `killed`.
    pub(crate) fn end_of_qemu(&self) -> String {
        let name = format!("guest={}_{},", self.namespace, self.name);
        format!(
            "for process in /proc/[0-9]*; do
                 if tr '\\0' ' ' <$process/cmdline 2>/dev/null | grep -q '^[^ ]*qemu-system.*{name}'; then
                     killed=${{process#/proc/}}
                     kill -9 $killed
                 fi
             done"
        )
    }

    /// Deletes its object, and waits until that is gone.
    pub(crate) async fn delete(&self, kind: &str) {
        let (api, version) = (self.api, "kubevirt.io/v1");
        api.delete(version, kind, Some(self.namespace), self.name)
            .await;
        self.gone(kind).await;
    }

    /// Waits until its object is gone.
    pub(crate) async fn gone(&self, kind: &str) {
        eventually("it is gone", async || {
            let gone = matches!(self.object(kind).await, Ok(None));
            gone.then_some(())
        })
        .await;
    }

    /// Waits until it has no pod.
    pub(crate) async fn no_pod(&self) {
        eventually("no pod is left", async || {
            self.pods().await.is_empty().then_some(())
        })
        .await;
    }

    /// The names of the machine's pods.
    pub(crate) async fn pods(&self) -> Vec<String> {
        let pods = self.api.pods(self.namespace);
        let params = kube_client::api::ListParams::default()
            .labels(&format!("vm.kubevirt.io/name={}", self.name));
        let pods = pods.list(&params).await.expect("pods can be listed");
        pods.items
            .into_iter()
            .filter_map(|pod| pod.metadata.name)
            .collect()
    }

    /// Waits until each of these was told of its object of that kind: an event's type and reason, such
    /// as `Warning Stopped`, or the one or the other, as `Warning SyncFailed|Warning Stopped`. Gives
    /// all that was told.
    pub(crate) async fn told(&self, kind: &str, wanted: &[&str]) -> Vec<String> {
        let until = Instant::now() + LIMIT;
        loop {
            let told = self.events(kind).await;
            let is_told = |wanted: &str| told.iter().any(|event| event == wanted);
            let is_missing = |wanted: &&&str| !wanted.split('|').any(is_told);
            let Some(missing) = wanted.iter().find(is_missing) else {
                return told;
            };
            assert!(
                Instant::now() < until,
                "{}/{}: {kind}: no {missing} within {LIMIT:?}: {told:?}",
                self.namespace,
                self.name
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Types and reasons of the events of its object of that kind.
    async fn events(&self, kind: &str) -> Vec<String> {
        let events = self.api.events(self.namespace).await;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of_us = |event: &&Value| {
            let about = &event["regarding"];
            about["name"] == self.name && about["kind"] == kind
        };
        let events = events.iter().filter(of_us);
        events
            .map(|event| format!("{} {}", text(&event["type"]), text(&event["reason"])))
            .collect()
    }
}

/// The kinds that events are about.
pub(crate) const VM: &str = "VirtualMachine";
pub(crate) const VMI: &str = "VirtualMachineInstance";

/// What is told of an instance whose pod is taken away.
pub(crate) const TAKEN: [&str; 2] = ["Normal ShuttingDown", "Warning Stopped"];

async fn connect(address: &str, port: u16) -> Option<TcpStream> {
    let connected = timeout(CONNECT, TcpStream::connect((address, port)));
    connected.await.ok()?.ok()
}

/// One line through the guest's echo server.
pub(crate) async fn echo(address: &str) -> Option<()> {
    let line = async {
        let mut stream = connect(address, 7).await?;
        stream.write_all(b"hello\n").await.ok()?;
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).await.ok()?;
        (&answer == b"hello\n").then_some(())
    };
    timeout(ANSWER, line).await.ok()?
}

/// The status of a condition, where the object has it.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
}

/// Whether a condition is `True`.
pub(crate) fn holds(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == "True")
}
