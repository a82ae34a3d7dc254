//! What the running domain tells of itself: its machine, its disks, and whether the guest's agent
//! is there.
//!
//! Events only say that something has changed, and the state is then read anew: so a worker that
//! follows another knows it too, and no order of events can leave it wrong.

use std::time::Duration;

use launcher_api::{Disk, EventKind, Status};
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use tokio::sync::watch;
use virt::sys;

use crate::events::Events;
use crate::hypervisor::{Counters, Hypervisor};

/// The agent's channel, as `convert` names it.
const AGENT: &str = "org.qemu.guest_agent.0";

/// What `convert` puts before a volume's name, because libvirt wants it there.
const ALIAS: &str = "ua-";

/// The pause after a look at the domain that failed.
const RETRY: Duration = Duration::from_secs(2);

/// What the live XML says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Live {
    /// Such as `pc-q35-7.2`.
    pub(crate) machine: String,
    /// The guest has opened its agent's channel.
    pub(crate) agent: bool,
    pub(crate) disks: Vec<LiveDisk>,
    pub(crate) interfaces: Vec<LiveInterface>,
}

/// A disk and whose it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LiveDisk {
    pub(crate) volume: String,
    /// The guest's device, such as `vda`.
    pub(crate) target: String,
}

/// A card and what it ends in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LiveInterface {
    pub(crate) mac: String,
    pub(crate) tap: String,
}

