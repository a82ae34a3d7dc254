//! A node with two pods: one of them bound to a guest, the other of somebody else.

#![allow(
    unsafe_code,
    reason = "packet sockets' addresses have no safe constructor"
)]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use netbind::{GuestNetwork, State};
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::common::guest::{Disk, GUEST_LINK, Guest, busybox};
use crate::common::{Namespace, Pod, Process, allocated, success, text, wait_until};

/// The node's.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// The guest's second link-local address, for a flood of DHCPv6. Servers answer at one port (RFC 8415
/// section 7.2), so that the guest's own firewall has to keep a flood's answers from its clients.
pub(crate) const FLOODING: &str = "fe80::f";

/// Both pods, the guest, and its server in a process of its own.
pub(crate) struct Lab {
    pub(crate) pod: Pod,
    pub(crate) neighbour: Namespace,
    pub(crate) guest: Guest,
    /// What the guest is told.
    pub(crate) network: GuestNetwork,
    pub(crate) server: Process,
    /// dhcpcd's.
    disk: Disk,
}

impl Lab {
    pub(crate) fn new(binding: &str) -> Self {
        let (pod, neighbour) = (Pod::by_hand("eth0"), Namespace::new("neighbour"));
        let node = |line: &str| pod.node.ip(line);
        node("link add cni0 type bridge");
        node(&format!("address add {GATEWAY}/24 dev cni0"));
        node(&format!("address add {GATEWAY6}/64 dev cni0 nodad"));
        node("link set cni0 up");
        for (namespace, port, host) in [(&pod.namespace, "pod0", 7), (&neighbour, "pod1", 8)] {
            let name = namespace.name();
            node(&format!(
                "link add {port} type veth peer name eth0 netns {name}"
            ));
            node(&format!("link set {port} master cni0 up"));
            namespace.ip(&format!("address add 10.88.0.{host}/24 dev eth0"));
            namespace.ip(&format!("address add 2001:db8::{host}/64 dev eth0 nodad"));
            namespace.ip("link set eth0 up");
            namespace.ip(&format!("route add default via {GATEWAY}"));
            namespace.ip(&format!("route add default via {GATEWAY6}"));
        }
        let mac = pod.mac();
        success(&mut pod.netbind(&["setup", "--binding", binding]));
        let network = State::read(&pod.state()).unwrap().unwrap().guest;
        let server = Process::start(pod.netbind(&["serve"]).stdout(Stdio::null()));
        let guest = Guest::behind(&pod, "tap0", &mac);
        wait_until("the tap has its carrier", || {
            pod.namespace.ip("link show tap0").contains("state UP")
        });
        // No client of DHCPv6 asks before.
        wait_until("the guest has its link-local address", || {
            let addresses = guest.namespace.ip(&format!("address show {GUEST_LINK}"));
            addresses.contains("fe80:") && !addresses.contains("tentative")
        });
        Self {
            pod,
            neighbour,
            guest,
            network,
            server,
            disk: disk_of_dhcpcd(),
        }
    }

    /// Runs udhcpc in the guest; how long it took until it held its lease.
    pub(crate) fn lease_by_udhcpc(&self) -> Duration {
        let started = Instant::now();
        self.guest.udhcpc(self.pod.dir.path());
        started.elapsed()
    }

    /// Runs udhcpc6 in the guest; how long it took until it held its lease.
    pub(crate) fn lease_by_udhcpc6(&self) -> Duration {
        let mut command = self.guest.namespace.command(busybox().to_str().unwrap());
        command.args(["udhcpc6", "-i", GUEST_LINK, "-s", "/bin/true"]);
        command.args(["-n", "-q", "-f", "-t", "5", "-T", "1"]);
        let started = Instant::now();
        success(&mut command);
        started.elapsed()
    }

