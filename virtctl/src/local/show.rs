//! What `ps` shows: each machine as the instance that a cluster would have, and as a row.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use k8s_openapi::jiff::Timestamp;
use launcher_api::guest::line;
use launcher_api::local::{self, LocalVm};
use launcher_api::{Interface, Phase, Status};
use serde_json::{Value, json};

use super::{MESSAGE, Machine};
use crate::target::{CallError, Kind, Name};

/// The header of [`Shown::row`].
pub const HEADER: [&str; 5] = ["NAMESPACE", "NAME", "PHASE", "IP", "AGE"];

/// A machine, and what its launcher says of it.
#[derive(Clone, Debug)]
pub struct Shown {
    vm: LocalVm,
    state: State,
}

/// How much is known.
#[derive(Clone, Debug)]
enum State {
    /// What its launcher says.
    Told(Status),
    /// It starts or ends at this moment.
    Silent,
    /// It was killed, and so was who would have removed the rest.
    Left,
}

/// Every machine below `root`; of one namespace where that is given.
///
/// # Errors
/// [`CallError::Local`].
pub async fn list(root: &Path, namespace: Option<&str>) -> Result<Vec<Shown>, CallError> {
    let mut shown = vec![];
    for vm in local::list(root)? {
        if namespace.is_some_and(|namespace| namespace != vm.namespace) {
            continue;
        }
        let name = Name {
            kind: Kind::Vmi,
            namespace: vm.namespace.clone(),
            name: vm.name.clone(),
        };
        let machine = Machine { name, vm };
        let state = match machine.status().await {
            Ok(status) => State::Told(status),
            Err(_) if machine.is_there() => State::Silent,
            Err(_) => State::Left,
        };
        let vm = machine.vm;
        shown.push(Shown { vm, state });
    }
    Ok(shown)
}

impl Shown {
    /// The cells below [`HEADER`].
    pub fn row(&self, now: SystemTime) -> Vec<String> {
        let age = now.duration_since(self.vm.since).unwrap_or_default();
        let address = self.vm.addresses.first();
        vec![
            self.vm.namespace.clone(),
            self.vm.name.clone(),
            self.word().to_owned(),
            address.map(ToString::to_string).unwrap_or_default(),
            human(age),
        ]
    }

    /// Where it is in its life, in KubeVirt's words for a VirtualMachine (`printableStatus`) as long
    /// as it lives.
    fn word(&self) -> &'static str {
        match &self.state {
            State::Told(status) => word(status.phase()),
            State::Silent => "Unknown",
            State::Left => "Failed",
        }
    }

    /// The VirtualMachineInstance.
    pub fn object(&self) -> Value {
        let since = Timestamp::try_from(self.vm.since);
        let mut object = json!({
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {
                "name": self.vm.name,
                "namespace": self.vm.namespace,
                "creationTimestamp": since.ok().map(|since| format!("{since:.0}")),
            },
            "status": {"phase": self.phase()},
        });
        let status = &mut object["status"];
        if let Some(reason) = self.reason() {
            status["reason"] = reason.into();
        }
        if let State::Told(told) = &self.state {
            let interfaces = told.interfaces.iter().enumerate();
            let interfaces = interfaces.map(|(index, told)| self.interface(index, told));
            status["interfaces"] = interfaces.collect();
            let conditions = [
                ("Paused", told.phase() == Phase::Paused),
                ("AgentConnected", told.agent_connected),
            ];
            let conditions: Vec<Value> = conditions
                .into_iter()
                .filter(|(_, holds)| *holds)
                .map(|(kind, _)| json!({"type": kind, "status": "True"}))
                .collect();
            if !conditions.is_empty() {
                status["conditions"] = conditions.into();
            }
        }
        object
    }

    /// `status.phase`.
    fn phase(&self) -> &'static str {
        match &self.state {
            State::Told(status) => match status.phase() {
                Phase::Unspecified | Phase::Starting => "Scheduled",
                Phase::Running | Phase::Paused | Phase::ShuttingDown => "Running",
                Phase::Succeeded => "Succeeded",
                Phase::Failed => "Failed",
            },
            State::Silent => "Unknown",
            State::Left => "Failed",
        }
    }

    fn reason(&self) -> Option<String> {
        match &self.state {
            State::Told(status) => line(&status.reason, MESSAGE),
            State::Silent => Some("its launcher does not answer".into()),
            State::Left => Some("it was killed; the next run removes what is left of it".into()),
        }
    }

    /// As in a cluster, the first one is reached at its pod's addresses, whatever the guest's are.
    fn interface(&self, index: usize, told: &Interface) -> Value {
        let own = told.addresses.iter().filter_map(|told| {
            let host = told.address.split('/').next()?;
            host.parse::<IpAddr>().ok()
        });
        let addresses = match index {
            0 if !self.vm.addresses.is_empty() => self.vm.addresses.clone(),
            _ => own.collect(),
        };
        json!({
            "name": line(&told.name, MESSAGE),
            "mac": line(&told.mac, MESSAGE),
            "ipAddress": addresses.first(),
            "ipAddresses": addresses,
        })
    }
}

