//! A pod's network made by real CNI plugins, and a guest behind its tap, each of them one value
//! that cleans up after itself. Needs root; nothing in the host's own namespace is touched.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's tools fail as a test does"
)]

pub(crate) mod guest;
pub(crate) mod serve;
pub(crate) mod server;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The binary under test.
pub(crate) const NETBIND: &str = env!("CARGO_BIN_EXE_netbind");
/// Where Debian's containernetworking-plugins are.
const CNI: &str = "/usr/lib/cni";

/// A network namespace with a name of its own, which ends with its last handle.
#[derive(Clone)]
pub(crate) struct Namespace(Arc<Named>);

struct Named(String);

impl Namespace {
    pub(crate) fn new(label: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("netbind-{}-{count}-{label}", std::process::id());
        success(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Self(Arc::new(Named(name)));
        namespace.ip("link set lo up");
        // A new namespace takes this over from the machine's own.
        namespace.sysctl("ipv4/ip_forward", "0");
        namespace
    }

    pub(crate) fn name(&self) -> &str {
        &self.0.0
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(self.name())
    }

    /// A command to run inside.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg(program);
        command
    }

    /// Runs `ip` inside, with blanks between the arguments.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        success(self.command("ip").args(arguments.split_whitespace()))
    }

    /// Whether an address answers a ping from inside: one of several, as a network may lose one.
    pub(crate) fn reaches(&self, address: &str) -> bool {
        let mut ping = self.command("ping");
        let output = ping.args(["-c1", "-w10", address]).output();
        output.unwrap().status.success()
    }

    /// Writes a setting below /proc/sys/net.
    pub(crate) fn sysctl(&self, name: &str, value: &str) {
        let path = Path::new("/proc/sys/net").join(name);
        self.within(|| std::fs::write(&path, value))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Runs a function on a thread inside.
    pub(crate) fn within<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(File::open(self.path()).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
                run()
            });
            inside.join().unwrap()
        })
    }

    /// Everything of the namespace's network that is a setting and no counter, as one text.
    pub(crate) fn dump(&self) -> String {
        let queries: [&[&str]; 7] = [
            &["ip", "-j", "-d", "link"],
            &["ip", "-j", "addr"],
            &["ip", "-j", "-4", "route", "show", "table", "all"],
            &["ip", "-j", "-6", "route", "show", "table", "all"],
            &["ip", "-j", "neigh", "show", "nud", "permanent"],
            &["bridge", "-j", "fdb"],
            &["nft", "-j", "list", "ruleset"],
        ];
        let mut dump = Vec::new();
        for query in queries {
            let text = success(self.command(query[0]).args(&query[1..]));
            let mut value: Value = if text.trim().is_empty() {
                json!([])
            } else {
                serde_json::from_str(&text).unwrap()
            };
            settle(&mut value);
            // The order of rules matters; of all else the kernel's hash tables decide it.
            if query[0] != "nft" {
                sort(&mut value);
            }
            dump.push(value);
        }
        dump.push(self.within(|| {
            let mut settings = json!({ "ipv4": conf("ipv4"), "ipv6": conf("ipv6") });
            for tables in ["iptables", "ip6tables", "arptables"] {
                let name = format!("bridge-nf-call-{tables}");
                let path = Path::new("/proc/sys/net/bridge").join(&name);
                settings[name] = json!(std::fs::read_to_string(path).unwrap().trim());
            }
            settings
        }));
        serde_json::to_string_pretty(&dump).unwrap()
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.0])
            .status();
    }
}

/// The settings of every link over an address family, in the calling thread's namespace.
fn conf(family: &str) -> Value {
    let mut all = serde_json::Map::new();
    let links = Path::new("/proc/sys/net").join(family).join("conf");
    for link in std::fs::read_dir(links).unwrap() {
        for setting in std::fs::read_dir(link.unwrap().path()).unwrap() {
            let path = setting.unwrap().path();
            // A secret that was never set cannot be read.
            if let Ok(value) = std::fs::read_to_string(&path) {
                all.insert(path.to_str().unwrap().to_owned(), json!(value.trim()));
            }
        }
    }
    Value::Object(all)
}

