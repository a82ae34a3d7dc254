//! Calling CNI plugins, as a container runtime does.
//! <https://www.cni.dev/docs/spec/> (version 1.0.0, sections 2 to 4).

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Where distributions and clusters put plugins.
const PLUGIN_DIRS: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];

/// The bridge of the network that `run` makes where no other is given.
pub(super) const BRIDGE: &str = "ferrovirt0";

/// The plugin that sets up a pod's loopback interface.
const LOOPBACK: &str = "loopback";

/// The addresses of that network. Those of IPv6 are unique local ones (RFC 4193).
const SUBNETS: [&str; 2] = ["10.143.0.0/24", "fd10:143::/64"];

/// How long a plugin may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Why a pod has no network.
#[derive(Debug, thiserror::Error)]
pub(super) enum CniError {
    /// The configuration cannot be read.
    #[error("cannot read the CNI configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The configuration is no CNI configuration.
    #[error("{path} is no CNI configuration: {detail}")]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A plugin is not installed.
    #[error(
        "the CNI plugin {plugin:?} is in none of {searched}; install it (Debian: apt-get install \
         containernetworking-plugins) or name its directory with --cni-bin"
    )]
    Missing {
        /// Its type.
        plugin: String,
        /// Where it was looked for.
        searched: String,
    },
    /// A plugin cannot be executed.
    #[error("cannot execute the CNI plugin {path}")]
    Execute {
        /// The program.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A plugin hangs.
    #[error(
        "the CNI plugin {plugin:?} was killed: it had not ended {} s after its {command} began; \
         see what it waits for, then try again",
        LIMIT.as_secs()
    )]
    TimedOut {
        /// Its type.
        plugin: String,
        /// ADD, CHECK or DEL.
        command: &'static str,
    },
    /// A plugin refused.
    #[error("the CNI plugin {plugin:?} failed at {command}: {message}")]
    Plugin {
        /// Its type.
        plugin: String,
        /// ADD, CHECK or DEL.
        command: &'static str,
        /// Its own words.
        message: String,
    },
}

/// A network that a pod can be attached to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Network {
    name: String,
    version: String,
    /// The plugins' configurations, in the order of ADD.
    plugins: Vec<Map<String, Value>>,
    /// Where plugins are looked for.
    directories: Vec<PathBuf>,
}

/// One pod's attachment to a network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Attachment {
    /// The pod's id, unique among those of the host.
    pub container: String,
    /// The path of its network namespace.
    pub netns: PathBuf,
    /// The interface's name in it.
    pub interface: String,
}

impl Network {
    /// The network of `run`: a bridge with the gateway's addresses and NAT to the outside, with or
    /// without IPv6. `data` keeps the addresses in use.
    pub(super) fn default_bridge(data: &Path, directories: Vec<PathBuf>, ipv6: bool) -> Self {
        let families = if ipv6 { 2 } else { 1 };
        let ranges = SUBNETS.iter().map(|subnet| json!([{"subnet": subnet}]));
        let routes = ["0.0.0.0/0", "::/0"]
            .into_iter()
            .map(|to| json!({"dst": to}));
        let bridge = json!({
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": true,
            "ipMasq": true,
            "ipam": {
                "type": "host-local",
                "dataDir": data,
                "ranges": ranges.take(families).collect::<Vec<_>>(),
                "routes": routes.take(families).collect::<Vec<_>>(),
            },
        });
        Self {
            name: "ferrovirt".into(),
            version: "1.0.0".into(),
            plugins: bridge.as_object().cloned().into_iter().collect(),
            directories: search_path(directories),
        }
    }

    /// The loopback interface of a pod on this network.
    pub(super) fn loopback(&self) -> Self {
        let plugin = json!({"type": LOOPBACK});
        Self {
            name: LOOPBACK.into(),
            version: "1.0.0".into(),
            plugins: plugin.as_object().cloned().into_iter().collect(),
            directories: self.directories.clone(),
        }
    }

    /// Reads a network configuration: one plugin's (`.conf`) or a list (`.conflist`).
    ///
    /// # Errors
    /// [`CniError::Read`] and [`CniError::Configuration`].
    pub(super) fn read(path: &Path, directories: Vec<PathBuf>) -> Result<Self, CniError> {
        let text = std::fs::read(path).map_err(|source| CniError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, directories).map_err(|detail| CniError::Configuration {
            path: path.to_owned(),
            detail,
        })
    }

