//! Whole pods, and what is true of every one.

use std::collections::BTreeMap;

use crds::manifest::parse;
use k8s_openapi::api::core::v1::{Container, SecurityContext};
use proptest::prelude::*;

use super::*;

/// The pod of a manifest, as if the API server had stored it, in YAML.
fn pod(manifest: &str, context: &Context) -> String {
    let manifest = parse(manifest).unwrap();
    let errors = manifest.validate();
    assert!(errors.is_empty(), "{errors:?}");
    let mut vmi = manifest.into_vmi();
    crds::default(&mut vmi);
    vmi.metadata.uid = Some("0f9e6a4f-57a2-4f4b-a9d7-1d6c58ec1d1a".to_owned());
    vmi.metadata.namespace.get_or_insert("default".to_owned());
    let mut pod = render(&vmi, context).unwrap();
    let annotations = pod.metadata.annotations.as_mut().unwrap();
    // Nobody could read it here, and its own test does.
    annotations.insert(VMI.to_owned(), "{}".to_owned());
    serde_saphyr::to_string(&pod).unwrap()
}

/// The project's own examples.
#[test]
fn examples() {
    for (name, text) in [
        ("vm", include_str!("../../../../examples/vm.yaml")),
        (
            "two_networks",
            include_str!("../../../../examples/vmi-two-networks.yaml"),
        ),
        (
            "kernel_boot",
            include_str!("../../../../examples/vmi-kernel-boot.yaml"),
        ),
    ] {
        insta::assert_snapshot!(name, pod(text, &context()));
    }
}

#[test]
fn a_machine_of_everything() {
    let mut context = context();
    context.settings.host_disk = true;
    context.claims = vec![claim("files", "Filesystem"), claim("device", "Block")];
    let text = include_str!("everything.yaml");
    insta::assert_snapshot!("everything", pod(text, &context));
    context.settings.use_emulation = true;
    context.settings.serial_console_log_disabled = true;
    insta::assert_snapshot!("everything_emulated", pod(text, &context));
}

#[test]
fn a_machine_whose_requests_are_its_limits() {
    let text = include_str!("guaranteed.yaml");
    let yaml = pod(text, &context());
    let pod: Pod = serde_saphyr::from_str(&yaml).unwrap();
    for container in &pod.spec.unwrap().containers {
        let resources = container.resources.as_ref().unwrap();
        let of = |list: &Option<BTreeMap<_, _>>, name| list.as_ref().unwrap().get(name).cloned();
        for name in ["cpu", "memory"] {
            let limit = of(&resources.limits, name);
            assert!(limit.is_some());
            assert_eq!(
                of(&resources.requests, name),
                limit,
                "{}: {name}",
                container.name
            );
        }
    }
    insta::assert_snapshot!("guaranteed", yaml);
}

/// One field of an instance's spec, valid or not.
fn field() -> impl Strategy<Value = Value> {
    let text = || prop_oneof!["[a-z0-9.-]{0,70}", any::<String>()];
    let number = || prop_oneof![Just(0_i64), 0..300_i64, Just(i64::from(u32::MAX))];
    let amount = || {
        prop_oneof![
            (0..u64::MAX).prop_map(|bytes| json!(bytes.to_string())),
            // What is no quantity does not get as far as a pod.
            "[0-9]{1,30}(Ei|Gi|m|n)?"
                .prop_filter("a quantity", |amount| amount
                    .parse::<crds::Quantity>()
                    .is_ok())
                .prop_map(|amount| json!(amount)),
        ]
    };
    let domain = prop_oneof![
        amount().prop_map(|guest| json!({"memory": {"guest": guest}})),
        (amount(), amount()).prop_map(|(memory, cpu)| json!({
            "resources": {"requests": {"memory": memory}, "limits": {"cpu": cpu}},
        })),
        (amount(), amount()).prop_map(|(memory, cpu)| json!({
            "resources": {"requests": {"cpu": cpu}, "limits": {"memory": memory}},
        })),
        text().prop_map(|size| json!({"memory": {"hugepages": {"pageSize": size}}})),
        (number(), number(), number()).prop_map(|(sockets, cores, threads)| json!({
            "cpu": {"sockets": sockets, "cores": cores, "threads": threads},
        })),
        (text(), text()).prop_map(|(model, feature)| json!({
            "cpu": {"model": model, "features": [{"name": feature, "policy": "forbid"}]},
        })),
        any::<bool>().prop_map(|log| json!({"devices": {"logSerialConsole": log}})),
        text()
            .prop_map(|image| json!({"firmware": {"kernelBoot": {"container": {"image": image}}}})),
    ];
    let domain = domain.prop_map(|domain| json!({"domain": domain}));
    prop_oneof![
        domain,
        any::<i64>().prop_map(|seconds| json!({"terminationGracePeriodSeconds": seconds})),
        text().prop_map(|hostname| json!({"hostname": hostname})),
        text().prop_map(|account| json!({"serviceAccountName": account})),
        any::<i32>().prop_map(|seconds| json!({
            "livenessProbe": {"guestAgentPing": {}, "timeoutSeconds": seconds},
        })),
        prop::collection::vec((text(), source(text())), 0..4).prop_map(|volumes| {
            let volumes = volumes.into_iter().map(|(name, mut volume)| {
                volume["name"] = json!(name);
                volume
            });
            json!({"volumes": volumes.collect::<Vec<_>>()})
        }),
        prop::collection::vec((text(), text()), 0..4).prop_map(|networks| {
            let networks = networks.into_iter();
            let networks = networks.map(|(name, network)| {
                json!({
                    "name": name, "multus": {"networkName": network},
                })
            });
            json!({"networks": networks.collect::<Vec<_>>()})
        }),
    ]
}

