//! The pod's resolv.conf, as far as a guest can use it.

use std::net::IpAddr;

use crate::name;

/// What a guest can use of a resolv.conf, and what had to be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Name servers in their order, IPv4 and IPv6, without those on loopback.
    pub nameservers: Vec<IpAddr>,
    /// Search domains in their order, without trailing dots.
    pub search: Vec<String>,
    /// One line for each entry that was left out, and why.
    pub warnings: Vec<String>,
}

/// Reads a resolv.conf (resolv.conf(5)). Nothing in it is an error: an entry that cannot reach the
/// guest is left out with a warning, because a VM with one search domain less still boots.
pub fn parse(text: &str) -> ResolvConf {
    let mut conf = ResolvConf::default();
    let mut search = Vec::new();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                if let Some(word) = words.next() {
                    nameserver(word, &mut conf);
                }
            }
            // resolv.conf(5): of several domain and search lines the last one counts.
            Some("search") => search = words.collect(),
            Some("domain") => search = words.take(1).collect(),
            _ => {}
        }
    }
    for word in search {
        // "." asks for no search at all.
        match word.strip_suffix('.').unwrap_or(word) {
            "" => {}
            domain => match name::check(domain) {
                Ok(()) => conf.search.push(domain.to_owned()),
                Err(reason) => {
                    conf.warnings
                        .push(format!("search domain {word:?} left out: {reason}"));
                }
            },
        }
    }
    conf
}

fn nameserver(word: &str, conf: &mut ResolvConf) {
    // A zone index (fe80::1%eth0) names an interface of the pod, which the guest does not have.
    match word.parse::<IpAddr>() {
        Ok(address) if address.is_loopback() || address.is_unspecified() => {
            conf.warnings.push(format!(
                "nameserver {word} left out: it means the pod itself, not the guest"
            ));
        }
        Ok(address) => conf.nameservers.push(address),
        Err(_) => conf.warnings.push(format!(
            "nameserver {word:?} left out: not an address the guest can use"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A case's name, the text, the name servers, the search domains, the number of warnings.
    type Case<'a> = (&'a str, &'a str, &'a [&'a str], &'a [&'a str], usize);

    #[test]
    fn reads_every_shape_that_pods_have() {
        let long = format!("search {}.example", "x".repeat(64));
        let cases: &[Case<'_>] = &[
            ("empty", "", &[], &[], 0),
            (
                "kubernetes",
                "search default.svc.cluster.local svc.cluster.local cluster.local\n\
                 nameserver 10.96.0.10\noptions ndots:5\n",
                &["10.96.0.10"],
                &[
                    "default.svc.cluster.local",
                    "svc.cluster.local",
                    "cluster.local",
                ],
                0,
            ),
            (
                "loopback is left out",
                "nameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.1\n",
                &["192.0.2.1"],
                &[],
                2,
            ),
            (
                "only IPv6",
                "nameserver 2001:db8::53\n",
                &["2001:db8::53"],
                &[],
                0,
            ),
            ("zone index", "nameserver fe80::1%eth0\n", &[], &[], 1),
            (
                "trailing dots",
                "search example.org. a.example.org.\n",
                &[],
                &["example.org", "a.example.org"],
                0,
            ),
            ("root", "search .\n", &[], &[], 0),
            (
                "the last of domain and search counts",
                "search a.example b.example\ndomain c.example d\n",
                &[],
                &["c.example"],
                0,
            ),
            (
                "comments",
                "# nameserver 192.0.2.1\nnameserver 192.0.2.2 # ours\n; search x\n",
                &["192.0.2.2"],
                &[],
                0,
            ),
            (
                "empty label",
                "search a..example ok.example\n",
                &[],
                &["ok.example"],
                1,
            ),
            ("long label", &long, &[], &[], 1),
            ("bad characters", "search a/b.example\n", &[], &[], 1),
            ("garbage", "nameserver\nsearch\nfoo bar\n\0\n", &[], &[], 0),
        ];
        for (what, text, nameservers, search, warnings) in cases {
            let conf = parse(text);
            let read: Vec<_> = conf.nameservers.iter().map(ToString::to_string).collect();
            assert_eq!(read, *nameservers, "{what}");
            assert_eq!(conf.search, *search, "{what}");
            assert_eq!(
                conf.warnings.len(),
                *warnings,
                "{what}: {:?}",
                conf.warnings
            );
        }
    }
}
