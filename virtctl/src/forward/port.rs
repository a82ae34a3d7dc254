//! Which port of the guest is which port here.

use std::fmt;
use std::str::FromStr;

use crate::stream::Protocol;

/// A forwarded port: `[PROTOCOL/][LOCAL:]PORT[/PROTOCOL]`. KubeVirt's clients put the protocol
/// first, Services and container runtimes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The port here; 0 is any that is free.
    pub local: u16,
    /// The guest's port.
    pub remote: u16,
    /// Of both.
    pub protocol: Protocol,
}

/// The text names no ports.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseForwardError {
    /// A protocol on both sides.
    #[error("{0:?} names a protocol twice")]
    Protocols(String),
    /// No such protocol.
    #[error(transparent)]
    Protocol(#[from] crate::stream::ParseProtocolError),
    /// No such port.
    #[error("{0:?} is no port; write [LOCAL:]PORT[/udp], with ports from 1 to 65535")]
    Port(String),
}

impl FromStr for Forward {
    type Err = ParseForwardError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (ports, protocol) = match text.split_once('/') {
            None => (text, Protocol::default()),
            Some((_, rest)) if rest.contains('/') => {
                return Err(ParseForwardError::Protocols(text.to_owned()));
            }
            Some((ports, protocol))
                if ports.starts_with(|c: char| c == ':' || c.is_ascii_digit()) =>
            {
                (ports, protocol.parse()?)
            }
            Some((protocol, ports)) => (ports, protocol.parse()?),
        };
        let port = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let port = text.parse().ok().filter(|_| digits);
            port.ok_or_else(|| ParseForwardError::Port(text.to_owned()))
        };
        let (local, remote) = match ports.split_once(':') {
            None => (port(ports)?, port(ports)?),
            Some(("", remote)) => (0, port(remote)?),
            Some((local, remote)) => (port(local)?, port(remote)?),
        };
        if remote == 0 {
            return Err(ParseForwardError::Port("0".to_owned()));
        }
        Ok(Self {
            local,
            remote,
            protocol,
        })
    }
}

impl fmt::Display for Forward {
    /// The guest's side.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Protocol::Tcp => write!(f, "{}", self.remote),
            Protocol::Udp => write!(f, "{}/udp", self.remote),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_as_for_kubevirt_and_as_for_services() {
        for (text, local, remote, protocol) in [
            ("8080", 8080, 8080, Protocol::Tcp),
            ("8080:80", 8080, 80, Protocol::Tcp),
            (":80", 0, 80, Protocol::Tcp),
            ("0:80", 0, 80, Protocol::Tcp),
            ("65535:1", 65535, 1, Protocol::Tcp),
            ("tcp/8080:80", 8080, 80, Protocol::Tcp),
            ("udp/5353:53", 5353, 53, Protocol::Udp),
            ("5353:53/udp", 5353, 53, Protocol::Udp),
            (":53/udp", 0, 53, Protocol::Udp),
            ("22/tcp", 22, 22, Protocol::Tcp),
        ] {
            let expected = Forward {
                local,
                remote,
                protocol,
            };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for (text, said) in [
            ("", "\"\" is no port"),
            ("0", "\"0\" is no port"),
            ("80:0", "\"0\" is no port"),
            ("80:", "\"\" is no port"),
            ("65536", "\"65536\" is no port"),
            ("+80", "\"+80\" is no port"),
            ("80:80:80", "\"80:80\" is no port"),
            ("ssh", "\"ssh\" is no port"),
            ("80C0:8X90", "\"80C0\" is no port"),
            ("udp/", "\"\" is no port"),
            ("80/", "\"\" is no protocol"),
            ("80/sctp", "\"sctp\" is no protocol"),
            ("sctp/80", "\"sctp\" is no protocol"),
            ("udp/80/udp", "names a protocol twice"),
        ] {
            let error = text.parse::<Forward>().expect_err(text).to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
