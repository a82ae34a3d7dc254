//! What in the namespace would get in the binding's way.

use std::{fs, io};

/// The namespace's UDP sockets, whichever thread asks: of IPv4, and of IPv6 and both.
const UDP_SOCKETS: [&str; 2] = ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"];
/// DHCP's, in either table.
const DHCP: u16 = 67;
/// DHCPv6's, which no socket of IPv4 can serve.
const DHCP6: u16 = 547;

/// The port at which a DHCP server listens in the calling thread's namespace, if one does: its
/// answers would reach the guest beside ours. One of DHCPv6 is none of our business unless the
/// guest is served `dhcp6`.
pub(crate) fn dhcp_server(dhcp6: bool) -> io::Result<Option<u16>> {
    let ports: [&[u16]; 2] = [&[DHCP], if dhcp6 { &[DHCP, DHCP6] } else { &[DHCP] }];
    for (path, ports) in UDP_SOCKETS.into_iter().zip(ports) {
        match fs::read_to_string(path) {
            Ok(table) => {
                let taken = ports.iter().find(|port| listens(&table, **port));
                if let Some(port) = taken {
                    return Ok(Some(*port));
                }
            }
            // A kernel without IPv6 has no such table.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether a table of UDP sockets (proc(5), `/proc/net/udp`) holds one on this port that is not
/// bound to loopback, which no guest can reach.
fn listens(table: &str, port: u16) -> bool {
    let port = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(1))
        .any(|local| {
            let loopback = local.starts_with("0100007F:")
                || local.starts_with("00000000000000000000000001000000:");
            local.ends_with(&port) && !loopback
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_port_that_a_guest_could_reach() {
        let head = "   sl  local_address rem_address   st tx_queue rx_queue\n";
        let line =
            |local: &str| format!("{head}  386: {local} 00000000:0000 07 00000000:00000000\n");
        for (local, port, found) in [
            ("00000000:0043", DHCP, true),
            ("0A58000A:0043", DHCP, true),
            ("00000000000000000000000000000000:0043", DHCP, true),
            ("0100007F:0043", DHCP, false),
            ("00000000:0044", DHCP, false),
            ("00000000000000000000000000000000:0223", DHCP, false),
            ("00000000000000000000000000000000:0223", DHCP6, true),
            ("000080FE00000000FF000002010000FE:0223", DHCP6, true),
            ("00000000000000000000000001000000:0223", DHCP6, false),
            ("00000000000000000000000000000000:0222", DHCP6, false),
        ] {
            assert_eq!(listens(&line(local), port), found, "{local} {port}");
        }
        assert!(!listens(head, DHCP));
    }
}
