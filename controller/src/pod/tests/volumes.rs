//! What is mounted, and where.

use super::*;
use crate::pod::volumes::{Volumes, volumes};

/// What comes on top of the pod's own directories.
fn made(spec: Value, context: &Context) -> Result<Volumes, RenderError> {
    let own = volumes(&instance(json!({})), &super::context())?;
    let mut made = volumes(&instance(spec), context)?;
    made.volumes.retain(|volume| !own.volumes.contains(volume));
    made.mounts.retain(|mount| !own.mounts.contains(mount));
    Ok(made)
}

fn cluster() -> Context {
    let mut context = context();
    context.settings.host_disk = true;
    context.claims = vec![claim("files", "Filesystem"), claim("device", "Block")];
    context
}

#[test]
fn the_pod_has_directories_of_its_own() {
    let own = volumes(&instance(json!({})), &context()).unwrap();
    assert_eq!(
        json!(own.volumes),
        json!([
            {"name": "runtime", "emptyDir": {}},
            {"name": "container-disks", "emptyDir": {}},
            {"name": "podinfo", "downwardAPI": {"items": [{
                "path": "vmi",
                "fieldRef": {"fieldPath": "metadata.annotations['ferrovirt.io/vmi']"},
            }]}},
        ])
    );
    assert_eq!(
        json!(own.mounts),
        json!([
            {"name": "runtime", "mountPath": "/run/virt-launcher"},
            {"name": "container-disks", "mountPath": "/run/container-disks"},
            {"name": "podinfo", "mountPath": "/etc/podinfo", "readOnly": true},
        ])
    );
    assert_eq!(own.devices, []);
}

#[test]
fn each_source_is_mounted_where_the_launcher_looks() {
    let mount = |name: &str, path: &str| json!({"name": name, "mountPath": format!("/run/virt-launcher/{path}")});
    let read_only = |name: &str, path: &str| {
        let mut mount = mount(name, path);
        mount["readOnly"] = json!(true);
        mount
    };
    let cases = [
        (
            json!({"persistentVolumeClaim": {"claimName": "files"}}),
            json!([{"name": "disk-v", "persistentVolumeClaim": {"claimName": "files"}}]),
            json!([mount("disk-v", "claims/v")]),
        ),
        (
            json!({"persistentVolumeClaim": {"claimName": "files", "readOnly": true}}),
            json!([{
                "name": "disk-v",
                "persistentVolumeClaim": {"claimName": "files", "readOnly": true},
            }]),
            json!([read_only("disk-v", "claims/v")]),
        ),
        (
            json!({"ephemeral": {"persistentVolumeClaim": {"claimName": "files"}}}),
            json!([{"name": "disk-v", "persistentVolumeClaim": {"claimName": "files"}}]),
            json!([read_only("disk-v", "claims/v")]),
        ),
        (
            json!({"hostDisk": {"path": "/disks/a/vm.img", "type": "Disk"}}),
            json!([{"name": "disk-v", "hostPath": {"path": "/disks/a", "type": "Directory"}}]),
            json!([mount("disk-v", "host-disks/v")]),
        ),
        (
            json!({"hostDisk": {"path": "/vm.img", "type": "DiskOrCreate", "capacity": "1Gi"}}),
            json!([{"name": "disk-v", "hostPath": {"path": "/", "type": "DirectoryOrCreate"}}]),
            json!([mount("disk-v", "host-disks/v")]),
        ),
        (
            json!({"cloudInitNoCloud": {
                "secretRef": {"name": "user"}, "networkDataSecretRef": {"name": "network"},
            }}),
            json!([
                {"name": "user-v", "secret": {"secretName": "user"}},
                {"name": "network-v", "secret": {"secretName": "network"}},
            ]),
            json!([
                read_only("user-v", "secrets/v-user"),
                read_only("network-v", "secrets/v-network"),
            ]),
        ),
        (
            json!({"cloudInitConfigDrive": {"secretRef": {"name": "user"}}}),
            json!([{"name": "user-v", "secret": {"secretName": "user"}}]),
            json!([read_only("user-v", "secrets/v-user")]),
        ),
        (
            json!({"configMap": {"name": "map", "optional": true, "volumeLabel": "label"}}),
            json!([{"name": "disk-v", "configMap": {"name": "map", "optional": true}}]),
            json!([read_only("disk-v", "config/v")]),
        ),
        (
            json!({"secret": {"secretName": "key", "optional": false}}),
            json!([{"name": "disk-v", "secret": {"secretName": "key", "optional": false}}]),
            json!([read_only("disk-v", "config/v")]),
        ),
        (
            json!({"downwardAPI": {"fields": [
                {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
            ]}}),
            json!([{"name": "disk-v", "downwardAPI": {"items": [
                {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
            ]}}]),
            json!([read_only("disk-v", "config/v")]),
        ),
        (
            json!({"serviceAccount": {"serviceAccountName": "robot"}}),
            json!([{"name": "disk-v", "projected": {"sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {
                    "name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}],
                }},
                {"downwardAPI": {"items": [
                    {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}},
                ]}},
            ]}}]),
            json!([read_only("disk-v", "config/v")]),
        ),
        // The launcher makes these itself, or is handed them.
        (
            json!({"emptyDisk": {"capacity": "1Gi"}}),
            json!([]),
            json!([]),
        ),
        (
            json!({"containerDisk": {"image": "disk"}}),
            json!([]),
            json!([]),
        ),
        (
            json!({"cloudInitNoCloud": {"userData": "#"}}),
            json!([]),
            json!([]),
        ),
    ];
    for (source, expected, mounts) in cases {
        let mut volume = json!({"name": "v"});
        merge(&mut volume, source.clone());
        let made = made(json!({"volumes": [volume]}), &cluster()).unwrap();
        assert_eq!(json!(made.volumes), expected, "{source}");
        assert_eq!(json!(made.mounts), mounts, "{source}");
        assert_eq!(made.devices, [], "{source}");
    }
}

