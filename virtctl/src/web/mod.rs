//! `virtctl vnc --web`: a machine's screen and serial console in a browser.
//!
//! ```text
//! browser ─ http://127.0.0.1:PORT/SECRET/ ─▶ page (virtctl/web/dist, embedded)
//!         ─ WebSocket vnc, console ────────▶ relay ─▶ Target::open
//! ```
//!
//! Who has the address has the machine, so only its user may have it. It is served on this
//! machine, below a random path, and a browser is led there by a file that nobody else can read:
//! other users of this machine can read its command line. Another site's page that the same browser shows can send requests
//! here as well: it does not know the path, its `Origin` is refused, and so is a `Host` that is a
//! name, which such a page could have made to lead here (DNS rebinding).

mod guard;
mod page;
mod relay;
mod server;

use std::env;
use std::fs::Permissions;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use tempfile::NamedTempFile;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::target::Target;

/// How the page is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where to listen; port 0 is any that is free.
    pub address: SocketAddr,
    /// Open a browser, where there is one to be seen.
    pub browser: bool,
    /// Leave a VNC session that is open alone.
    pub preserve_session: bool,
}

/// The page is not served.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The address cannot be had.
    #[error("cannot listen on {address}; choose another --port or --address")]
    Listen {
        /// Address and port.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel gave no random bytes.
    #[error("cannot make the page's secret address")]
    Secret(#[from] getrandom::Error),
    /// The address cannot be printed.
    #[error("cannot print the page's address")]
    Print(#[source] io::Error),
    /// The server ended.
    #[error("cannot serve the page")]
    Serve(#[source] io::Error),
}

/// Prints the page's address, and serves it. Returns no other way than with an error.
///
/// # Errors
/// [`WebError`]. What goes wrong with the machine is shown on the page.
pub async fn serve(target: Target, options: &Options) -> Result<(), WebError> {
    let address = options.address;
    let listen = |source| WebError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let bound = listener.local_addr().map_err(listen)?;

    if !address.ip().is_loopback() {
        eprintln!(
            "warning: whoever sees the traffic to {bound} can take the machine over: it is not encrypted"
        );
    }
    eprintln!("The screen of {} until Ctrl-C:", target.name());
    let secret = random()?;
    let url = format!("http://{}/{secret}/", reachable(bound));
    writeln!(io::stdout(), "{url}").map_err(WebError::Print)?;
    // Where there is no browser, there is still the printed address.
    let _door = (options.browser && visible()).then(|| browse(&url));

    let router = server::router(target, options.preserve_session, &secret);
    axum::serve(listener, router).await.map_err(WebError::Serve)
}

/// 128 random bits, as hexadecimal digits.
fn random() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

/// Where a browser on this machine finds who listens on `bound`.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let address = match bound.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    SocketAddr::new(address, bound.port())
}

/// Whether somebody sits in front of a screen and sees our output.
fn visible() -> bool {
    let display = ["WAYLAND_DISPLAY", "DISPLAY"].into_iter();
    io::stdout().is_terminal() && display.filter_map(env::var_os).any(|name| !name.is_empty())
}

/// Opens the user's browser, by the file that is returned: it leads to `url` for as long as it is
/// there.
fn browse(url: &str) -> io::Result<NamedTempFile> {
    let door = door(url)?;
    Command::new("xdg-open")
        .arg(door.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(door)
}

/// A page, for nobody but the user, that leads to `url`.
fn door(url: &str) -> io::Result<NamedTempFile> {
    let mut door = tempfile::Builder::new()
        .prefix("virtctl-")
        .suffix(".html")
        .permissions(Permissions::from_mode(0o600))
        .tempfile()?;
    writeln!(
        door,
        "<!doctype html><meta http-equiv=\"refresh\" content=\"0; url={url}\">"
    )?;
    Ok(door)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn secrets_are_long_and_differ() {
        let (one, other) = (random().unwrap(), random().unwrap());
        assert_eq!((one.len(), other.len()), (32, 32));
        assert_ne!(one, other);
    }

    #[test]
    fn an_address_that_stands_for_all_is_none_to_open() {
        for (bound, opened) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
        ] {
            let bound = reachable(bound.parse().unwrap());
            assert_eq!(bound.to_string(), opened);
        }
    }
}
