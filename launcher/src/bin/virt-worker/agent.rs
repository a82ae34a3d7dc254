//! The guest's agent: what it is asked, and what its answers are taken for.
//!
//! The guest writes the answers, so nothing in them is believed further than the status that shows
//! them: texts lose what a terminal would obey and are cut, lists are cut, and an address is one, or
//! is left out. libvirt bounds the whole answer (10 MiB) and the time it may take.
//! <https://qemu-project.gitlab.io/qemu/interop/qemu-ga-ref.html>

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use launcher_api::{
    GuestExecReply, GuestFilesystem, GuestInfo, GuestInterface, GuestOs, GuestUser,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::hypervisor::{Guest, Hypervisor, HypervisorError};

/// How long a question may take, in seconds.
const QUESTION: i32 = 5;

/// How long file systems may take to be written out, in seconds: libvirt's own limit for what takes
/// an agent long.
const FREEZE: i32 = 60;

/// The pauses between two looks at a command that runs.
const LOOKS: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// The bytes of a command's output that are handed on.
const OUTPUT: usize = 64 * 1024;

/// The longest text that is taken, in characters.
const LONGEST: usize = 256;

/// The longest list that is taken.
const MOST: usize = 256;

/// Why a command in the guest has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    /// It could not be started, or was lost.
    #[error(transparent)]
    Agent(#[from] HypervisorError),
    /// It goes on in the guest: the agent cannot end it.
    #[error("the command did not end within {} s; it goes on in the guest", .0.as_secs())]
    TimedOut(Duration),
}

/// What the agent is asked with: a command's JSON and its limit in seconds, for an answer's JSON.
type Ask<'a> = &'a dyn Fn(&str, i32) -> Result<String, HypervisorError>;

/// Whether an agent answers at all.
///
/// # Errors
/// Where none does.
pub(crate) fn ping(guest: &Guest) -> Result<(), HypervisorError> {
    ask::<Value>(&asking(guest), "guest-ping", None, QUESTION).map(drop)
}

/// All that the agent tells. What it cannot or may not tell stays empty.
///
/// # Errors
/// Where it does not answer.
pub(crate) fn info(guest: &Guest) -> Result<GuestInfo, HypervisorError> {
    gather(&asking(guest))
}

/// Makes the guest's file systems consistent, and holds what writes to them. One that is frozen
/// already stays so.
///
/// # Errors
/// Where the agent does not say that they are.
pub(crate) fn freeze(guest: &Guest) -> Result<(), HypervisorError> {
    let asking = asking(guest);
    let status: String = ask(&asking, "guest-fsfreeze-status", None, QUESTION)?;
    if status == "frozen" {
        return Ok(());
    }
    ask::<Value>(&asking, "guest-fsfreeze-freeze", None, FREEZE).map(drop)
}

/// Lets the guest write again.
///
/// # Errors
/// Where the agent does not say that it may.
pub(crate) fn thaw(guest: &Guest) -> Result<(), HypervisorError> {
    ask::<Value>(&asking(guest), "guest-fsfreeze-thaw", None, FREEZE).map(drop)
}

/// Runs a command in the guest, as the agent's user, and waits for its end.
///
/// # Errors
/// [`ExecError`].
pub(crate) async fn exec(
    hypervisor: &Hypervisor,
    command: Vec<String>,
    limit: Duration,
) -> Result<GuestExecReply, ExecError> {
    let until = Instant::now() + limit;
    let process = hypervisor
        .call_agent(move |guest| start(&asking(guest), &command))
        .await?;
    let [mut pause, longest] = LOOKS;
    loop {
        let looked = hypervisor.call_agent(move |guest| look(&asking(guest), process));
        if let Some(reply) = looked.await? {
            return Ok(reply);
        }
        if Instant::now() + pause > until {
            return Err(ExecError::TimedOut(limit));
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

fn asking(guest: &Guest) -> impl Fn(&str, i32) -> Result<String, HypervisorError> {
    |command, seconds| guest.ask_agent(command, seconds)
}

fn start(asking: Ask<'_>, command: &[String]) -> Result<i64, HypervisorError> {
    #[derive(Deserialize)]
    struct Started {
        pid: i64,
    }
    let (path, arguments) = command.split_first().unzip();
    let exec = json!({"path": path, "arg": arguments, "capture-output": true});
    let started: Started = ask(asking, "guest-exec", Some(exec), QUESTION)?;
    Ok(started.pid)
}

/// The result of a command, once it has ended.
fn look(asking: Ask<'_>, process: i64) -> Result<Option<GuestExecReply>, HypervisorError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Looked {
        exited: bool,
        #[serde(rename = "exitcode")]
        exit_code: Option<i32>,
        signal: Option<i32>,
        #[serde(default)]
        out_data: String,
        #[serde(default)]
        err_data: String,
    }
    let process = Some(json!({"pid": process}));
    let looked: Looked = ask(asking, "guest-exec-status", process, QUESTION)?;
    if !looked.exited {
        return Ok(None);
    }
    // As a shell has it.
    let killed = looked.signal.map(|signal| signal.saturating_add(128));
    Ok(Some(GuestExecReply {
        exit_code: looked.exit_code.or(killed).unwrap_or(-1),
        stdout: output(&looked.out_data)?,
        stderr: output(&looked.err_data)?,
    }))
}

/// The first bytes of an output in base64.
fn output(text: &str) -> Result<Vec<u8>, HypervisorError> {
    let most = OUTPUT.div_ceil(3) * 4;
    let start = text.as_bytes();
    let start = &start[..start.len().min(most)];
    let mut bytes = STANDARD.decode(start).map_err(misunderstood)?;
    bytes.truncate(OUTPUT);
    Ok(bytes)
}

fn ask<T: DeserializeOwned>(
    asking: Ask<'_>,
    name: &str,
    arguments: Option<Value>,
    seconds: i32,
) -> Result<T, HypervisorError> {
    #[derive(Deserialize)]
    struct Reply<T> {
        #[serde(rename = "return")]
        value: T,
    }
    let mut command = json!({"execute": name});
    if let Some(arguments) = arguments {
        command["arguments"] = arguments;
    }
    let reply: Reply<T> =
        serde_json::from_str(&asking(&command.to_string(), seconds)?).map_err(misunderstood)?;
    Ok(reply.value)
}

fn misunderstood(error: impl std::fmt::Display) -> HypervisorError {
    HypervisorError::Libvirt {
        operation: "understand the guest's agent",
        message: error.to_string(),
    }
}

fn gather(asking: Ask<'_>) -> Result<GuestInfo, HypervisorError> {
    let about: About = ask(asking, "guest-info", None, QUESTION)?;
    let commands = about.supported_commands.into_iter();
    let commands: Vec<String> = commands
        .filter(|command| command.enabled)
        .map(|command| text(command.name))
        .take(MOST)
        .collect();
    let os: Option<Os> = tell(asking, &commands, "guest-get-osinfo")?;
    let host: Option<Host> = tell(asking, &commands, "guest-get-host-name")?;
    let zone: Option<Zone> = tell(asking, &commands, "guest-get-timezone")?;
    let cards: Option<Vec<Card>> = tell(asking, &commands, "guest-network-get-interfaces")?;
    let users: Option<Vec<User>> = tell(asking, &commands, "guest-get-users")?;
    let filesystems: Option<Vec<Filesystem>> = tell(asking, &commands, "guest-get-fsinfo")?;
    let frozen: Option<String> = tell(asking, &commands, "guest-fsfreeze-status")?;
    let zone = zone.unwrap_or_default();
    Ok(GuestInfo {
        agent_version: text(about.version),
        hostname: host.map_or_else(String::new, |host| text(host.host_name)),
        os: os.map(Into::into),
        timezone: text(zone.zone),
        timezone_offset_seconds: zone.offset,
        interfaces: list(cards),
        users: list(users),
        filesystems: list(filesystems),
        fs_freeze_status: frozen.map_or_else(String::new, text),
        supported_commands: commands,
    })
}

/// One question of several: an agent that refuses it may answer the next.
fn tell<T: DeserializeOwned>(
    asking: Ask<'_>,
    commands: &[String],
    name: &str,
) -> Result<Option<T>, HypervisorError> {
    if !commands.iter().any(|command| command == name) {
        return Ok(None);
    }
    match ask(asking, name, None, QUESTION) {
        Ok(told) => Ok(Some(told)),
        Err(HypervisorError::Libvirt { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A text of the guest's that people will see: no control characters, and no more than
/// [`LONGEST`].
fn text(told: String) -> String {
    let seen = told.chars().filter(|character| !character.is_control());
    seen.take(LONGEST).collect()
}

fn list<T: Into<U>, U>(told: Option<Vec<T>>) -> Vec<U> {
    let told = told.into_iter().flatten();
    told.take(MOST).map(Into::into).collect()
}

#[derive(Deserialize)]
struct About {
    version: String,
    supported_commands: Vec<Supported>,
}

#[derive(Deserialize)]
struct Supported {
    name: String,
    enabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Host {
    host_name: String,
}

#[derive(Default, Deserialize)]
struct Zone {
    #[serde(default)]
    zone: String,
    offset: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[derive(Default)]
struct Os {
    id: String,
    name: String,
    pretty_name: String,
    version: String,
    version_id: String,
    kernel_release: String,
    kernel_version: String,
    machine: String,
}

impl From<Os> for GuestOs {
    fn from(os: Os) -> Self {
        Self {
            id: text(os.id),
            name: text(os.name),
            pretty_name: text(os.pretty_name),
            version: text(os.version),
            version_id: text(os.version_id),
            kernel_release: text(os.kernel_release),
            kernel_version: text(os.kernel_version),
            machine: text(os.machine),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Card {
    name: String,
    #[serde(default)]
    hardware_address: String,
    #[serde(default)]
    ip_addresses: Vec<CardAddress>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct CardAddress {
    ip_address: String,
    prefix: u8,
}

impl From<Card> for GuestInterface {
    fn from(card: Card) -> Self {
        let mac = card.hardware_address.to_ascii_lowercase();
        let addresses = card.ip_addresses.into_iter().filter_map(|address| {
            let ip: IpAddr = address.ip_address.parse().ok()?;
            let longest = if ip.is_ipv4() { 32 } else { 128 };
            (address.prefix <= longest).then(|| format!("{ip}/{}", address.prefix))
        });
        Self {
            name: text(card.name),
            mac: if is_mac(&mac) { mac } else { String::new() },
            addresses: addresses.take(MOST).collect(),
        }
    }
}

fn is_mac(text: &str) -> bool {
    let octet = |octet: &str| octet.len() == 2 && octet.bytes().all(|c| c.is_ascii_hexdigit());
    text.split(':').count() == 6 && text.split(':').all(octet)
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    user: String,
    #[serde(default)]
    domain: String,
    login_time: f64,
}

impl From<User> for GuestUser {
    fn from(user: User) -> Self {
        Self {
            name: text(user.user),
            domain: text(user.domain),
            login_time: user.login_time,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Filesystem {
    name: String,
    mountpoint: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    used_bytes: u64,
    #[serde(default)]
    total_bytes: u64,
}

impl From<Filesystem> for GuestFilesystem {
    fn from(filesystem: Filesystem) -> Self {
        Self {
            disk_name: text(filesystem.name),
            mount_point: text(filesystem.mountpoint),
            r#type: text(filesystem.kind),
            used_bytes: filesystem.used_bytes,
            total_bytes: filesystem.total_bytes,
        }
    }
}

#[cfg(test)]
mod tests;