    fn parse(text: &[u8], directories: Vec<PathBuf>) -> Result<Self, String> {
        let mut conf: Map<String, Value> =
            serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let mut text = |key: &str| conf.remove(key).and_then(|v| v.as_str().map(str::to_owned));
        let name = text("name").ok_or("it has no \"name\"")?;
        let version = text("cniVersion").ok_or("it has no \"cniVersion\"")?;
        let plugins = match conf.remove("plugins") {
            Some(list) => {
                serde_json::from_value(list).map_err(|error| format!("plugins: {error}"))?
            }
            None => vec![conf],
        };
        if plugins.is_empty()
            || plugins
                .iter()
                .any(|p| !p.get("type").is_some_and(Value::is_string))
        {
            return Err("each plugin needs a \"type\"".into());
        }
        Ok(Self {
            name,
            version,
            plugins,
            directories: search_path(directories),
        })
    }

    /// Looks for every plugin that an attachment needs, before anything is made.
    ///
    /// # Errors
    /// [`CniError::Missing`], the first.
    pub(super) fn installed(&self) -> Result<(), CniError> {
        let kinds = self.plugins.iter().flat_map(|plugin| {
            let ipam = plugin.get("ipam").and_then(|ipam| ipam.get("type"));
            [plugin.get("type"), ipam].into_iter().flatten()
        });
        kinds
            .filter_map(Value::as_str)
            .chain([LOOPBACK])
            .try_for_each(|kind| self.find(kind).map(drop))
    }

    /// Attaches the pod; returns the last plugin's result.
    ///
    /// # Errors
    /// [`CniError`]; call [`Self::del`] then as well.
    pub(super) fn add(&self, attachment: &Attachment) -> Result<Value, CniError> {
        let mut result = Value::Null;
        for plugin in &self.plugins {
            result = self.call("ADD", plugin, attachment, &result)?;
        }
        Ok(result)
    }

    /// Detaches the pod; `result` is what [`Self::add`] returned. May be called again.
    ///
    /// # Errors
    /// [`CniError`] of the last plugin that failed; the others have been called all the same.
    pub(super) fn del(&self, attachment: &Attachment, result: &Value) -> Result<(), CniError> {
        let mut outcome = Ok(());
        for plugin in self.plugins.iter().rev() {
            let called = self.call("DEL", plugin, attachment, result);
            outcome = called.map(drop).and(outcome);
        }
        outcome
    }

    fn call(
        &self,
        command: &'static str,
        plugin: &Map<String, Value>,
        attachment: &Attachment,
        previous: &Value,
    ) -> Result<Value, CniError> {
        let kind = plugin
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let path = self.find(kind)?;
        let mut conf = plugin.clone();
        conf.insert("name".into(), self.name.clone().into());
        conf.insert("cniVersion".into(), self.version.clone().into());
        if !previous.is_null() {
            conf.insert("prevResult".into(), previous.clone());
        }
        let execute = |source| CniError::Execute {
            path: path.clone(),
            source,
        };
        let mut child = Command::new(&path)
            // Ctrl-C is for `run`: a plugin comes to its end.
            .process_group(0)
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", &attachment.container)
            .env("CNI_NETNS", &attachment.netns)
            .env("CNI_IFNAME", &attachment.interface)
            .env("CNI_PATH", joined(&self.directories))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(execute)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A plugin that fails before it reads tells why on stdout.
            let _ = stdin.write_all(Value::from(conf).to_string().as_bytes());
        }
        let output = output(child, LIMIT).map_err(execute)?;
        let output = output.ok_or_else(|| CniError::TimedOut {
            plugin: kind.to_owned(),
            command,
        })?;
        let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        if output.status.success() {
            return Ok(answer);
        }
        let words = |key: &str| {
            answer
                .get(key)
                .and_then(Value::as_str)
                .filter(|s| !s.is_empty())
        };
        let stderr = String::from_utf8_lossy(&output.stderr);
        let message = [words("msg"), words("details")]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>();
        Err(CniError::Plugin {
            plugin: kind.to_owned(),
            command,
            message: if message.is_empty() {
                stderr.trim().into()
            } else {
                message.join(": ")
            },
        })
    }

    fn find(&self, kind: &str) -> Result<PathBuf, CniError> {
        // A type is a file name, never a path.
        let plain = !kind.is_empty() && !kind.contains('/');
        self.directories
            .iter()
            .map(|directory| directory.join(kind))
            .find(|path| plain && path.is_file())
            .ok_or_else(|| CniError::Missing {
                plugin: kind.to_owned(),
                searched: joined(&self.directories),
            })
    }
}

/// The addresses that a plugin's result has for the pod, each with its prefix length.
pub(super) fn addresses(result: &Value) -> impl Iterator<Item = &str> {
    let ips = result["ips"].as_array().into_iter().flatten();
    ips.filter_map(|ip| ip["address"].as_str())
}

/// The address of `10.0.0.2/24`.
pub(super) fn host_part(address: &str) -> Option<IpAddr> {
    address.split('/').next()?.parse().ok()
}

