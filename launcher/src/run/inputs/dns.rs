//! The pod's resolv.conf: the host's and what the manifest says, as the kubelet joins them.
//! <https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/#pod-s-dns-policy>

use std::fmt::{self, Display};

use crds::DnsPolicy;
use k8s_openapi::api::core::v1::PodDNSConfig;

/// A resolver asks this many servers (resolv.conf(5), `MAXNS`), and the kubelet writes no more.
const MOST_SERVERS: usize = 3;

/// The pod's resolv.conf, from the host's, `spec.dnsPolicy` and `spec.dnsConfig`.
///
/// There is no cluster to ask first, so all policies but `None` begin with the host's settings.
pub(super) fn resolv_conf(
    host: &str,
    policy: Option<DnsPolicy>,
    config: Option<&PodDNSConfig>,
) -> String {
    let mut settings = match policy {
        Some(DnsPolicy::None) => Settings::default(),
        _ => Settings::parse(host),
    };
    if let Some(config) = config {
        settings.add(config);
    }
    settings.servers.truncate(MOST_SERVERS);
    settings.to_string()
}

#[derive(Default)]
struct Settings {
    servers: Vec<String>,
    searches: Vec<String>,
    /// Each with its value, where it has one.
    options: Vec<(String, Option<String>)>,
}

impl Settings {
    fn parse(text: &str) -> Self {
        let mut settings = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => extend(&mut settings.servers, words.take(1)),
                // resolv.conf(5): of several domain and search lines the last one counts.
                Some("search") => settings.searches = words.collect(),
                Some("domain") => settings.searches = words.take(1).collect(),
                Some("options") => words.for_each(|word| {
                    let (name, value) = match word.split_once(':') {
                        Some((name, value)) => (name, Some(value.to_owned())),
                        None => (word.as_str(), None),
                    };
                    settings.set(name, value);
                }),
                _ => {}
            }
        }
        settings
    }

    fn add(&mut self, config: &PodDNSConfig) {
        extend(
            &mut self.servers,
            config.nameservers.iter().flatten().cloned(),
        );
        extend(
            &mut self.searches,
            config.searches.iter().flatten().cloned(),
        );
        for option in config.options.iter().flatten() {
            if let Some(name) = &option.name {
                self.set(name, option.value.clone());
            }
        }
    }

    /// Sets an option; a later one of the same name stands in the place of the earlier.
    fn set(&mut self, name: &str, value: Option<String>) {
        match self.options.iter_mut().find(|(own, _)| own == name) {
            Some((_, own)) => *own = value,
            None => self.options.push((name.to_owned(), value)),
        }
    }
}

/// Appends what is not there yet.
fn extend(list: &mut Vec<String>, more: impl IntoIterator<Item = String>) {
    for entry in more {
        if !list.contains(&entry) {
            list.push(entry);
        }
    }
}

impl Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for server in &self.servers {
            writeln!(f, "nameserver {server}")?;
        }
        if !self.searches.is_empty() {
            writeln!(f, "search {}", self.searches.join(" "))?;
        }
        if self.options.is_empty() {
            return Ok(());
        }
        write!(f, "options")?;
        for (name, value) in &self.options {
            match value {
                Some(value) => write!(f, " {name}:{value}")?,
                None => write!(f, " {name}")?,
            }
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_s_settings_come_first_and_nothing_twice() {
        const HOST: &str = "# the host\n\
            domain old.example\n\
            nameserver 10.0.0.1\n\
            search a.example b.example ; both\n\
            options ndots:1 rotate\n";
        const JOINED: &str = "nameserver 10.0.0.1\nnameserver 10.0.0.2\n\
            search a.example b.example c.example\n\
            options ndots:5 rotate edns0\n";
        let config = r#"{
            "nameservers": ["10.0.0.2", "10.0.0.1"],
            "searches": ["b.example", "c.example"],
            "options": [{"name": "ndots", "value": "5"}, {"name": "edns0"}]
        }"#;
        let own = "nameserver 10.0.0.2\nnameserver 10.0.0.1\nsearch b.example c.example\n\
            options ndots:5 edns0\n";
        let unchanged = "nameserver 10.0.0.1\nsearch a.example b.example\n\
            options ndots:1 rotate\n";
        let four = r#"{"nameservers": ["1.1.1.1", "2.2.2.2", "3.3.3.3"]}"#;
        let three = "nameserver 10.0.0.1\nnameserver 1.1.1.1\nnameserver 2.2.2.2\n\
            search a.example b.example\noptions ndots:1 rotate\n";
        let cases = [
            (HOST, None, "{}", unchanged),
            (HOST, None, config, JOINED),
            (HOST, Some(DnsPolicy::Default), config, JOINED),
            (HOST, Some(DnsPolicy::ClusterFirst), config, JOINED),
            (
                HOST,
                Some(DnsPolicy::ClusterFirstWithHostNet),
                config,
                JOINED,
            ),
            (HOST, Some(DnsPolicy::None), config, own),
            (HOST, Some(DnsPolicy::None), "{}", ""),
            (HOST, None, four, three),
            ("", None, config, own),
        ];
        for (host, policy, config, expected) in cases {
            let parsed: PodDNSConfig = serde_json::from_str(config).unwrap();
            let made = resolv_conf(host, policy, Some(&parsed));
            assert_eq!(made, expected, "{policy:?} {config}");
        }
    }
}
