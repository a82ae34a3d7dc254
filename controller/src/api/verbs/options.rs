//! What comes in the body of a verb: pure. KubeVirt's `StartOptions` and their kin.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::Value;

use super::plan::Verb;
use crate::api::ApiError;

/// When a guest thaws by itself where nobody says when: a client that dies leaves no guest frozen
/// (what KubeVirt's snapshots ask for).
const UNFREEZE: u32 = 300;

/// Whether nothing is to be changed, but all that would be is to be checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Option<Vec<String>>")]
pub(super) struct DryRun(pub(super) bool);

impl TryFrom<Option<Vec<String>>> for DryRun {
    type Error = String;

    fn try_from(stages: Option<Vec<String>>) -> Result<Self, String> {
        let stages = stages.unwrap_or_default();
        match stages.iter().find(|stage| *stage != "All") {
            Some(other) => Err(format!("dryRun: {other:?} is unknown; write [\"All\"]")),
            None => Ok(Self(!stages.is_empty())),
        }
    }
}

/// Of `start`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Start {
    paused: bool,
    dry_run: DryRun,
}

/// Of `stop`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Stop {
    grace_period: Option<u32>,
    dry_run: DryRun,
}

/// Of `restart`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Restart {
    grace_period_seconds: Option<u32>,
    dry_run: DryRun,
}

/// Of `pause` and `unpause`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Pause {
    pub(super) dry_run: DryRun,
}

/// Of `freeze`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Freeze {
    #[serde(deserialize_with = "go_duration")]
    unfreeze_timeout: Option<Duration>,
}

/// Of what has none.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

impl Start {
    pub(super) fn verb(self) -> (Verb, DryRun) {
        let paused = self.paused;
        (Verb::Start { paused }, self.dry_run)
    }
}

impl Stop {
    pub(super) fn verb(self) -> (Verb, DryRun) {
        let grace = self.grace_period;
        (Verb::Stop { grace }, self.dry_run)
    }
}

impl Restart {
    pub(super) fn verb(self) -> (Verb, DryRun) {
        let grace = self.grace_period_seconds;
        (Verb::Restart { grace }, self.dry_run)
    }
}

impl Freeze {
    /// Seconds until the guest thaws by itself; 0 for never.
    pub(super) fn seconds(&self) -> u32 {
        self.unfreeze_timeout.map_or(UNFREEZE, |timeout| {
            // Not sooner than was asked for: less than a second is not never.
            let seconds = timeout.as_nanos().div_ceil(1_000_000_000);
            u32::try_from(seconds).unwrap_or(u32::MAX)
        })
    }
}

/// Reads a body: JSON, or none for the defaults.
///
/// # Errors
/// 400, with what is wrong.
pub(super) fn read<T: Default + DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    if body.is_empty() {
        return Ok(T::default());
    }
    let wrong = |why: &dyn fmt::Display| {
        ApiError::bad_request(format!("the options in the body are not understood: {why}"))
    };
    match serde_json::from_slice(body).map_err(|error| wrong(&error))? {
        Value::Null => Ok(T::default()),
        Value::Object(mut options) => {
            // Go's clients send what an object is, if they know.
            options.remove("kind");
            options.remove("apiVersion");
            serde_json::from_value(options.into()).map_err(|error| wrong(&error))
        }
        _ => Err(wrong(&"they are no JSON object")),
    }
}

/// `metav1.Duration`: as Go writes durations, `1h5m0.5s`.
fn go_duration<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else {
        return Ok(None);
    };
    let read = parse_go_duration(&text);
    let wrong = || D::Error::custom(format!("{text:?} is no duration; write one such as 5m0s"));
    read.map(Some).ok_or_else(wrong)
}

/// Reads what Go's `time.ParseDuration` does, but no signs: a sequence of decimal numbers, each
/// with its unit.
fn parse_go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at(digits);
        let end = unit.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, left) = unit.split_at(end.unwrap_or(unit.len()));
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = left;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn bodies_are_read_as_kubevirts_clients_send_them() {
        let start = |paused| Verb::Start { paused };
        let cases = [
            ("", start(false), false),
            ("null", start(false), false),
            ("{}", start(false), false),
            (
                r#"{"kind": "StartOptions", "apiVersion": "v1", "paused": true}"#,
                start(true),
                false,
            ),
            (r#"{"dryRun": ["All"]}"#, start(false), true),
            (r#"{"dryRun": []}"#, start(false), false),
            (r#"{"dryRun": null}"#, start(false), false),
        ];
        for (body, verb, dry_run) in cases {
            let read: Start = read(body.as_bytes()).unwrap();
            assert_eq!(read.verb(), (verb, DryRun(dry_run)), "{body}");
        }
        let stop: Stop = read(br#"{"gracePeriod": null}"#).unwrap();
        assert_eq!(stop.verb(), (Verb::Stop { grace: None }, DryRun(false)));
        let stop: Stop = read(br#"{"gracePeriod": 0}"#).unwrap();
        assert_eq!(stop.verb(), (Verb::Stop { grace: Some(0) }, DryRun(false)));
        let restart: Restart = read(br#"{"gracePeriodSeconds": 5}"#).unwrap();
        assert_eq!(restart.verb().0, Verb::Restart { grace: Some(5) });
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let cases = [
            ("{", "EOF"),
            ("[1]", "no JSON object"),
            (r#"{"gracePeriod": -1}"#, "-1"),
            (r#"{"gracePeriod": "30s"}"#, "30s"),
            (r#"{"gracePeriodSeconds": 1}"#, "gracePeriodSeconds"),
            (r#"{"dryRun": ["None"]}"#, "write [\"All\"]"),
        ];
        for (body, named) in cases {
            let error = read::<Stop>(body.as_bytes()).unwrap_err();
            assert_eq!(error.code(), StatusCode::BAD_REQUEST, "{body}");
            assert!(error.to_string().contains(named), "{body}: {error}");
        }
    }

    #[test]
    fn a_guest_thaws_when_gos_clients_say() {
        let cases = [
            ("", Some(UNFREEZE)),
            (r#"{"unfreezeTimeout": null}"#, Some(UNFREEZE)),
            (r#"{"unfreezeTimeout": "0s"}"#, Some(0)),
            (r#"{"unfreezeTimeout": "0"}"#, Some(0)),
            (r#"{"unfreezeTimeout": "5m0s"}"#, Some(300)),
            (r#"{"unfreezeTimeout": "1h2m3.5s"}"#, Some(3724)),
            (r#"{"unfreezeTimeout": "300ms"}"#, Some(1)),
            (r#"{"unfreezeTimeout": "1µs"}"#, Some(1)),
            (r#"{"unfreezeTimeout": "9999999h"}"#, Some(u32::MAX)),
            (r#"{"unfreezeTimeout": ""}"#, None),
            (r#"{"unfreezeTimeout": "5"}"#, None),
            (r#"{"unfreezeTimeout": "m"}"#, None),
            (r#"{"unfreezeTimeout": "5 m"}"#, None),
            (r#"{"unfreezeTimeout": "-5m"}"#, None),
            (r#"{"unfreezeTimeout": "1.2.3s"}"#, None),
            (r#"{"unfreezeTimeout": 300}"#, None),
        ];
        for (body, expected) in cases {
            let read: Option<Freeze> = read(body.as_bytes()).ok();
            assert_eq!(read.map(|read| read.seconds()), expected, "{body}");
        }
    }
}
