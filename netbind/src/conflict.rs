//! What in the namespace would get in the binding's way.

use std::{fs, io};

/// The namespace's UDP sockets, whichever thread asks.
const UDP_SOCKETS: [&str; 2] = ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"];

/// Whether a DHCP server listens in the calling thread's namespace: its answers would reach the
/// guest beside ours.
pub(crate) fn dhcp_server_listens() -> io::Result<bool> {
    for path in UDP_SOCKETS {
        match fs::read_to_string(path) {
            Ok(table) if listens(&table) => return Ok(true),
            // A kernel without IPv6 has no such table.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(false)
}

/// Whether a table of UDP sockets (proc(5), `/proc/net/udp`) holds one on port 67 that is not
/// bound to loopback, which no guest can reach.
fn listens(table: &str) -> bool {
    table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(1))
        .any(|local| {
            let loopback = local.starts_with("0100007F:")
                || local.starts_with("00000000000000000000000001000000:");
            local.ends_with(":0043") && !loopback
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_port_67_that_a_guest_could_reach() {
        let head = "   sl  local_address rem_address   st tx_queue rx_queue\n";
        let line =
            |local: &str| format!("{head}  386: {local} 00000000:0000 07 00000000:00000000\n");
        assert!(!listens(head));
        assert!(listens(&line("00000000:0043")));
        assert!(listens(&line("0A58000A:0043")));
        assert!(listens(&line("00000000000000000000000000000000:0043")));
        assert!(!listens(&line("0100007F:0043")));
        assert!(!listens(&line("00000000:0044")));
    }
}