/// KubeVirt's word for a VirtualMachine that lives, and for an instance that is over.
fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Unspecified | Phase::Starting => "Starting",
        Phase::Running => "Running",
        Phase::Paused => "Paused",
        Phase::ShuttingDown => "Stopping",
        Phase::Succeeded => "Succeeded",
        Phase::Failed => "Failed",
    }
}

/// An age in one or two units, as kubectl shows it.
fn human(age: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(1, "s"), (60, "m"), (3600, "h"), (86_400, "d")];
    /// Below so many of a unit, the one beneath it is shown too.
    const FEW: u64 = 8;
    /// Below so many of a unit, the one beneath it is shown instead.
    const LEAST: u64 = 2;
    let seconds = age.as_secs();
    let beneath = UNITS.iter().zip(UNITS.iter().skip(1)).rev();
    for ((small, small_name), (unit, name)) in beneath {
        let (count, rest) = (seconds / unit, seconds % unit / small);
        match count {
            0..LEAST => {}
            LEAST..FEW if rest > 0 => return format!("{count}{name}{rest}{small_name}"),
            _ => return format!("{count}{name}"),
        }
    }
    format!("{seconds}s")
}

#[cfg(test)]
mod tests {
    use launcher_api::Address;

    use super::*;

    fn shown(state: State) -> Shown {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("sandboxes/a");
        std::fs::create_dir_all(&dir).unwrap();
        let record = r#"{"namespace":"default","name":"hello","attached":
            [{"result":{"ips":[{"address":"10.143.0.2/24"},{"address":"fd10:143::2/64"}]}}]}"#;
        std::fs::write(dir.join(local::RECORD), record).unwrap();
        let mut vm = local::find(root.path(), "default", "hello")
            .unwrap()
            .unwrap();
        vm.since = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        Shown { vm, state }
    }

    fn told(phase: Phase) -> State {
        let interface = |name: &str, address: &str| Interface {
            name: name.into(),
            mac: "02:00:00:00:00:01".into(),
            addresses: vec![Address {
                address: address.into(),
                leased: true,
            }],
            ..Interface::default()
        };
        State::Told(Status {
            phase: phase.into(),
            reason: "asked\u{1b}[2J".into(),
            interfaces: vec![
                interface("default", "10.0.2.2/24"),
                interface("blue", "10.9.0.2/24"),
            ],
            ..Status::default()
        })
    }

    #[test]
    fn a_machine_is_shown_as_the_instance_that_a_cluster_would_have() {
        let shown = shown(told(Phase::Paused));
        let expected = json!({
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {
                "name": "hello",
                "namespace": "default",
                "creationTimestamp": "2027-01-15T08:00:00Z",
            },
            "status": {
                "phase": "Running",
                "reason": "asked [2J",
                "conditions": [{"type": "Paused", "status": "True"}],
                "interfaces": [
                    {
                        "name": "default",
                        "mac": "02:00:00:00:00:01",
                        "ipAddress": "10.143.0.2",
                        "ipAddresses": ["10.143.0.2", "fd10:143::2"],
                    },
                    {
                        "name": "blue",
                        "mac": "02:00:00:00:00:01",
                        "ipAddress": "10.9.0.2",
                        "ipAddresses": ["10.9.0.2"],
                    },
                ],
            },
        });
        assert_eq!(shown.object(), expected);
        let now = shown.vm.since + Duration::from_secs(95);
        assert_eq!(
            shown.row(now),
            ["default", "hello", "Paused", "10.143.0.2", "95s"]
        );
    }

    #[test]
    fn each_state_has_its_words() {
        let cases = [
            (told(Phase::Starting), "Starting", "Scheduled"),
            (told(Phase::Running), "Running", "Running"),
            (told(Phase::ShuttingDown), "Stopping", "Running"),
            (told(Phase::Succeeded), "Succeeded", "Succeeded"),
            (told(Phase::Failed), "Failed", "Failed"),
            (State::Silent, "Unknown", "Unknown"),
            (State::Left, "Failed", "Failed"),
        ];
        for (state, word, phase) in cases {
            let shown = shown(state);
            assert_eq!((shown.word(), shown.phase()), (word, phase), "{shown:?}");
        }
    }

    #[test]
    fn ages_are_short() {
        let cases = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (150, "2m30s"),
            (8 * 60 + 1, "8m"),
            (119 * 60, "119m"),
            (2 * 3600 + 60, "2h1m"),
            (47 * 3600, "47h"),
            (50 * 3600, "2d2h"),
            (400 * 86_400, "400d"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human(Duration::from_secs(seconds)), text);
        }
    }
}
