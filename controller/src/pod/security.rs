//! Who the pod's processes are, and what they may do.
//!
//! Nothing here is privileged. The capabilities that `compute` is given are for its first moments:
//! init gives all of them up before it starts the worker, so before the guest's first instruction.

use k8s_openapi::api::core::v1::{
    Capabilities, PodSecurityContext, SeccompProfile, SecurityContext,
};

/// The user and group that worker and QEMU run as: KubeVirt's `qemu`.
pub(super) const QEMU_ID: i64 = 107;

/// What init's set-up takes: links and their settings (NET_ADMIN), packet sockets (NET_RAW), and
/// then to give up root and every capability (SETUID, SETGID, SETPCAP).
const SET_UP: [&str; 5] = ["NET_ADMIN", "NET_RAW", "SETUID", "SETGID", "SETPCAP"];

/// The whole pod's: files of its volumes belong to QEMU's group.
pub(super) fn pod() -> PodSecurityContext {
    PodSecurityContext {
        fs_group: Some(QEMU_ID),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

/// That of `compute`, which starts as root: file capabilities are void under no_new_privs.
pub(super) fn compute() -> SecurityContext {
    SecurityContext {
        capabilities: Some(capabilities(&SET_UP)),
        run_as_user: Some(0),
        ..confined()
    }
}

/// That of every other container.
pub(super) fn helper() -> SecurityContext {
    SecurityContext {
        capabilities: Some(capabilities(&[])),
        run_as_group: Some(QEMU_ID),
        run_as_non_root: Some(true),
        run_as_user: Some(QEMU_ID),
        ..confined()
    }
}

fn confined() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}

fn capabilities(added: &[&str]) -> Capabilities {
    let added: Vec<_> = added.iter().map(|name| (*name).to_owned()).collect();
    Capabilities {
        add: (!added.is_empty()).then_some(added),
        drop: Some(vec!["ALL".to_owned()]),
    }
}