/// Keeps the status true until the worker ends.
pub(crate) async fn follow(hypervisor: Hypervisor, status: watch::Sender<Status>, events: Events) {
    loop {
        let looked = hypervisor
            .call(|guest| Ok((guest.xml()?, guest.counters(sys::VIR_DOMAIN_STATS_BLOCK)?)))
            .await;
        let live = match looked {
            Ok((xml, counters)) => read(&xml).map(|live| (live, counters)),
            Err(error) => {
                tracing::warn!("{error}");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        match live {
            Ok((live, counters)) => show(live, &counters, &status, &events),
            Err(error) => tracing::warn!("cannot read the domain's XML: {error}"),
        }
        hypervisor.agent_changed().await;
    }
}

fn show(live: Live, counters: &Counters, status: &watch::Sender<Status>, events: &Events) {
    let agent = live.agent;
    let mut changed = false;
    status.send_modify(|status| {
        changed = status.agent_connected != agent;
        status.agent_connected = agent;
        status.machine = live.machine;
        status.disks = disks(live.disks, counters);
    });
    match (changed, agent) {
        (false, _) => {}
        (true, true) => events.push(EventKind::AgentConnected, "the guest's agent is there"),
        (true, false) => events.push(EventKind::AgentDisconnected, "the guest's agent is gone"),
    }
}

fn disks(disks: Vec<LiveDisk>, counters: &Counters) -> Vec<Disk> {
    let size = |target: &str| {
        let count = counters.number("block.count")?;
        let index = (0..count)
            .find(|index| counters.text(&format!("block.{index}.name")) == Some(target))?;
        counters.number(&format!("block.{index}.capacity"))
    };
    disks
        .into_iter()
        .map(|disk| Disk {
            size: size(&disk.target).unwrap_or(0),
            volume: disk.volume,
            target: disk.target,
        })
        .collect()
}

/// Reads what is needed of a live domain's XML, and minds nothing else in it.
///
/// # Errors
/// Where it is not XML.
pub(crate) fn read(xml: &str) -> Result<Live, quick_xml::Error> {
    let mut reader = Reader::from_str(xml);
    let mut live = Live::default();
    let mut path = String::new();
    loop {
        match reader.read_event()? {
            Event::Start(tag) => {
                enter(&mut path, &tag);
                live.note(&path, &tag)?;
            }
            Event::Empty(tag) => {
                enter(&mut path, &tag);
                live.note(&path, &tag)?;
                leave(&mut path);
            }
            Event::End(_) => leave(&mut path),
            Event::Eof => return Ok(live),
            _ => {}
        }
    }
}

fn enter(path: &mut String, tag: &BytesStart<'_>) {
    path.push('/');
    path.push_str(tag.name().0);
}

fn leave(path: &mut String) {
    path.truncate(path.rfind('/').unwrap_or(0));
}

impl Live {
    fn note(&mut self, path: &str, tag: &BytesStart<'_>) -> Result<(), quick_xml::Error> {
        let attribute = |name: &str| -> Result<String, quick_xml::Error> {
            let Some(attribute) = tag.try_get_attribute(name)? else {
                return Ok(String::new());
            };
            let value = attribute.normalized_value(XmlVersion::Implicit1_0)?;
            Ok(value.into_owned())
        };
        let (disk, interface) = (self.disks.last_mut(), self.interfaces.last_mut());
        match (path, disk, interface) {
            ("/domain/os/type", ..) => self.machine = attribute("machine")?,
            ("/domain/devices/disk", ..) => self.disks.push(LiveDisk::default()),
            ("/domain/devices/disk/target", Some(disk), _) => disk.target = attribute("dev")?,
            ("/domain/devices/disk/alias", Some(disk), _) => {
                let alias = attribute("name")?;
                disk.volume = alias.strip_prefix(ALIAS).unwrap_or_default().to_owned();
            }
            ("/domain/devices/interface", ..) => self.interfaces.push(LiveInterface::default()),
            ("/domain/devices/interface/mac", _, Some(card)) => card.mac = attribute("address")?,
            ("/domain/devices/interface/target", _, Some(card)) => card.tap = attribute("dev")?,
            ("/domain/devices/channel/target", ..) if attribute("name")? == AGENT => {
                self.agent = attribute("state")? == "connected";
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts of what libvirt 9.0 writes that matter, among others that look alike.
    fn xml(state: &str) -> String {
        format!(
            "<domain type='qemu' id='1'>
  <name>default_vm</name>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type><boot dev='hd'/></os>
  <devices>
    <disk type='file' device='disk'>
      <source file='/run/root.qcow2' index='1'/>
      <backingStore type='file'><source file='/run/base'/><backingStore/></backingStore>
      <target dev='vda' bus='virtio'/>
      <alias name='ua-root'/>
    </disk>
    <disk type='file' device='cdrom'>
      <target dev='sda' bus='sata'/><alias name='ua-data.1'/>
    </disk>
    <controller type='usb'><alias name='usb'/><target index='0'/></controller>
    <interface type='ethernet'>
      <mac address='02:00:00:00:00:01'/>
      <target dev='tap0' managed='no'/>
      <alias name='ua-default'/>
    </interface>
    <channel type='unix'>
      <source mode='bind' path='/run/agent.sock'/>
      <target type='virtio' name='org.qemu.guest_agent.0'{state}/>
    </channel>
    <channel type='unix'><target type='virtio' name='other' state='connected'/></channel>
  </devices>
</domain>"
        )
    }

    #[test]
    fn the_parts_of_a_live_domain_are_found() {
        let live = read(&xml(" state='connected'")).unwrap();
        assert_eq!(live.machine, "pc-q35-7.2");
        let disks = live.disks.iter();
        let disks: Vec<_> = disks.map(|disk| (&*disk.volume, &*disk.target)).collect();
        assert_eq!(disks, [("root", "vda"), ("data.1", "sda")]);
        let [card] = &live.interfaces[..] else {
            panic!("{live:?}")
        };
        assert_eq!((&*card.mac, &*card.tap), ("02:00:00:00:00:01", "tap0"));
    }

    #[test]
    fn only_the_agents_own_channel_tells_of_the_agent() {
        let cases = [
            (" state='connected'", true),
            (" state='disconnected'", false),
            ("", false),
        ];
        for (state, connected) in cases {
            assert_eq!(read(&xml(state)).unwrap().agent, connected, "{state}");
        }
    }

    #[test]
    fn a_disk_has_the_size_that_the_guest_sees_where_it_has_one() {
        let counters = Counters::from_text(
            "block.count=2 block.0.name=sda block.1.name=vda block.1.capacity=1073741824",
        );
        let live = read(&xml("")).unwrap();
        let sizes = disks(live.disks, &counters);
        let sizes: Vec<_> = sizes
            .iter()
            .map(|disk| (&*disk.target, disk.size))
            .collect();
        assert_eq!(sizes, [("vda", 1 << 30), ("sda", 0)]);
    }

    #[test]
    fn what_is_not_xml_is_an_error() {
        assert!(read("<domain><os></domain>").is_err());
    }
}
