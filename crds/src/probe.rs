//! `spec.livenessProbe` and `spec.readinessProbe`.

use k8s_openapi::api::core::v1::{ExecAction, HTTPGetAction, TCPSocketAction};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

/// A question that is put to the guest again and again: one of `exec`, `guestAgentPing`,
/// `httpGet` and `tcpSocket`.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// A command that the guest's agent runs; status 0 is success.
    pub exec: Option<ExecAction>,
    /// How many failures in a row make the probe fail. Defaults to 3.
    pub failure_threshold: Option<i32>,
    /// The guest's agent answers.
    pub guest_agent_ping: Option<GuestAgentPing>,
    /// The guest answers a GET by HTTP with a status from 200 to 399.
    pub http_get: Option<HTTPGetAction>,
    /// Seconds from the start to the first try.
    pub initial_delay_seconds: Option<i32>,
    /// Seconds from one try to the next. Defaults to 10.
    pub period_seconds: Option<i32>,
    /// How many successes in a row make the probe succeed. Defaults to 1.
    pub success_threshold: Option<i32>,
    /// The guest takes a TCP connection.
    pub tcp_socket: Option<TCPSocketAction>,
    /// Seconds until a try counts as failed. Defaults to 1.
    pub timeout_seconds: Option<i32>,
}

/// The guest's agent answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GuestAgentPing {}
