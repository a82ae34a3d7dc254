//! What a guest's agent tells, in the forms of KubeVirt's `guestosinfo`, `userlist` and
//! `filesystemlist`: pure. The guest's word: of bounded length, printable, and otherwise its own.

use launcher_api::{GuestFilesystem, GuestInfo, GuestUser};
use serde_json::{Value, json};

use crate::status::{Guest, line};

/// The longest text, in characters.
const TEXT: usize = 256;

/// The most entries of a list.
const ENTRIES: usize = 256;

fn text(told: &str) -> String {
    line(told, TEXT).unwrap_or_default()
}

fn list<T>(told: &[T], show: impl Fn(&T) -> Value) -> Vec<Value> {
    told.iter().take(ENTRIES).map(show).collect()
}

fn user(user: &GuestUser) -> Value {
    json!({
        "userName": text(&user.name),
        "domain": text(&user.domain),
        "loginTime": user.login_time,
    })
}

fn file_system(found: &GuestFilesystem) -> Value {
    json!({
        "diskName": text(&found.disk_name),
        "mountPoint": text(&found.mount_point),
        "fileSystemType": text(&found.r#type),
        "usedBytes": found.used_bytes,
        "totalBytes": found.total_bytes,
    })
}

/// `VirtualMachineInstanceGuestAgentInfo`.
pub(super) fn information(told: &GuestInfo) -> Value {
    let commands = list(
        &told.supported_commands,
        |name| json!({"name": text(name), "enabled": true}),
    );
    json!({
        "apiVersion": "subresources.kubevirt.io/v1",
        "kind": "VirtualMachineInstanceGuestAgentInfo",
        "guestAgentVersion": text(&told.agent_version),
        "supportedCommands": commands,
        "hostname": text(&told.hostname),
        "os": Guest::from(told.clone()).os,
        "timezone": format!("{}, {}", text(&told.timezone), told.timezone_offset_seconds),
        "userList": list(&told.users, user),
        "fsInfo": {"disks": list(&told.filesystems, file_system)},
        "fsFreezeStatus": text(&told.fs_freeze_status),
    })
}

/// `VirtualMachineInstanceGuestOSUserList`.
pub(super) fn users(told: &GuestInfo) -> Value {
    json!({
        "apiVersion": "subresources.kubevirt.io/v1",
        "kind": "VirtualMachineInstanceGuestOSUserList",
        "items": list(&told.users, user),
    })
}

/// `VirtualMachineInstanceFileSystemList`.
pub(super) fn file_systems(told: &GuestInfo) -> Value {
    json!({
        "apiVersion": "subresources.kubevirt.io/v1",
        "kind": "VirtualMachineInstanceFileSystemList",
        "items": list(&told.filesystems, file_system),
    })
}
