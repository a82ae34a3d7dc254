//! What a scrape says.

use kube_runtime::reflector::store;
use kube_runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;

fn vm(status: Value) -> VirtualMachine {
    let object = json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {
            "name": "web",
            "namespace": "default",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "runStrategy": "Always",
            "template": {
                "metadata": { "annotations": { "vm.kubevirt.io/os": "debian" } },
                "spec": { "domain": { "devices": {} } },
            },
        },
        "status": status,
    });
    serde_json::from_value(object).unwrap()
}

fn vmi(name: &str, status: Value) -> VirtualMachineInstance {
    let object = json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {
            "name": name,
            "namespace": "default",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": { "domain": { "devices": {} }, "evictionStrategy": "LiveMigrate" },
        "status": status,
    });
    serde_json::from_value(object).unwrap()
}

fn running(seconds: [u32; 2]) -> Value {
    let reached = ["Scheduled", "Running"].into_iter().zip(seconds);
    let reached = reached.map(|(phase, second)| {
        let time = format!("2026-01-01T00:00:{second:02}Z");
        json!({ "phase": phase, "phaseTransitionTimestamp": time })
    });
    json!({
        "phase": "Running",
        "nodeName": "node1",
        "interfaces": [{ "name": "default", "ipAddress": "10.244.1.7", "interfaceName": "eth0" }],
        "guestOSInfo": { "name": "A \"name\"\nin two lines" },
        "phaseTransitionTimestamps": reached.collect::<Vec<_>>(),
    })
}

/// The lines of a scrape that begin with `name`, without comments.
fn scraped<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.starts_with(name)).collect()
}

fn metrics(vms: &[VirtualMachine], vmis: &[VirtualMachineInstance]) -> Metrics {
    let (vm_store, mut vm_writer) = store();
    let (vmi_store, mut vmi_writer) = store();
    for vm in vms {
        vm_writer.apply_watcher_event(&Event::Apply(vm.clone()));
    }
    for vmi in vmis {
        vmi_writer.apply_watcher_event(&Event::Apply(vmi.clone()));
    }
    Metrics::new(vm_store, vmi_store)
}