/// Removes what differs between two networks that are the same: numbers given by the kernel, and
/// what passes.
fn settle(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(settle),
        Value::Object(map) => {
            map.retain(|key, value| {
                let numbered = [
                    "ifindex",
                    "link_index",
                    "handle",
                    "metainfo",
                    "port_id",
                    "port_no",
                    "no",
                ];
                let passing =
                    key.ends_with("_timer") || key.ends_with("_life_time") || key == "expires";
                // Derived from the bridge's MAC.
                let derived =
                    key.contains("designated") || key.ends_with("root_id") || key == "bridge_id";
                // Of the links' flags only those are settings that a request sets.
                if key == "flags"
                    && let Some(flags) = value.as_array_mut()
                {
                    flags.retain(|flag| {
                        !["LOWER_UP", "NO-CARRIER"].contains(&flag.as_str().unwrap_or_default())
                    });
                }
                !(numbered.contains(&key.as_str()) || passing || derived || key == "operstate")
            });
            map.values_mut().for_each(settle);
        }
        _ => {}
    }
}

/// Sorts every list.
fn sort(value: &mut Value) {
    match value {
        Value::Array(values) => {
            values.iter_mut().for_each(sort);
            values.sort_by_key(Value::to_string);
        }
        Value::Object(map) => map.values_mut().for_each(sort),
        _ => {}
    }
}

/// Panics with the lines in which two dumps differ.
#[track_caller]
pub(crate) fn assert_same(now: &str, before: &str, what: &str) {
    if now == before {
        return;
    }
    let only = |one: &str, other: &str| {
        let other: Vec<_> = other.lines().collect();
        one.lines()
            .filter(|line| !other.contains(line))
            .collect::<Vec<_>>()
            .join("\n")
    };
    panic!(
        "{what}: differs\nnow:\n{}\nbefore:\n{}",
        only(now, before),
        only(before, now)
    );
}

/// Fails unless `now` comes to be `before`: the kernel tells of a link's carrier, and of the routes
/// over it, up to a second after the change (`linkwatch`).
pub(crate) fn assert_becomes(now: impl Fn() -> String, before: &str, what: &str) {
    let until = Instant::now() + PATIENCE;
    while now() != before && Instant::now() < until {
        thread::sleep(Duration::from_millis(20));
    }
    assert_same(&now(), before, what);
}

/// The value of `now` once it has not changed for longer than [`LINKWATCH`].
pub(crate) fn settled(now: impl Fn() -> String) -> String {
    let (mut value, mut since) = (now(), Instant::now());
    while since.elapsed() <= LINKWATCH {
        thread::sleep(Duration::from_millis(50));
        let newer = now();
        if newer != value {
            (value, since) = (newer, Instant::now());
        }
    }
    value
}

/// Within this comes what must come, on a machine that is busy with something else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How late the kernel may be with news of a link: its own second, and the two that it takes to
/// find an IPv6 address unique (RFC 4862, 5.4).
const LINKWATCH: Duration = Duration::from_millis(2200);

