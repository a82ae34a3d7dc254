//! A pod whose gateway is outside its subnet, with its interface bound for the guest.

use crate::client::Told;
use crate::common::{Pod, success};

/// The guest's MAC, in whatever pod it is.
pub(crate) const MAC: &str = "02:00:00:00:00:01";
/// A station beyond the gateway.
pub(crate) const PEER: &str = "192.0.2.10";
/// The gateway, as Calico has it.
const GATEWAY: &str = "169.254.1.1";
const DNS: &str = "10.96.0.10";
const NTP: &str = "192.0.2.123";

/// What differs between the tests' pods.
pub(crate) struct Site<'a> {
    pub(crate) address: &'a str,
    pub(crate) mtu: u32,
    /// The last and longest of them is the guest's domain.
    pub(crate) search: &'a str,
    pub(crate) hostname: &'a str,
    pub(crate) lease_seconds: u32,
}

/// The usual one.
pub(crate) const SITE: Site<'_> = Site {
    address: "10.1.1.2",
    mtu: 1450,
    search: "cluster.local svc.cluster.local",
    hostname: "vm",
    lease_seconds: 86_400,
};

impl Site<'_> {
    /// A pod that is set up. Nobody serves the guest yet.
    pub(crate) fn pod(&self) -> Pod {
        let (address, mtu) = (self.address, self.mtu);
        let pod = Pod::by_hand("eth0");
        let inside = pod.namespace.name();
        let on_node = [
            &format!("link add pod0 mtu {mtu} type veth peer name eth0 mtu {mtu} netns {inside}"),
            &format!("address add {PEER}/32 dev lo"),
            &format!("address add {GATEWAY}/32 dev pod0"),
            "link set pod0 up",
            &format!("route add {address} dev pod0"),
        ];
        let in_pod = [
            "link set eth0 up",
            &format!("address add {address}/32 dev eth0"),
            &format!("route add {GATEWAY} dev eth0 scope link"),
            &format!("route add default via {GATEWAY} dev eth0"),
        ];
        for line in on_node {
            pod.node.ip(line);
        }
        for line in in_pod {
            pod.namespace.ip(line);
        }

        let resolv_conf = format!("nameserver {DNS}\nsearch {}\n", self.search);
        std::fs::write(pod.dir.path().join("resolv.conf"), resolv_conf).unwrap();
        let mut setup = pod.netbind(&["setup", "--guest-mac", MAC, "--ntp-server", NTP]);
        setup.args(["--hostname", self.hostname]);
        setup.args(["--lease-seconds", &self.lease_seconds.to_string()]);
        success(&mut setup);
        pod
    }

    /// What every client is told there.
    pub(crate) fn told(&self) -> Told {
        let domain = self.search.split(' ').next_back().unwrap();
        Told {
            address: self.address.to_owned(),
            mask: "255.255.255.255".to_owned(),
            router: GATEWAY.to_owned(),
            routes: format!("{GATEWAY}/32 0.0.0.0 0.0.0.0/0 {GATEWAY}"),
            dns: DNS.to_owned(),
            search: self.search.to_owned(),
            domain: domain.to_owned(),
            hostname: self.hostname.to_owned(),
            mtu: self.mtu.to_string(),
            ntp: NTP.to_owned(),
        }
    }
}
