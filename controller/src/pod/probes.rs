//! Probes of the instance, put to its guest.
//!
//! | the instance's | the pod's |
//! | --- | --- |
//! | `tcpSocket`, `httpGet` | the same: the pod's address is the guest's |
//! | `exec` | `virt-launcher probe --exec`: the guest's agent runs the command |
//! | `guestAgentPing` | `virt-launcher probe --ping` |

use k8s_openapi::api::core::v1::{ExecAction, Probe};

/// Kubernetes' default of `timeoutSeconds`.
const TIMEOUT_SECONDS: i32 = 1;

/// What the kubelet waits longer than the guest has, in seconds: so that it is the launcher who
/// says that the guest did not answer, and not the kubelet that the launcher did not.
const LAUNCHER_SECONDS: i32 = 1;

/// The pod's probe.
pub(super) fn probe(probe: &crds::Probe) -> Probe {
    let question = if probe.guest_agent_ping.is_some() {
        Some(vec!["--ping".to_owned()])
    } else {
        let command = probe.exec.as_ref();
        let command = command.and_then(|exec| exec.command.as_deref());
        command.map(|command| [&["--exec".to_owned(), "--".to_owned()], command].concat())
    };
    let guest_seconds = probe.timeout_seconds.unwrap_or(TIMEOUT_SECONDS);
    let (exec, timeout_seconds) = match question {
        Some(question) => {
            let command = ["virt-launcher", "probe", "--timeout"].map(str::to_owned);
            let timeout = vec![guest_seconds.to_string()];
            let command = [command.to_vec(), timeout, question].concat();
            let exec = ExecAction {
                command: Some(command),
            };
            let seconds = guest_seconds.saturating_add(LAUNCHER_SECONDS);
            (Some(exec), Some(seconds))
        }
        None => (None, probe.timeout_seconds),
    };
    Probe {
        exec,
        failure_threshold: probe.failure_threshold,
        http_get: probe.http_get.clone(),
        initial_delay_seconds: probe.initial_delay_seconds,
        period_seconds: probe.period_seconds,
        success_threshold: probe.success_threshold,
        tcp_socket: probe.tcp_socket.clone(),
        timeout_seconds,
        ..Probe::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_probe_reaches_the_guest() {
        let numbers = json!({
            "failureThreshold": 4,
            "initialDelaySeconds": 5,
            "periodSeconds": 6,
            "successThreshold": 7,
        });
        let http = json!({"httpGet": {"path": "/ready", "port": "web", "scheme": "HTTPS"}});
        let cases = [
            (
                json!({"tcpSocket": {"port": 22}}),
                json!({"tcpSocket": {"port": 22}}),
            ),
            (http.clone(), http),
            (
                json!({"tcpSocket": {"port": 22}, "timeoutSeconds": 3}),
                json!({"tcpSocket": {"port": 22}, "timeoutSeconds": 3}),
            ),
            (
                json!({"guestAgentPing": {}}),
                json!({
                    "exec": {"command": ["virt-launcher", "probe", "--timeout", "1", "--ping"]},
                    "timeoutSeconds": 2,
                }),
            ),
            (
                json!({"exec": {"command": ["cat", "--", "/ready"]}, "timeoutSeconds": 9}),
                json!({
                    "exec": {"command": [
                        "virt-launcher", "probe", "--timeout", "9", "--exec", "--",
                        "cat", "--", "/ready",
                    ]},
                    "timeoutSeconds": 10,
                }),
            ),
        ];
        for (asked, expected) in cases {
            assert_eq!(made(&asked), expected);
            assert_eq!(made(&with(&asked, &numbers)), with(&expected, &numbers));
        }
    }

    fn made(asked: &Value) -> Value {
        let asked: crds::Probe = serde_json::from_value(asked.clone()).unwrap();
        serde_json::to_value(probe(&asked)).unwrap()
    }

    fn with(object: &Value, more: &Value) -> Value {
        let mut object = object.clone();
        let fields = object.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        object
    }
}
