//! Rules about probes.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::field::Field;
use crate::{FieldError, Network, Probe, VirtualMachineInstanceSpec};

pub(super) fn check(spec: &VirtualMachineInstanceSpec, at: &Field, errors: &mut Vec<FieldError>) {
    if let Some(probe) = &spec.liveness_probe {
        let at = at.at("livenessProbe");
        self::probe(probe, spec, &at, errors);
        if let Some(threshold) = probe.success_threshold
            && threshold != 1
        {
            errors.push(at.at("successThreshold").error(format!(
                "{threshold} has no meaning for a livenessProbe; write 1"
            )));
        }
    }
    if let Some(probe) = &spec.readiness_probe {
        self::probe(probe, spec, &at.at("readinessProbe"), errors);
    }
}

fn probe(
    probe: &Probe,
    spec: &VirtualMachineInstanceSpec,
    at: &Field,
    errors: &mut Vec<FieldError>,
) {
    let given: Vec<_> = [
        (probe.exec.is_some(), "exec"),
        (probe.guest_agent_ping.is_some(), "guestAgentPing"),
        (probe.http_get.is_some(), "httpGet"),
        (probe.tcp_socket.is_some(), "tcpSocket"),
    ]
    .into_iter()
    .filter_map(|(given, name)| given.then_some(name))
    .collect();
    match given.as_slice() {
        [_] => {}
        [] => errors
            .push(at.error("asks nothing; add exec, guestAgentPing: {}, httpGet or tcpSocket")),
        several => errors.push(at.error(format!(
            "asks {} questions; leave one of {}",
            several.len(),
            several.join(", ")
        ))),
    }
    timing(probe, at, errors);
    if let Some(exec) = &probe.exec
        && exec.command.as_ref().is_none_or(Vec::is_empty)
    {
        let detail = "required; write the command as a list, beginning with its path";
        errors.push(at.at("exec.command").error(detail));
    }
    let ports = [
        ("httpGet", probe.http_get.as_ref().map(|get| &get.port)),
        ("tcpSocket", probe.tcp_socket.as_ref().map(|tcp| &tcp.port)),
    ];
    for (name, asked) in ports {
        let Some(asked) = asked else { continue };
        let at = at.at(name);
        if !spec.networks.iter().any(Network::is_primary) {
            errors.push(at.error(
                "reaches the guest by the pod's network, and it is on none; add pod: {} to \
                 networks, or use guestAgentPing",
            ));
        }
        port(asked, spec, &at.at("port"), errors);
    }
    if let Some(scheme) = probe.http_get.as_ref().and_then(|get| get.scheme.as_ref())
        && !["HTTP", "HTTPS"].contains(&scheme.as_str())
    {
        errors.push(
            at.at("httpGet.scheme")
                .error(format!("{scheme:?} is no scheme; write HTTP or HTTPS")),
        );
    }
}

/// A port's number, or the name that an interface gives one.
fn port(
    port: &IntOrString,
    spec: &VirtualMachineInstanceSpec,
    at: &Field,
    errors: &mut Vec<FieldError>,
) {
    match port {
        IntOrString::Int(number) if !(1..=65535).contains(number) => {
            errors.push(at.error(format!("{number} is no port; use 1 to 65535")));
        }
        IntOrString::Int(_) => {}
        IntOrString::String(name) => {
            let interfaces = &spec.domain.devices.interfaces;
            let mut ports = interfaces.iter().flat_map(|interface| &interface.ports);
            if !ports.any(|port| port.name.as_ref() == Some(name)) {
                errors.push(at.error(format!(
                    "no port is named {name:?}; write a number, or name the port under an \
                     interface's ports"
                )));
            }
        }
    }
}

fn timing(probe: &Probe, at: &Field, errors: &mut Vec<FieldError>) {
    let times = [
        ("initialDelaySeconds", probe.initial_delay_seconds, 0),
        ("timeoutSeconds", probe.timeout_seconds, 1),
        ("periodSeconds", probe.period_seconds, 1),
        ("successThreshold", probe.success_threshold, 1),
        ("failureThreshold", probe.failure_threshold, 1),
    ];
    for (name, value, least) in times {
        if let Some(value) = value.filter(|value| *value < least) {
            errors.push(
                at.at(name)
                    .error(format!("{value} is too little; write at least {least}")),
            );
        }
    }
}