/// Runs a command that must succeed; its output.
pub(crate) fn success(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Both outputs of a command.
pub(crate) fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A process that ends with the value.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(
            command
                .stderr(Stdio::null())
                .spawn()
                .unwrap_or_else(|error| panic!("{command:?}: {error}")),
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A pod sandbox on a node of its own, connected by a CNI plugin.
pub(crate) struct Pod {
    pub(crate) node: Namespace,
    pub(crate) namespace: Namespace,
    pub(crate) dir: TempDir,
    interface: &'static str,
    plugin: &'static str,
    conf: Value,
    /// The plugin's result.
    pub(crate) result: Value,
}

impl Pod {
    /// A pod on the `bridge` plugin, with hairpin mode, the hard case.
    pub(crate) fn on_bridge() -> Self {
        Self::new(
            "bridge",
            json!({ "bridge": "cni0", "isGateway": true, "hairpinMode": true, "mtu": 1400 }),
        )
    }

    /// A pod on the `ptp` plugin.
    pub(crate) fn on_ptp() -> Self {
        Self::new("ptp", json!({ "mtu": 1450 }))
    }

    /// A pod without a network: the test makes one, by the name of that interface.
    pub(crate) fn by_hand(interface: &'static str) -> Self {
        Self::of(Namespace::new("node"), Namespace::new("pod"), interface)
    }

    /// The same pod, seen by another of its interfaces.
    pub(crate) fn by_interface(&self, interface: &'static str) -> Self {
        Self::of(self.node.clone(), self.namespace.clone(), interface)
    }

    fn of(node: Namespace, namespace: Namespace, interface: &'static str) -> Self {
        Self {
            node,
            namespace,
            dir: TempDir::new().unwrap(),
            interface,
            plugin: "",
            conf: Value::Null,
            result: Value::Null,
        }
    }

    fn new(plugin: &'static str, extra: Value) -> Self {
        let mut pod = Self::by_hand("eth0");
        let mut conf = json!({
            "cniVersion": "1.0.0",
            "name": "test",
            "type": plugin,
            "ipam": {
                "type": "host-local",
                "dataDir": pod.dir.path().join("ipam"),
                "ranges": [[{ "subnet": "10.88.0.0/24" }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        });
        conf.as_object_mut()
            .unwrap()
            .append(&mut extra.as_object().unwrap().clone());
        (pod.plugin, pod.conf) = (plugin, conf);
        pod.result = serde_json::from_str(&pod.cni("ADD").unwrap()).unwrap();
        // Duplicate address detection would end in the middle of a test otherwise.
        wait_until("the pod's IPv6 address is settled", || {
            let addresses = pod.namespace.ip("addr show eth0");
            addresses.contains("fe80:") && !addresses.contains("tentative")
        });
        pod
    }

    /// Runs the plugin as a container runtime does.
    pub(crate) fn cni(&self, verb: &str) -> Result<String, String> {
        let mut conf = self.conf.clone();
        if !self.result.is_null() {
            conf["prevResult"] = self.result.clone();
        }
        let mut child = self
            .node
            .command(&format!("{CNI}/{}", self.plugin))
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", "netbind-test")
            .env("CNI_NETNS", self.namespace.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", CNI)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(conf.to_string().as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            Ok(text(&output))
        } else {
            Err(text(&output))
        }
    }

    /// The pod's address, as the plugin gave it.
    pub(crate) fn address(&self) -> &str {
        self.result["ips"][0]["address"]
            .as_str()
            .unwrap()
            .split('/')
            .next()
            .unwrap()
    }

    pub(crate) fn gateway(&self) -> &str {
        self.result["ips"][0]["gateway"].as_str().unwrap()
    }

    pub(crate) fn mac(&self) -> String {
        let show = format!("-j link show {}", self.interface);
        let link: Value = serde_json::from_str(&self.namespace.ip(&show)).unwrap();
        link[0]["address"].as_str().unwrap().to_owned()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state.json")
    }

    /// The binary, to be run inside the pod.
    pub(crate) fn netbind(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(NETBIND);
        command
            .arg("--netns")
            .arg(self.namespace.path())
            .args(arguments);
        if ["discover", "plan", "setup"].contains(&arguments[0]) {
            command.arg("--interface").arg(self.interface);
        }
        if ["plan", "setup", "serve", "teardown"].contains(&arguments[0]) {
            command.arg("--state").arg(self.state());
        }
        if ["plan", "setup"].contains(&arguments[0]) {
            let resolv_conf = self.dir.path().join("resolv.conf");
            if !resolv_conf.exists() {
                std::fs::write(
                    &resolv_conf,
                    "nameserver 10.96.0.10\nsearch svc.cluster.local cluster.local.\n",
                )
                .unwrap();
            }
            command.arg("--resolv-conf").arg(resolv_conf);
        }
        command
    }

    /// Whether an address answers a ping from the node.
    pub(crate) fn node_reaches(&self, address: &str) -> bool {
        self.node.reaches(address)
    }
}

/// Waits, in small steps because the kernel has no event for it, until something is so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// What a process has allocated and touched, in pages. Code that comes and goes with the page cache
/// is not in it, and the page tables are counted: the sums in `statm` lag behind on several
/// processors.
pub(crate) fn allocated(process: &Process) -> u64 {
    let rollup = format!("/proc/{}/smaps_rollup", process.0.id());
    let rollup = std::fs::read_to_string(rollup).unwrap();
    let anonymous = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:"));
    let kibibytes = anonymous.and_then(|rest| rest.trim().strip_suffix(" kB"));
    kibibytes.unwrap().parse::<u64>().unwrap() / 4
}