/// Waits for a plugin, leader of its process group; kills one that has not closed its outputs in time, and returns none then.
fn output(mut child: Child, limit: Duration) -> io::Result<Option<Output>> {
    let until = Instant::now() + limit;
    let outputs = [drain(child.stdout.take()), drain(child.stderr.take())];
    let [stdout, stderr] =
        outputs.map(|output| output.recv_timeout(until.saturating_duration_since(Instant::now())));
    let (Ok(stdout), Ok(stderr)) = (stdout, stderr) else {
        // With the plugins that it started in turn. It was not waited for, so the group is its own.
        killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL)?;
        child.wait()?;
        return Ok(None);
    };
    Ok(Some(Output {
        status: child.wait()?,
        stdout,
        stderr,
    }))
}

/// All that comes from a pipe, once it is closed.
fn drain(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = vec![];
        if let Some(mut pipe) = pipe {
            // What came before an error is what there is to tell.
            let _ = pipe.read_to_end(&mut bytes);
        }
        // Nobody waits any more where the time was up.
        let _ = sender.send(bytes);
    });
    receiver
}

fn search_path(given: Vec<PathBuf>) -> Vec<PathBuf> {
    given
        .into_iter()
        .chain(PLUGIN_DIRS.map(PathBuf::from))
        .collect()
}

fn joined(directories: &[PathBuf]) -> String {
    directories
        .iter()
        .map(|d| d.display().to_string())
        .collect::<Vec<_>>()
        .join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_plugin_and_a_list_are_both_read() {
        let single = r#"{"cniVersion":"1.0.0","name":"n","type":"ptp","ipam":{}}"#;
        let list =
            r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"ptp"},{"type":"tuning"}]}"#;
        assert_eq!(
            Network::parse(single.as_bytes(), vec![])
                .unwrap()
                .plugins
                .len(),
            1
        );
        assert_eq!(
            Network::parse(list.as_bytes(), vec![])
                .unwrap()
                .plugins
                .len(),
            2
        );
    }

    #[test]
    fn the_default_network_has_ipv6_only_where_that_is_asked_for() {
        let cases = [
            (
                false,
                json!(["10.143.0.0/24"]),
                json!([{"dst": "0.0.0.0/0"}]),
            ),
            (
                true,
                json!(["10.143.0.0/24", "fd10:143::/64"]),
                json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]),
            ),
        ];
        for (ipv6, subnets, routes) in cases {
            let network = Network::default_bridge(Path::new("/nonexistent"), vec![], ipv6);
            let ipam = &network.plugins[0]["ipam"];
            let ranges = ipam["ranges"].as_array().unwrap();
            let made: Vec<_> = ranges
                .iter()
                .map(|range| range[0]["subnet"].clone())
                .collect();
            assert_eq!(Value::from(made), subnets);
            assert_eq!(ipam["routes"], routes);
        }
    }

    #[test]
    fn a_result_s_addresses_are_read() {
        let result = json!({"ips": [{"address": "10.0.0.2/24"}, {}, {"address": "fd00::2/64"}]});
        let hosts: Vec<_> = addresses(&result).filter_map(host_part).collect();
        assert_eq!(
            hosts,
            ["10.0.0.2", "fd00::2"].map(|host| host.parse::<IpAddr>().unwrap())
        );
        assert_eq!(addresses(&Value::Null).count(), 0);
    }

    #[test]
    fn what_is_missing_is_named() {
        let cases = [
            (r#"{"cniVersion":"1.0.0","type":"ptp"}"#, "\"name\""),
            (r#"{"name":"n","type":"ptp"}"#, "\"cniVersion\""),
            (r#"{"cniVersion":"1.0.0","name":"n"}"#, "\"type\""),
            (
                r#"{"cniVersion":"1.0.0","name":"n","plugins":[]}"#,
                "\"type\"",
            ),
            (
                r#"{"cniVersion":"1.0.0","name":"n","plugins":{}}"#,
                "plugins",
            ),
            ("[]", "invalid type"),
        ];
        for (text, expected) in cases {
            let error = Network::parse(text.as_bytes(), vec![]).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_plugin_that_hangs_is_killed() {
        let start = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).process_group(0);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        };
        let hangs = start("sleep 600");
        assert!(output(hangs, Duration::from_millis(50)).unwrap().is_none());
        let ends = output(start("echo out; echo err >&2; exit 3"), LIMIT);
        let ends = ends.unwrap().unwrap();
        assert_eq!(
            (ends.status.code(), &ends.stdout[..], &ends.stderr[..]),
            (Some(3), &b"out\n"[..], &b"err\n"[..])
        );
    }

    #[test]
    fn a_plugin_type_is_never_a_path() {
        let data = Path::new("/nonexistent");
        let network = Network::default_bridge(data, vec!["/usr".into()], true);
        for kind in ["bin/true", "../bin/true", ""] {
            assert!(
                matches!(network.find(kind), Err(CniError::Missing { .. })),
                "{kind:?}"
            );
        }
    }
}
