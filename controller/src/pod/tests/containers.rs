//! Which containers there are, and what they execute.

use k8s_openapi::api::core::v1::Container;

use super::*;

fn containers(spec: Value, context: &Context) -> Vec<Container> {
    render(&instance(spec), context)
        .unwrap()
        .spec
        .unwrap()
        .containers
}

fn command(container: &Container) -> String {
    container.command.clone().unwrap().join(" ")
}

#[test]
fn compute_is_told_what_it_waits_for() {
    let mut context = context();
    let spec = json!({
        "domain": {
            "firmware": {"kernelBoot": {"container": {
                "image": "kernel", "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd",
            }}},
            "devices": {"disks": []},
        },
        "volumes": [
            {"name": "root", "containerDisk": {"image": "root:1", "path": "/images/root.img"}},
            {"name": "scratch", "emptyDisk": {"capacity": "1Gi"}},
            {"name": "iso", "containerDisk": {"image": "iso", "imagePullPolicy": "Never"}},
        ],
    });
    let made = containers(spec, &context);
    let shown: Vec<_> = made
        .iter()
        .map(|container| {
            let policy = container.image_pull_policy.as_deref();
            (
                container.name.as_str(),
                container.image.as_deref().unwrap(),
                policy.unwrap_or_default(),
                command(container),
            )
        })
        .collect();
    let expected = [
        (
            "compute",
            "ferrovirt/virt-launcher:v0.1.0",
            "",
            "virt-launcher init --accelerator kvm --vmi /etc/podinfo/vmi --expect eth0=$(POD_IPS) \
             --container-disk root --container-disk iso --kernel-boot",
        ),
        (
            "volumeroot",
            "root:1",
            "IfNotPresent",
            "/ferrovirt/virt-sidecar container-disk --socket \
             /run/container-disks/volume-root.sock --image /images/root.img",
        ),
        (
            "volumeiso",
            "iso",
            "Never",
            "/ferrovirt/virt-sidecar container-disk --socket \
             /run/container-disks/volume-iso.sock",
        ),
        (
            "kernel-boot",
            "kernel",
            "Always",
            "/ferrovirt/virt-sidecar container-disk --socket /run/container-disks/kernel-boot.sock \
             --kernel /boot/vmlinuz --initrd /boot/initrd",
        ),
        (
            "guest-console-log",
            "ferrovirt/virt-launcher:v0.1.0",
            "",
            "virt-sidecar console-log --file /run/virt-launcher/serial0.log \
             --lock /run/virt-launcher/init.lock",
        ),
    ];
    let expected =
        expected.map(|(name, image, policy, command)| (name, image, policy, command.to_owned()));
    assert_eq!(shown, expected);

    context.settings.use_emulation = true;
    context.settings.image_pull_policy = Some(crds::PullPolicy::Always);
    let made = containers(json!({}), &context);
    assert!(command(&made[0]).contains("--accelerator tcg"));
    assert!(
        made.iter()
            .all(|made| made.image_pull_policy.as_deref() == Some("Always"))
    );
}

#[test]
fn the_console_has_a_log_unless_somebody_says_no() {
    let cases = [
        (json!({}), false, true),
        (json!({}), true, false),
        (json!({"logSerialConsole": true}), true, true),
        (json!({"logSerialConsole": false}), false, false),
        (json!({"autoattachSerialConsole": false}), false, false),
        (
            json!({"autoattachSerialConsole": false, "logSerialConsole": true}),
            false,
            false,
        ),
    ];
    for (devices, disabled, expected) in cases {
        let mut context = context();
        context.settings.serial_console_log_disabled = disabled;
        let made = containers(json!({"domain": {"devices": devices}}), &context);
        let found = made.iter().any(|made| made.name == "guest-console-log");
        assert_eq!(found, expected, "{devices}, {disabled}");
    }
}

#[test]
fn disks_of_one_image_have_a_container_each() {
    let disk = |name: &str| json!({"name": name, "containerDisk": {"image": "disk:1"}});
    let long = "d".repeat(63);
    let made = containers(
        json!({"volumes": [disk("a"), disk("b"), disk(&long)]}),
        &context(),
    );
    let names: Vec<_> = made.iter().map(|made| made.name.as_str()).collect();
    let cut = format!("volume{}-6k0q2", "d".repeat(51));
    assert_eq!(
        names,
        ["compute", "volumea", "volumeb", &cut, "guest-console-log"]
    );
    assert_eq!(cut.len(), 63);
}

