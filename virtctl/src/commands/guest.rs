//! `guestosinfo`, `userlist`, `fslist`: what the guest's agent tells, as JSON where nothing else is
//! asked for, as KubeVirt's client prints it: scripts read it.

use clap::Args;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::cli::{Global, name};
use crate::print::{Output, Printed, columns, plain};
use crate::target::{Kind, Question};

/// Arguments of `guestosinfo`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    virtctl guestosinfo demo\n  \
    virtctl guestosinfo demo -o table")]
pub struct GuestOsInfo {
    #[command(flatten)]
    asked: Asked,
}

/// Arguments of `userlist`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    virtctl userlist demo | jq -r '.items[].userName'\n  \
    virtctl userlist demo -o table")]
pub struct UserList {
    #[command(flatten)]
    asked: Asked,
}

/// Arguments of `fslist`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    virtctl fslist demo\n  \
    virtctl fslist demo -o table")]
pub struct FsList {
    #[command(flatten)]
    asked: Asked,
}

#[derive(Debug, Args)]
struct Asked {
    /// The VirtualMachineInstance; its machine has the same name.
    #[arg(value_parser = name)]
    name: String,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t = Output::Json, value_name = "FORMAT")]
    output: Output,
}

impl GuestOsInfo {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        self.asked.ask(global, Question::Os, system).await
    }
}

impl UserList {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        self.asked.ask(global, Question::Users, users).await
    }
}

impl FsList {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        self.asked
            .ask(global, Question::Filesystems, filesystems)
            .await
    }
}

impl Asked {
    async fn ask(
        self,
        global: &Global,
        question: Question,
        table: fn(&Value) -> String,
    ) -> anyhow::Result<()> {
        let target = global.target(Kind::Vmi, None, &self.name).await?;
        let answer = target.ask(question).await?;
        let output = self.output;
        Printed { output }.show(&answer, table);
        Ok(())
    }
}

/// The text at `pointer`; `-` where the agent does not know.
fn text(object: &Value, pointer: &str) -> String {
    match object.pointer(pointer).and_then(Value::as_str) {
        None | Some("") => "-".to_owned(),
        Some(text) => plain(text),
    }
}

fn system(info: &Value) -> String {
    let lines = [
        ("Hostname", "/hostname"),
        ("System", "/os/prettyName"),
        ("Kernel", "/os/kernelRelease"),
        ("Machine", "/os/machine"),
        ("Time zone", "/timezone"),
        ("Agent", "/guestAgentVersion"),
        ("File systems", "/fsFreezeStatus"),
    ];
    let line = |(what, pointer)| format!("{:<14}{}\n", format!("{what}:"), text(info, pointer));
    lines.map(line).concat()
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn users(list: &Value) -> String {
    let rows = items(list).map(|user| {
        let since = user["loginTime"].as_f64().map(time);
        vec![
            text(user, "/userName"),
            text(user, "/domain"),
            since.unwrap_or_else(|| "-".to_owned()),
        ]
    });
    columns(&["USER", "DOMAIN", "SINCE"], &rows.collect::<Vec<_>>())
}

fn filesystems(list: &Value) -> String {
    let rows = items(list).map(|disk| {
        let size = |field: &str| disk[field].as_u64().map_or("-".to_owned(), size);
        vec![
            text(disk, "/diskName"),
            text(disk, "/mountPoint"),
            text(disk, "/fileSystemType"),
            size("usedBytes"),
            size("totalBytes"),
        ]
    });
    let header = ["DISK", "MOUNTED ON", "TYPE", "USED", "SIZE"];
    columns(&header, &rows.collect::<Vec<_>>())
}

/// A Unix time, to the second.
fn time(seconds: f64) -> String {
    // The agent's is a fraction; beyond the range, `as` gives the range's end, which is no time.
    match Timestamp::from_second(seconds as i64) {
        Ok(time) => time.to_string(),
        Err(_) => "-".to_owned(),
    }
}

/// A number of bytes, in the largest unit that leaves at least 1 of it.
fn size(bytes: u64) -> String {
    let mut units = ["B", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    let mut size = bytes as f64;
    for next in units {
        if size < 1024.0 {
            break;
        }
        (size, unit) = (size / 1024.0, next);
    }
    if unit == "B" {
        format!("{bytes} B")
    } else {
        format!("{size:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_agent_tells_fits_a_table() {
        let info = json!({
            "guestAgentVersion": "7.2.0",
            "hostname": "demo\u{1b}[2J",
            "os": {"prettyName": "Debian GNU/Linux 12 (bookworm)", "kernelRelease": "6.1.0"},
            "timezone": "UTC, 0",
            "fsFreezeStatus": "thawed",
        });
        assert_eq!(
            system(&info),
            "Hostname:     demo[2J\n\
             System:       Debian GNU/Linux 12 (bookworm)\n\
             Kernel:       6.1.0\n\
             Machine:      -\n\
             Time zone:    UTC, 0\n\
             Agent:        7.2.0\n\
             File systems: thawed\n"
        );
        let list = json!({"items": [
            {"userName": "ferris", "domain": "", "loginTime": 1700000000.25},
            {"userName": "root"},
        ]});
        assert_eq!(
            users(&list),
            "USER     DOMAIN   SINCE\n\
             ferris   -        2023-11-14T22:13:20Z\n\
             root     -        -\n"
        );
        let list = json!({"items": [{
            "diskName": "vda1", "mountPoint": "/", "fileSystemType": "ext4",
            "usedBytes": 1536, "totalBytes": 1u64 << 30,
        }]});
        assert_eq!(
            filesystems(&list),
            "DISK   MOUNTED ON   TYPE   USED     SIZE\n\
             vda1   /            ext4   1.5 Ki   1.0 Gi\n"
        );
    }

    #[test]
    fn no_size_is_out_of_range() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1 << 20, "1.0 Mi"),
            (u64::MAX, "16.0 Ei"),
        ] {
            assert_eq!(size(bytes), shown);
        }
        assert_eq!(time(f64::NAN), "1970-01-01T00:00:00Z");
        assert_eq!(time(f64::INFINITY), "-");
    }
}
