//! `/metrics`: what this node's machines use, under KubeVirt's names.
//!
//! ```text
//! scrape ─▶ GetStats of every launcher at once, each with its own deadline ─▶ text
//! ```
//!
//! A launcher that does not answer costs the scrape its own lines and nothing else. What can be
//! known of machines without their node (phases, information) is virt-controller's to tell.

mod families;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use crds::VirtualMachineInstance;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kube_client::ResourceExt;
use launcher_api::{GetStatsRequest, Stats};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::launchers::{Launcher, Launchers};
use families::{FAMILIES, Kind, Label};

/// How long a launcher may take. Prometheus gives up after 10 s.
const CALL: Duration = Duration::from_secs(2);

/// How old a scrape may be that another asks for.
const FRESH: Duration = Duration::from_secs(1);

/// Makes the texts of scrapes, one at a time whoever asks: each costs every launcher a call.
#[derive(Debug)]
pub struct Scraper {
    node: String,
    launchers: Launchers,
    /// When the last scrape was begun, and what it makes.
    last: Mutex<Option<(Instant, watch::Receiver<Made>)>>,
}

/// What a scrape makes; `None` while it is under way.
type Made = Option<Result<Bytes, fmt::Error>>;

impl Scraper {
    /// One for the launchers of that node.
    pub fn new(node: &str, launchers: &Launchers) -> Self {
        Self {
            node: node.to_owned(),
            launchers: launchers.clone(),
            last: Mutex::default(),
        }
    }

    /// The text of a scrape, OpenMetrics 1.0: of the one that is under way or has just been made,
    /// otherwise of a new one.
    ///
    /// # Errors
    /// Where a value cannot be formatted; none is known that cannot.
    pub async fn text(&self) -> Result<Bytes, fmt::Error> {
        let mut made = self.last_or_new();
        let made = made.wait_for(Option::is_some).await;
        made.ok().and_then(|made| made.clone()).ok_or(fmt::Error)?
    }

    fn last_or_new(&self) -> watch::Receiver<Made> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((begun, made)) = &*last {
            // A scrape that has ended, or is gone, has closed its channel.
            if made.has_changed().is_ok() || begun.elapsed() < FRESH {
                return made.clone();
            }
        }
        let (making, made) = watch::channel(None);
        let (node, launchers) = (self.node.clone(), self.launchers.clone());
        // A task of its own: who asked first may leave, and others wait for it.
        tokio::spawn(async move {
            let text = scrape(&node, &launchers).await;
            making.send_replace(Some(text.map(Bytes::from)));
        });
        *last = Some((Instant::now(), made.clone()));
        made
    }
}

async fn scrape(node: &str, launchers: &Launchers) -> Result<String, fmt::Error> {
    let asked: FuturesUnordered<_> = launchers.all().into_iter().map(stats).collect();
    let mut machines: Vec<_> = asked.filter_map(std::future::ready).collect().await;
    machines.sort_by_cached_key(|(vmi, _)| (vmi.namespace(), vmi.name_any()));
    render(node, machines)
}

async fn stats(mut launcher: Launcher) -> Option<Machine> {
    let asked = launcher.client.get_stats(GetStatsRequest {});
    let stats = timeout(CALL, asked).await.ok()?.ok()?.into_inner();
    Some((launcher.vmi(), stats))
}

type Machine = (Arc<VirtualMachineInstance>, Stats);

fn render(node: &str, machines: Vec<Machine>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape {
        node: node.to_owned(),
        machines,
    }));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug)]
struct Scrape {
    node: String,
    machines: Vec<Machine>,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in FAMILIES {
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            let mut series = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for (vmi, stats) in &self.machines {
                for (labels, value) in family.of.samples(vmi, stats) {
                    let labels = self.labels(vmi, labels);
                    write(series.encode_family(&labels)?, family.kind, value)?;
                }
            }
        }
        Ok(())
    }
}

impl Scrape {
    fn labels(&self, vmi: &VirtualMachineInstance, more: Vec<Label>) -> Vec<Label> {
        let mut labels = vec![
            ("node", self.node.clone()),
            ("namespace", vmi.namespace().unwrap_or_default()),
            ("name", vmi.name_any()),
        ];
        labels.extend(more);
        labels
    }
}

fn write(mut series: MetricEncoder<'_>, kind: Kind, value: f64) -> fmt::Result {
    match kind {
        Kind::Counter => series.encode_counter::<NoLabelSet, _, f64>(&value, None),
        Kind::Gauge => series.encode_gauge(&value),
    }
}

#[cfg(test)]
mod tests {
    use futures::future::{FutureExt, join_all};
    use launcher_api::{BlockStats, InterfaceStats, MemoryStats, Phase, SOCKET, Status, VcpuStats};
    use serde_json::json;
    use tokio::time::sleep;

    use super::*;
    use crate::launchers::tests::adversary::Adversary;
    use crate::launchers::tests::{Followed, Kubelet};
    use crate::status::Stage;