#[test]
fn ports_of_the_interfaces_are_the_pods() {
    let spec = json!({
        "domain": {"devices": {"interfaces": [{"name": "default", "ports": [
            {"name": "web", "port": 80}, {"port": 53, "protocol": "UDP"},
        ]}]}},
        "networks": [{"name": "default", "pod": {}}],
    });
    let made = containers(spec, &context());
    assert_eq!(
        json!(made[0].ports),
        json!([
            {"name": "web", "containerPort": 80, "protocol": "TCP"},
            {"containerPort": 53, "protocol": "UDP"},
        ])
    );
}

#[test]
fn probes_are_computes() {
    let made = containers(
        json!({
            "readinessProbe": {"tcpSocket": {"port": 22}},
            "livenessProbe": {"guestAgentPing": {}},
        }),
        &context(),
    );
    let readiness = made[0].readiness_probe.as_ref().unwrap();
    assert_eq!(json!(readiness.tcp_socket), json!({"port": 22}));
    assert!(made[0].liveness_probe.as_ref().unwrap().exec.is_some());
    assert!(made[1].readiness_probe.is_none());
}

#[test]
fn the_grace_period_is_the_guests_and_the_launchers() {
    let cases = [
        (json!({}), 60),
        (json!({"terminationGracePeriodSeconds": 0}), 30),
        (json!({"terminationGracePeriodSeconds": 300}), 330),
    ];
    for (spec, expected) in cases {
        let pod = render(&instance(spec), &context()).unwrap();
        assert_eq!(
            pod.spec.unwrap().termination_grace_period_seconds,
            Some(expected)
        );
    }
}

#[test]
fn each_pull_secret_is_named_once() {
    let disk = |name: &str, secret: &str| json!({"name": name, "containerDisk": {"image": "i", "imagePullSecret": secret}});
    let boot = json!({"image": "k", "kernelPath": "/k", "imagePullSecret": "c"});
    let pod = render(
        &instance(json!({
            "volumes": [disk("1", "b"), disk("2", "a"), disk("3", "b")],
            "domain": {"firmware": {"kernelBoot": {"container": boot}}},
        })),
        &context(),
    );
    let secrets = pod.unwrap().spec.unwrap().image_pull_secrets;
    assert_eq!(
        json!(secrets),
        json!([{"name": "b"}, {"name": "a"}, {"name": "c"}])
    );
}

#[test]
fn the_service_account_is_the_volumes_or_the_instances() {
    let volume = json!([{"name": "t", "serviceAccount": {"serviceAccountName": "volume"}}]);
    let cases = [
        (json!({}), None),
        (json!({"serviceAccountName": "own"}), Some("own")),
        (json!({"volumes": volume}), Some("volume")),
    ];
    for (spec, expected) in cases {
        let spec = render(&instance(spec), &context()).unwrap().spec.unwrap();
        assert_eq!(spec.service_account_name.as_deref(), expected);
        assert_eq!(spec.automount_service_account_token, Some(false));
    }
}

#[test]
fn no_volumes_name_is_anybody_elses_socket() {
    let spec = json!({
        "domain": {
            "firmware": {"kernelBoot": {"container": {
                "image": "kernel", "kernelPath": "/boot/vmlinuz",
            }}},
            "devices": {"disks": []},
        },
        "volumes": [
            {"name": "kernel-boot", "containerDisk": {"image": "one"}},
            {"name": "init", "containerDisk": {"image": "two"}},
            {"name": "volume-init", "containerDisk": {"image": "three"}},
        ],
    });
    let made = containers(spec, &context());
    let sockets = made.iter().filter_map(|container| {
        let command = container.command.as_deref()?;
        let option = command.iter().position(|word| word == "--socket")?;
        command
            .get(option + 1)?
            .strip_prefix("/run/container-disks/")
    });
    let expected = [
        "volume-kernel-boot.sock",
        "volume-init.sock",
        "volume-volume-init.sock",
        "kernel-boot.sock",
    ];
    assert_eq!(sockets.collect::<Vec<_>>(), expected);
}