#[test]
fn objects_are_told_by_the_leader_alone() {
    let status = json!({
        "printableStatus": "Running",
        "conditions": [
            { "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:01:00Z" },
        ],
    });
    let vmis = [
        vmi("web", running([1, 3])),
        vmi("db", running([1, 3])),
        vmi("new", json!({})),
    ];
    let metrics = metrics(&[vm(status)], &vmis);
    let text = metrics.encode();
    assert_eq!(scraped(&text, "kubevirt_vm_info"), [""; 0]);
    let leading = scraped(&text, "kubevirt_virt_controller_leading_status");
    assert_eq!(leading, ["kubevirt_virt_controller_leading_status 0"]);

    metrics.set_leading(true);
    let text = metrics.encode();
    let expected = [
        (
            "kubevirt_vm_info",
            vec![
                "kubevirt_vm_info{namespace=\"default\",name=\"web\",os=\"debian\",\
                 status=\"running\",status_group=\"running\"} 1",
            ],
        ),
        (
            "kubevirt_vm_running_status_last_transition_timestamp_seconds",
            vec![
                "kubevirt_vm_running_status_last_transition_timestamp_seconds{name=\"web\",\
                 namespace=\"default\"} 1767225660",
            ],
        ),
        (
            "kubevirt_vm_error_status_last_transition_timestamp_seconds",
            vec![
                "kubevirt_vm_error_status_last_transition_timestamp_seconds{name=\"web\",\
                 namespace=\"default\"} 0",
            ],
        ),
        (
            "kubevirt_vm_create_date_timestamp_seconds",
            vec![
                "kubevirt_vm_create_date_timestamp_seconds{name=\"web\",namespace=\"default\"} \
                 1767225600",
            ],
        ),
        (
            "kubevirt_vmi_phase_count",
            vec![
                "kubevirt_vmi_phase_count{} 1",
                "kubevirt_vmi_phase_count{node=\"node1\",phase=\"running\"} 2",
            ],
        ),
        (
            "kubevirt_vmi_info{node=\"node1\",namespace=\"default\",name=\"web\"",
            vec![
                "kubevirt_vmi_info{node=\"node1\",namespace=\"default\",name=\"web\",\
                 phase=\"running\",guest_os_name=\"A \\\"name\\\"\\nin two lines\",\
                 evictable=\"false\"} 1",
            ],
        ),
        (
            "kubevirt_vmi_status_addresses{node=\"node1\",namespace=\"default\",name=\"db\"",
            vec![
                "kubevirt_vmi_status_addresses{node=\"node1\",namespace=\"default\",name=\"db\",\
                 vnic_name=\"default\",interface_name=\"eth0\",address=\"10.244.1.7\",\
                 type=\"ExternalInterface\"} 1",
            ],
        ),
        (
            "kubevirt_virt_controller_leading_status",
            vec!["kubevirt_virt_controller_leading_status 1"],
        ),
    ];
    for (name, lines) in expected {
        assert_eq!(scraped(&text, name), lines);
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn phases_are_timed_once() {
    let metrics = metrics(&[], &[]);
    let before = json!({
        "phase": "Scheduled",
        "phaseTransitionTimestamps": [
            { "phase": "Scheduled", "phaseTransitionTimestamp": "2026-01-01T00:00:01Z" },
        ],
    });
    let (scheduled, running) = (vmi("web", before), vmi("web", running([1, 3])));
    metrics.observe(&scheduled, &running);
    metrics.observe(&running, &running);
    metrics.observe(&running, &vmi("web", json!({})));
    let text = metrics.encode();
    let creation = "kubevirt_vmi_phase_transition_time_from_creation_seconds";
    let transition = "kubevirt_vmi_phase_transition_time_seconds";
    for line in [
        format!("{creation}_sum{{phase=\"Running\"}} 3.0"),
        format!("{creation}_count{{phase=\"Running\"}} 1"),
        format!("{transition}_sum{{phase=\"Running\",last_phase=\"Scheduled\"}} 2.0"),
        format!("{transition}_count{{phase=\"Running\",last_phase=\"Scheduled\"}} 1"),
    ] {
        assert_eq!(scraped(&text, &line), [line.as_str()], "{text}");
    }
}

#[test]
fn an_end_is_timed_from_deletion_and_never_below_none() {
    let metrics = metrics(&[], &[]);
    let mut ended = vmi(
        "web",
        json!({
            "phase": "Succeeded",
            "phaseTransitionTimestamps": [
                { "phase": "Succeeded", "phaseTransitionTimestamp": "2026-01-01T00:01:00Z" },
            ],
        }),
    );
    let deleted = "2026-01-01T00:01:10Z".parse().unwrap();
    let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(deleted);
    ended.metadata.deletion_timestamp = Some(time);
    metrics.observe(&vmi("web", running([1, 3])), &ended);
    let text = metrics.encode();
    let name = "kubevirt_vmi_phase_transition_time_from_deletion_seconds";
    let line = format!("{name}_sum{{phase=\"Succeeded\"}} 0.0");
    assert_eq!(scraped(&text, &line), [line.as_str()]);
}

#[test]
fn a_queue_has_its_name() {
    let metrics = metrics(&[], &[]);
    let queue = metrics.queue("virt-controller-vmi");
    queue.adds.inc();
    queue.depth.set(3);
    queue.waited.observe(0.2);
    let text = metrics.encode();
    for line in [
        "kubevirt_workqueue_adds_total{name=\"virt-controller-vmi\"} 1",
        "kubevirt_workqueue_depth{name=\"virt-controller-vmi\"} 3",
        "kubevirt_workqueue_queue_duration_seconds_count{name=\"virt-controller-vmi\"} 1",
    ] {
        assert_eq!(scraped(&text, line), [line]);
    }
}