/// A volume without its name.
fn source(text: impl Strategy<Value = String>) -> impl Strategy<Value = Value> {
    (0..8, text).prop_map(|(kind, text)| match kind {
        0 => json!({"containerDisk": {"image": text, "path": text, "imagePullSecret": text}}),
        1 => json!({"persistentVolumeClaim": {"claimName": "files"}}),
        2 => json!({"persistentVolumeClaim": {"claimName": text}}),
        3 => json!({"hostDisk": {"path": text, "type": "Disk"}}),
        4 => json!({"configMap": {"name": text}}),
        5 => json!({"serviceAccount": {"serviceAccountName": text}}),
        6 => json!({"cloudInitNoCloud": {"secretRef": {"name": text}}}),
        _ => json!({"emptyDisk": {"capacity": "1Gi"}}),
    })
}

/// Whether a container may do nothing but what `compute` does at first.
fn is_confined(container: &Container) -> bool {
    let Some(SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(capabilities),
        privileged: None,
        proc_mount: None,
        read_only_root_filesystem: Some(true),
        run_as_user: Some(user),
        seccomp_profile: None,
        ..
    }) = &container.security_context
    else {
        return false;
    };
    let set_up = ["NET_ADMIN", "NET_RAW", "SETUID", "SETGID", "SETPCAP"].map(str::to_owned);
    let (root, added) = if container.name == COMPUTE {
        (true, Some(set_up.to_vec()))
    } else {
        (false, None)
    };
    (*user == 0) == root
        && capabilities.add == added
        && capabilities.drop == Some(vec!["ALL".to_owned()])
}

proptest! {
    /// Whatever an instance says, its pod is confined, or there is none.
    #[test]
    fn every_pod_is_confined(
        fields in prop::collection::vec(field(), 0..5),
        name in r"([a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?\.){0,2}[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?",
        use_emulation: bool,
        host_disk: bool,
    ) {
        let mut spec = json!({});
        for field in fields {
            merge(&mut spec, field);
        }
        let mut vmi = instance(spec);
        vmi.metadata.name = Some(name);
        let mut context = context();
        context.settings.use_emulation = use_emulation;
        context.settings.host_disk = host_disk;
        context.claims = vec![claim("files", "Filesystem")];
        let Ok(pod) = render(&vmi, &context) else { return Ok(()) };
        prop_assert_eq!(render(&vmi, &context).unwrap(), pod.clone());

        let pod_name = pod.metadata.name.unwrap();
        prop_assert_eq!(&pod_name, &super::super::name(&vmi));
        prop_assert!(pod_name.len() <= 63);
        let inner = |label: &str| label.starts_with('-') || label.ends_with('-');
        prop_assert!(!pod_name.split('.').any(inner), "{}", pod_name);
        let spec = pod.spec.unwrap();
        prop_assert!(spec.containers.iter().all(is_confined));
        prop_assert!(spec.init_containers.is_none() && spec.ephemeral_containers.is_none());
        prop_assert_eq!(spec.automount_service_account_token, Some(false));
        prop_assert!(spec.host_network.is_none() && spec.host_pid.is_none() && spec.host_ipc.is_none());
        let context = spec.security_context.unwrap();
        let seccomp = context.seccomp_profile.map(|profile| profile.type_);
        prop_assert_eq!(seccomp.as_deref(), Some("RuntimeDefault"));
        let volumes = spec.volumes.unwrap();
        let paths = volumes.iter().filter(|volume| volume.host_path.is_some());
        prop_assert!(host_disk || paths.count() == 0);
        // Only a volume of that kind brings a token.
        let tokens = volumes.iter().filter(|volume| volume.projected.is_some()).count();
        let asked = vmi.spec.volumes.iter().filter(|volume| volume.service_account.is_some());
        prop_assert_eq!(tokens, asked.count());
    }
}