    /// Gives the guest the flood's address. What is sent there to a client's port reaches no socket of
    /// UDP.
    pub(crate) fn floods_from_its_own_address(&self) {
        let guest = &self.guest.namespace;
        // Deprecated: nobody takes it who does not ask for it.
        guest.ip(&format!(
            "address add {FLOODING}/64 dev {GUEST_LINK} nodad preferred_lft 0"
        ));
        let firewall = format!(
            "table ip6 firewall {{ chain input {{
                type filter hook input priority 0
                ip6 daddr {FLOODING} udp dport 546 drop
            }}; }}"
        );
        success(guest.command("nft").arg(firewall));
    }

    /// Runs dhcpcd in the guest, which remembers nothing and waits for nothing but the server; how long
    /// it took until it held its lease. It receives only what is for a client's port.
    pub(crate) fn lease_by_dhcpcd(&self) -> Duration {
        let (guest, disk) = (&self.guest.namespace, &self.disk);
        // It ends after what had started it, and until then could be given the next one's answers.
        wait_until("the last client has ended", || {
            let mut ss = guest.command("ss");
            success(ss.args(["-Hlun", "sport", "=", ":546"])).is_empty()
        });
        for old in ["run", "lib/dhcpcd"].map(|name| disk.path(name)) {
            // Its hook may still write there.
            wait_until("nothing is left of the last client", || {
                !old.exists() || std::fs::remove_dir_all(&old).is_ok()
            });
            std::fs::create_dir(&old).unwrap();
        }
        guest.ip(&format!("-6 address flush dev {GUEST_LINK} scope global"));
        // It would ask for its address' uniqueness for a second or two, as it should.
        let dad = format!("net.ipv6.conf.{GUEST_LINK}.accept_dad=0");
        success(guest.command("sysctl").args(["-w", &dad]));

        let mut command = self.guest.command_on(disk, "dhcpcd");
        command.args(["-B", GUEST_LINK]);
        let started = Instant::now();
        let _client = Process::start(command.stdout(Stdio::null()));
        let told = disk.path("run/told");
        wait_until("dhcpcd holds a lease", || told.exists());
        started.elapsed()
    }

    /// Runs ISC's dhclient in the guest, which receives only what is for a client's port; how long it
    /// took until it held its lease.
    pub(crate) fn lease_by_dhclient(&self) -> Duration {
        let _ = std::fs::remove_file(self.pod.dir.path().join("leases"));
        self.lease_again_by_dhclient()
    }

    /// The same, and it remembers the lease that it had before, as after a reboot.
    pub(crate) fn lease_again_by_dhclient(&self) -> Duration {
        let _ = std::fs::remove_file(self.pod.dir.path().join("dhclient.env"));
        let started = Instant::now();
        self.guest.dhclient(self.pod.dir.path());
        started.elapsed()
    }

    /// Sends frames from the guest at a steady rate; who is late makes up for it.
    pub(crate) fn flood(&self, frames: &[Vec<u8>], per_second: u32, time: Duration) {
        let socket = self.guest.namespace.within(link_socket);
        let started = Instant::now();
        for (sent, frame) in (0..).zip(frames.iter().cycle()) {
            let due = started + Duration::from_secs(1) * sent / per_second;
            if due > started + time {
                break;
            }
            // A wake-up costs as much as a frame: so there are several at a time.
            if sent % 16 == 0 {
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            // A queue that is full loses frames, as a cable would.
            let _ = socket.send(frame);
        }
    }

    /// How many frames of the guest have come to the pod's tap.
    pub(crate) fn received(&self) -> u64 {
        let links = self.pod.namespace.ip("-j -s link show tap0");
        let links: Value = serde_json::from_str(&links).unwrap();
        links[0]["stats64"]["rx"]["packets"].as_u64().unwrap()
    }

    /// How many frames are lost so far on their way to the server and back: in the guest's queue, in
    /// the server's socket, and in the tap's queue.
    pub(crate) fn lost(&self) -> u64 {
        let dropped = |namespace: &Namespace, link: &str| {
            let links = namespace.ip(&format!("-j -s link show {link}"));
            let links: Value = serde_json::from_str(&links).unwrap();
            links[0]["stats64"]["tx"]["dropped"].as_u64().unwrap()
        };
        // skmem:(r0,rb524288,t0,tb212992,f0,w0,o0,bl0,d0)
        let mut ss = self.pod.namespace.command("ss");
        let sockets = success(ss.args(["--packet", "--all", "--memory", "--no-header"]));
        let counts = sockets.split(",d").skip(1);
        let unread = counts.map(|rest| rest.split(')').next().unwrap().parse::<u64>().unwrap());
        dropped(&self.guest.namespace, GUEST_LINK)
            + dropped(&self.pod.namespace, "tap0")
            + unread.sum::<u64>()
    }

    /// Pings the node from the other pod, a hundred times a second.
    pub(crate) fn neighbours_round_trips(&self, time: Duration) -> RoundTrips {
        let count = (time.as_secs() * 100).to_string();
        let mut ping = self.neighbour.command("ping");
        // A second at the end is for answers that are late.
        ping.args(["-q", "-i", "0.01", "-W", "1", "-c", &count]);
        let report = text(&ping.arg(GATEWAY.to_string()).output().unwrap());
        let summary = || -> Option<RoundTrips> {
            let (sent, rest) = report.split_once(" packets transmitted, ")?;
            let (received, rest) = rest.split_once(" received")?;
            let (_, times) = rest.split_once("mdev = ")?;
            let sent: u32 = sent.split_whitespace().last()?.parse().ok()?;
            Some(RoundTrips {
                sent,
                lost: sent - received.parse::<u32>().ok()?,
                average: times.split('/').nth(1)?.parse().ok()?,
            })
        };
        summary().unwrap_or_else(|| panic!("{report}"))
    }

    /// What the server's process costs: pages of memory that are its own, and time on a processor.
    pub(crate) fn cost(&self) -> (u64, Duration) {
        // Nanoseconds, where stat counts ticks.
        let schedstat = format!("/proc/{}/schedstat", self.server.0.id());
        let schedstat = std::fs::read_to_string(schedstat).unwrap();
        let busy = schedstat.split(' ').next().unwrap().parse().unwrap();
        (allocated(&self.server), Duration::from_nanos(busy))
    }
}

