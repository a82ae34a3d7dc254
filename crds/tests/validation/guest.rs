//! Rules about credentials and probes.

use crate::check;

#[test]
fn access_credentials() {
    const SEED: &str = "volumes: [{name: root, cloudInitNoCloud: {userData: a}}]";
    let with = |credential: &str| format!("{{accessCredentials: [{credential}], {SEED}}}");
    let cases = [
        (
            "{}",
            "spec.accessCredentials[0]: says nothing; add sshPublicKey",
        ),
        (
            "{userPassword: {source: {secret: {secretName: s}}, propagationMethod: {qemuGuestAgent: {}}}}",
            "spec.accessCredentials[0].userPassword: not supported yet; set the password in cloud-init user data",
        ),
        (
            "{sshPublicKey: {source: {secret: {secretName: s}}}}",
            "spec.accessCredentials[0].sshPublicKey.propagationMethod: required; add it",
        ),
        (
            "{sshPublicKey: {source: {secret: {secretName: s}}, propagationMethod: {qemuGuestAgent: {users: [a]}}}}",
            "spec.accessCredentials[0].sshPublicKey.propagationMethod.qemuGuestAgent: not supported yet; use noCloud or configDrive",
        ),
        (
            "{sshPublicKey: {source: {secret: {secretName: s}}, propagationMethod: {}}}",
            "spec.accessCredentials[0].sshPublicKey.propagationMethod: says nothing; add noCloud: {} or configDrive: {}",
        ),
        (
            "{sshPublicKey: {source: {secret: {secretName: s}}, propagationMethod: {noCloud: {}, configDrive: {}}}}",
            "spec.accessCredentials[0].sshPublicKey.propagationMethod.configDrive: excludes noCloud; leave one of the two",
        ),
        (
            "{sshPublicKey: {source: {secret: {secretName: s}}, propagationMethod: {configDrive: {}}}}",
            "spec.accessCredentials[0].sshPublicKey.propagationMethod.configDrive: needs a volume cloudInitConfigDrive; add one",
        ),
        (
            "{sshPublicKey: {source: {}, propagationMethod: {noCloud: {}}}}",
            "spec.accessCredentials[0].sshPublicKey.source.secret: required; name the secret that holds the keys",
        ),
        (
            "{sshPublicKey: {source: {secret: {secretName: S}}, propagationMethod: {noCloud: {}}}}",
            r#"spec.accessCredentials[0].sshPublicKey.source.secret.secretName: "S" is no secret's name; write the name of one in the same namespace"#,
        ),
    ];
    for (credential, line) in cases {
        check(&[(&with(credential), line)]);
    }
    check(&[(
        "accessCredentials: [{sshPublicKey: {source: {secret: {secretName: s}}, propagationMethod: {noCloud: {}}}}]",
        "spec.accessCredentials[0].sshPublicKey.propagationMethod.noCloud: needs a volume cloudInitNoCloud; add one",
    )]);
}

#[test]
fn probes() {
    check(&[
        (
            "readinessProbe: {}",
            "spec.readinessProbe: asks nothing; add exec, guestAgentPing: {}, httpGet or tcpSocket",
        ),
        (
            "livenessProbe: {guestAgentPing: {}, exec: {command: [/bin/true]}}",
            "spec.livenessProbe: asks 2 questions; leave one of exec, guestAgentPing",
        ),
        (
            "livenessProbe: {exec: {}}",
            "spec.livenessProbe.exec.command: required; write the command as a list, beginning with its path",
        ),
        (
            "livenessProbe: {grpc: {port: 1}}",
            "spec.livenessProbe.grpc: no such field in kubevirt.io/v1; check its spelling and its place",
        ),
        (
            "readinessProbe: {tcpSocket: {}}",
            "spec.readinessProbe.tcpSocket.port: 0 is no port; use 1 to 65535",
        ),
        (
            "readinessProbe: {tcpSocket: {port: 65536}}",
            "spec.readinessProbe.tcpSocket.port: 65536 is no port; use 1 to 65535",
        ),
        (
            "readinessProbe: {httpGet: {port: web}}",
            r#"spec.readinessProbe.httpGet.port: no port is named "web"; write a number, or name the port under an interface's ports"#,
        ),
        (
            "readinessProbe: {httpGet: {port: 80, scheme: ftp}}",
            r#"spec.readinessProbe.httpGet.scheme: "ftp" is no scheme; write HTTP or HTTPS"#,
        ),
        (
            "{readinessProbe: {tcpSocket: {port: 22}}, networks: [{name: default, pod: null, multus: {networkName: blue}}]}",
            "spec.readinessProbe.tcpSocket: reaches the guest by the pod's network, and it is on none; add pod: {} to networks, or use guestAgentPing",
        ),
        (
            "livenessProbe: {guestAgentPing: {}, successThreshold: 2}",
            "spec.livenessProbe.successThreshold: 2 has no meaning for a livenessProbe; write 1",
        ),
        (
            "readinessProbe: {guestAgentPing: {}, initialDelaySeconds: -1}",
            "spec.readinessProbe.initialDelaySeconds: -1 is too little; write at least 0",
        ),
        (
            "readinessProbe: {guestAgentPing: {}, timeoutSeconds: 0}",
            "spec.readinessProbe.timeoutSeconds: 0 is too little; write at least 1",
        ),
        (
            "readinessProbe: {guestAgentPing: {}, periodSeconds: 0}",
            "spec.readinessProbe.periodSeconds: 0 is too little; write at least 1",
        ),
        (
            "readinessProbe: {guestAgentPing: {}, successThreshold: 0}",
            "spec.readinessProbe.successThreshold: 0 is too little; write at least 1",
        ),
        (
            "readinessProbe: {guestAgentPing: {}, failureThreshold: -3}",
            "spec.readinessProbe.failureThreshold: -3 is too little; write at least 1",
        ),
    ]);
}