    fn vmi(name: &str) -> Arc<VirtualMachineInstance> {
        let vmi = json!({
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "domain": {"devices": {"interfaces": [{"name": "default"}]}},
                "volumes": [{"name": "root", "containerDisk": {"image": "i"}}],
            },
        });
        Arc::new(serde_json::from_value(vmi).unwrap())
    }

    fn lines<'a>(text: &'a str, of: &str) -> Vec<&'a str> {
        let mut lines: Vec<_> = text.lines().filter(|line| line.starts_with(of)).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn names_labels_and_units_are_kubevirts() {
        let stats = Stats {
            cpu_time_ns: 1_500_000_000,
            vcpus: vec![VcpuStats {
                number: 7,
                state: "blocked".into(),
                time_ns: 2_000_000_000,
                wait_ns: 0,
            }],
            memory: Some(MemoryStats {
                domain_bytes: 1 << 30,
                major_faults: Some(3),
                ..MemoryStats::default()
            }),
            interfaces: vec![InterfaceStats {
                name: "default".into(),
                receive_bytes: 42,
                ..InterfaceStats::default()
            }],
            blocks: vec![BlockStats {
                name: "root".into(),
                read_requests: 5,
                flush_time_ns: 250_000_000,
                ..BlockStats::default()
            }],
            ..Stats::default()
        };
        let text = render("node1", vec![(vmi("a"), stats)]).unwrap();
        const VM: &str = r#"node="node1",namespace="default",name="a""#;
        let expected = [
            ("kubevirt_vmi_cpu_usage_seconds_total", "", "1.5"),
            (
                "kubevirt_vmi_vcpu_seconds_total",
                r#",id="0",state="blocked""#,
                "2.0",
            ),
            ("kubevirt_vmi_vcpu_wait_seconds_total", r#",id="0""#, "0.0"),
            ("kubevirt_vmi_memory_domain_bytes", "", "1073741824.0"),
            ("kubevirt_vmi_memory_pgmajfault_total", "", "3.0"),
            (
                "kubevirt_vmi_network_receive_bytes_total",
                r#",interface="default",network="default""#,
                "42.0",
            ),
            (
                "kubevirt_vmi_storage_iops_read_total",
                r#",drive="root""#,
                "5.0",
            ),
            (
                "kubevirt_vmi_storage_flush_times_seconds_total",
                r#",drive="root""#,
                "0.25",
            ),
        ];
        for (name, labels, value) in expected {
            let line = format!("{name}{{{VM}{labels}}} {value}");
            assert_eq!(lines(&text, name), [line], "{text}");
        }
        // What the guest's balloon driver does not tell is not there.
        assert_eq!(lines(&text, "kubevirt_vmi_memory_unused_bytes"), [""; 0]);
    }

    #[test]
    fn a_launcher_cannot_spoil_the_text() {
        let twice = |name: &str| InterfaceStats {
            name: name.into(),
            ..InterfaceStats::default()
        };
        let stats = Stats {
            vcpus: vec![
                VcpuStats {
                    state: "\"} 1\nfake 1".into(),
                    ..VcpuStats::default()
                };
                5000
            ],
            interfaces: vec![twice("default"), twice("default"), twice("x\ny"), twice("")],
            ..Stats::default()
        };
        let text = render(
            "node1",
            vec![(vmi("a"), stats), (vmi("b"), Stats::default())],
        )
        .unwrap();
        assert_eq!(lines(&text, "fake"), [""; 0]);
        assert_eq!(
            lines(&text, "kubevirt_vmi_network_receive_bytes_total").len(),
            1
        );
        assert_eq!(lines(&text, "kubevirt_vmi_vcpu_seconds_total").len(), 1024);
        let series: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let mut names: Vec<_> = series
            .iter()
            .map(|line| line.rsplit_once(' ').unwrap().0)
            .collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "no series twice");
        assert!(text.ends_with("# EOF\n"));
    }
    #[tokio::test]
    async fn many_scrapes_at_once_are_one() {
        let kubelet = Kubelet::new();
        let says = watch::Sender::new(Status {
            phase: Phase::Running.into(),
            ..Status::default()
        });
        let launcher = Adversary::new(&says);
        let asked = launcher.scrapes.clone();
        let _server = launcher.listen(&kubelet.pod("one").join(SOCKET));
        let mut followed = Followed::start(&kubelet, "one");
        followed.stands_at(Stage::Running).await;

        let scraper = Scraper::new("node1", &followed.launchers);
        let begun = Instant::now();
        // Who asks and leaves at once takes nothing away from the others.
        assert!(scraper.text().now_or_never().is_none());
        let texts = join_all((0..16).map(|_| scraper.text())).await;
        for text in &texts {
            let text = str::from_utf8(text.as_ref().unwrap()).unwrap();
            assert_eq!(lines(text, "kubevirt_vmi_cpu_usage_seconds_total").len(), 1);
        }
        assert_eq!(*asked.borrow(), 1);
        // One after another, they are as many as there is time for.
        for _ in 0..100 {
            scraper.text().await.unwrap();
        }
        let most = 1 + begun.elapsed().as_secs() / FRESH.as_secs();
        let before = *asked.borrow();
        assert!(u64::from(before) <= most, "{before} of {most}");
        sleep(FRESH).await;
        scraper.text().await.unwrap();
        assert!(*asked.borrow() > before);
    }
}