#[test]
fn a_claim_that_is_a_block_device_is_one_in_the_container() {
    let claim = json!({"claimName": "device"});
    for source in [
        json!({"name": "v", "persistentVolumeClaim": claim}),
        json!({"name": "v", "ephemeral": {"persistentVolumeClaim": claim}}),
    ] {
        let made = made(json!({"volumes": [source]}), &cluster()).unwrap();
        let devices = json!([{"name": "disk-v", "devicePath": "/dev/claims/v"}]);
        assert_eq!(json!(made.devices), devices);
        assert_eq!(made.mounts, []);
        assert_eq!(made.volumes.len(), 1);
    }
}

#[test]
fn access_credentials_are_mounted_by_their_place() {
    let credential = |secret: &str| {
        json!({"sshPublicKey": {
            "source": {"secret": {"secretName": secret}},
            "propagationMethod": {"noCloud": {}},
        }})
    };
    let spec = json!({"accessCredentials": [credential("ada"), credential("bob")]});
    let made = made(spec, &context()).unwrap();
    assert_eq!(
        json!(made.volumes),
        json!([
            {"name": "access-0", "secret": {"secretName": "ada"}},
            {"name": "access-1", "secret": {"secretName": "bob"}},
        ])
    );
    let paths: Vec<_> = made
        .mounts
        .iter()
        .map(|mount| mount.mount_path.as_str())
        .collect();
    let expected = [
        "/run/virt-launcher/secrets/access-0",
        "/run/virt-launcher/secrets/access-1",
    ];
    assert_eq!(paths, expected);
}

#[test]
fn no_name_of_a_volume_takes_that_of_another() {
    let long = "v".repeat(63);
    let other = format!("{}w", "v".repeat(62));
    let names = [
        "runtime",
        "podinfo",
        "container-disks",
        "access-0",
        &long,
        &other,
    ];
    let volumes: Vec<_> = names
        .iter()
        .map(|name| json!({"name": name, "configMap": {"name": "map"}}))
        .collect();
    let made = super::super::volumes::volumes(&instance(json!({"volumes": volumes})), &context());
    let made = made.unwrap().volumes;
    let unique: HashSet<_> = made.iter().map(|volume| &volume.name).collect();
    assert_eq!(unique.len(), 3 + names.len());
    assert!(unique.iter().all(|name| name.len() <= 63), "{unique:?}");
}

#[test]
fn what_cannot_be_mounted_is_refused() {
    let cases = [
        (
            json!({"name": "v", "persistentVolumeClaim": {"claimName": "absent"}}),
            r#"spec.volumes["v"]: the claim "absent" does not exist; create it"#,
        ),
        (
            json!({"name": "v", "ephemeral": {"persistentVolumeClaim": {"claimName": "absent"}}}),
            r#"spec.volumes["v"]: the claim "absent" does not exist; create it"#,
        ),
        (
            json!({"name": "v", "hostDisk": {"path": "/disks/vm.img", "type": "Disk"}}),
            r#"spec.volumes["v"].hostDisk: needs the feature gate HostDisk; use a persistentVolumeClaim, or add the gate to configuration.developerConfiguration.featureGates of the KubeVirt object"#,
        ),
    ];
    for (volume, expected) in cases {
        let error = made(json!({"volumes": [volume]}), &context()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}
