//! What a guest's agent tells, in the forms of KubeVirt's `guestosinfo`, `userlist` and
//! `filesystemlist`: pure. The guest's word: of bounded length, printable, and otherwise its own.

use serde_json::{Map, Value, json};

use crate::{GuestFilesystem, GuestInfo, GuestOs, GuestUser};

/// The longest text, in characters.
const TEXT: usize = 256;

/// The most entries of a list.
const ENTRIES: usize = 256;

/// `text` as one printable line of at most `limit` characters; `None` where nothing is left.
pub fn line(text: &str, limit: usize) -> Option<String> {
    // What turns the direction of writing is no control character, and hides text all the same.
    let turns = |c| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    let shown = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let shown: String = shown.filter(|c| !turns(*c)).take(limit).collect();
    let shown = shown.trim();
    (!shown.is_empty()).then(|| shown.to_owned())
}

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

/// `VirtualMachineInstanceGuestOSInfo`, without what the agent does not know.
fn os(told: &GuestOs) -> Value {
    let fields = [
        ("id", &told.id),
        ("kernelRelease", &told.kernel_release),
        ("kernelVersion", &told.kernel_version),
        ("machine", &told.machine),
        ("name", &told.name),
        ("prettyName", &told.pretty_name),
        ("version", &told.version),
        ("versionId", &told.version_id),
    ];
    let known = fields
        .into_iter()
        .filter_map(|(name, told)| Some((name.to_owned(), line(told, TEXT)?.into())));
    Value::Object(known.collect::<Map<_, _>>())
}

/// `VirtualMachineInstanceGuestAgentInfo`.
pub fn information(told: &GuestInfo) -> Value {
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
        "os": os(told.os.as_ref().unwrap_or(&GuestOs::default())),
        "timezone": format!("{}, {}", text(&told.timezone), told.timezone_offset_seconds),
        "userList": list(&told.users, user),
        "fsInfo": {"disks": list(&told.filesystems, file_system)},
        "fsFreezeStatus": text(&told.fs_freeze_status),
    })
}

/// `VirtualMachineInstanceGuestOSUserList`.
pub fn users(told: &GuestInfo) -> Value {
    json!({
        "apiVersion": "subresources.kubevirt.io/v1",
        "kind": "VirtualMachineInstanceGuestOSUserList",
        "items": list(&told.users, user),
    })
}

/// `VirtualMachineInstanceFileSystemList`.
pub fn file_systems(told: &GuestInfo) -> Value {
    json!({
        "apiVersion": "subresources.kubevirt.io/v1",
        "kind": "VirtualMachineInstanceFileSystemList",
        "items": list(&told.filesystems, file_system),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_says_is_one_printable_line() {
        let cases = [
            ("debian", Some("debian")),
            ("a\u{1b}[2Jb\r\n", Some("a [2Jb")),
            ("\u{202e}reversed", Some("reversed")),
            ("0123456789", Some("01234567")),
            (" \n\t", None),
        ];
        for (said, shown) in cases {
            assert_eq!(line(said, 8).as_deref(), shown, "{said:?}");
        }
    }

    #[test]
    fn lists_end_and_what_is_not_known_of_the_system_is_left_out() {
        let told = GuestInfo {
            os: Some(GuestOs {
                id: "debian".into(),
                kernel_release: "6.1\n".into(),
                ..GuestOs::default()
            }),
            users: vec![GuestUser::default(); 2 * ENTRIES],
            ..GuestInfo::default()
        };
        assert_eq!(
            information(&told)["os"],
            json!({"id": "debian", "kernelRelease": "6.1"})
        );
        let items = users(&told)["items"].take();
        assert_eq!(items.as_array().map(Vec::len), Some(ENTRIES));
    }
}