/// A disk with dhcpcd's configuration: it asks by DHCPv6 at once.
fn disk_of_dhcpcd() -> Disk {
    let disk = Disk::new();
    disk.write("etc/dhcpcd.conf", "nodelay\nnoipv6rs\nipv6only\nia_na\n");
    let hook = "[ -z \"$new_dhcp6_ia_na1_ia_addr1\" ] || echo >/run/told\n";
    disk.write("etc/dhcpcd.exit-hook", hook);
    // With a user of its own dhcpcd has its sockets from another process, and has been seen to ask
    // before it listened.
    let users = std::fs::read_to_string(disk.path("etc/passwd")).unwrap();
    let others = users.lines().filter(|user| !user.starts_with("dhcpcd:"));
    let others: String = others.map(|user| format!("{user}\n")).collect();
    disk.write("etc/passwd", &others);
    disk
}

/// What a ping tells.
pub(crate) struct RoundTrips {
    pub(crate) sent: u32,
    pub(crate) lost: u32,
    /// In milliseconds.
    pub(crate) average: f64,
}

/// A packet socket on the guest's interface, in the calling thread's namespace.
fn link_socket() -> Socket {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None).unwrap();
    let index = nix::net::if_::if_nametoindex(GUEST_LINK).unwrap();
    // SAFETY: the storage is large enough for and aligned as any socket address, zeroed, and the
    // length is that of the address written to it.
    let (_, address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = storage.cast::<libc::sockaddr_ll>();
            (*address).sll_family = libc::AF_PACKET as u16;
            (*address).sll_ifindex = index.cast_signed();
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }
    .unwrap();
    socket.bind(&address).unwrap();
    socket
}
