//! libvirt's counters under the VMI's names.

use launcher_api::{BlockStats, Interface, InterfaceStats, MemoryStats, Stats, VcpuStats};
use virt::sys;

use crate::hypervisor::Counters;
use crate::live::Live;

/// What of libvirt's counters [`stats`] needs.
pub(crate) const KINDS: sys::virDomainStatsTypes = sys::VIR_DOMAIN_STATS_CPU_TOTAL
    | sys::VIR_DOMAIN_STATS_BALLOON
    | sys::VIR_DOMAIN_STATS_VCPU
    | sys::VIR_DOMAIN_STATS_INTERFACE
    | sys::VIR_DOMAIN_STATS_BLOCK;

/// libvirt counts memory in KiB.
const KIB: u64 = 1024;

/// Translates the counters of a domain. `interfaces` are the VMI's: libvirt knows taps, and the MAC
/// tells which is whose.
pub(crate) fn stats(counters: &Counters, live: &Live, interfaces: &[Interface]) -> Stats {
    let count = |name: &str| counters.number(name).unwrap_or(0);
    let interface = |tap: &str| {
        let card = live.interfaces.iter().find(|card| card.tap == tap)?;
        let known = |interface: &&Interface| interface.mac.eq_ignore_ascii_case(&card.mac);
        Some(interfaces.iter().find(known)?.name.clone())
    };
    let volume = |target: &str| {
        let disk = live.disks.iter().find(|disk| disk.target == target)?;
        Some(disk.volume.clone())
    };
    Stats {
        cpu_time_ns: count("cpu.time"),
        cpu_user_ns: count("cpu.user"),
        cpu_system_ns: count("cpu.system"),
        vcpus: (0..u32::try_from(count("vcpu.maximum")).unwrap_or(0))
            .filter_map(|number| vcpu(counters, number))
            .collect(),
        memory: Some(memory(counters)),
        interfaces: (0..count("net.count"))
            .filter_map(|index| {
                let name = interface(counters.text(&format!("net.{index}.name"))?)?;
                Some(card(counters, index, name))
            })
            .collect(),
        blocks: (0..count("block.count"))
            .filter_map(|index| {
                let name = volume(counters.text(&format!("block.{index}.name"))?)?;
                Some(block(counters, index, name))
            })
            .collect(),
    }
}

/// A virtual CPU, where there is one of that number.
fn vcpu(counters: &Counters, number: u32) -> Option<VcpuStats> {
    let field = |name: &str| counters.number(&format!("vcpu.{number}.{name}"));
    let state = match u32::try_from(field("state")?).ok()? {
        sys::VIR_VCPU_RUNNING => "running",
        sys::VIR_VCPU_BLOCKED => "blocked",
        _ => "offline",
    };
    Some(VcpuStats {
        number,
        state: state.to_owned(),
        time_ns: field("time").unwrap_or(0),
        wait_ns: field("wait").unwrap_or(0),
    })
}

fn memory(counters: &Counters) -> MemoryStats {
    let number = |name: &str| counters.number(&format!("balloon.{name}"));
    let bytes = |name: &str| Some(number(name)?.saturating_mul(KIB));
    MemoryStats {
        domain_bytes: bytes("current").unwrap_or(0),
        resident_bytes: bytes("rss"),
        available_bytes: bytes("available"),
        unused_bytes: bytes("unused"),
        usable_bytes: bytes("usable"),
        cached_bytes: bytes("disk_caches"),
        swap_in_bytes: bytes("swap_in"),
        swap_out_bytes: bytes("swap_out"),
        major_faults: number("major_fault"),
        minor_faults: number("minor_fault"),
    }
}

fn card(counters: &Counters, index: u64, name: String) -> InterfaceStats {
    let field = |name: &str| {
        let name = format!("net.{index}.{name}");
        counters.number(&name).unwrap_or(0)
    };
    InterfaceStats {
        name,
        receive_bytes: field("rx.bytes"),
        receive_packets: field("rx.pkts"),
        receive_errors: field("rx.errs"),
        receive_drops: field("rx.drop"),
        transmit_bytes: field("tx.bytes"),
        transmit_packets: field("tx.pkts"),
        transmit_errors: field("tx.errs"),
        transmit_drops: field("tx.drop"),
    }
}

fn block(counters: &Counters, index: u64, name: String) -> BlockStats {
    let field = |name: &str| {
        let name = format!("block.{index}.{name}");
        counters.number(&name).unwrap_or(0)
    };
    BlockStats {
        name,
        read_bytes: field("rd.bytes"),
        read_requests: field("rd.reqs"),
        read_time_ns: field("rd.times"),
        write_bytes: field("wr.bytes"),
        write_requests: field("wr.reqs"),
        write_time_ns: field("wr.times"),
        flush_requests: field("fl.reqs"),
        flush_time_ns: field("fl.times"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::{LiveDisk, LiveInterface};

    #[test]
    fn counters_come_under_the_names_of_the_vmi() {
        let live = Live {
            disks: vec![LiveDisk {
                volume: "root".into(),
                target: "vda".into(),
            }],
            interfaces: vec![LiveInterface {
                mac: "02:00:00:00:00:0a".into(),
                tap: "tap0".into(),
            }],
            ..Live::default()
        };
        let interface = Interface {
            name: "default".into(),
            mac: "02:00:00:00:00:0A".into(),
            ..Interface::default()
        };
        let counters = Counters::from_text(
            "cpu.time=7 cpu.user=5 cpu.system=2 vcpu.current=1 vcpu.maximum=2
             vcpu.0.state=1 vcpu.0.time=6 vcpu.0.wait=1 vcpu.1.state=0
             balloon.current=1024 balloon.rss=2 balloon.major_fault=3
             net.count=2 net.0.name=tap0 net.0.rx.bytes=11 net.0.tx.drop=12 net.1.name=other
             block.count=2 block.0.name=vda block.0.rd.bytes=21 block.0.fl.times=22
             block.1.name=vdb",
        );
        let stats = stats(&counters, &live, &[interface]);
        assert_eq!(
            (stats.cpu_time_ns, stats.cpu_user_ns, stats.cpu_system_ns),
            (7, 5, 2)
        );
        let vcpus = stats.vcpus.iter();
        let vcpus: Vec<_> = vcpus
            .map(|vcpu| (vcpu.number, &*vcpu.state, vcpu.time_ns, vcpu.wait_ns))
            .collect();
        assert_eq!(vcpus, [(0, "running", 6, 1), (1, "offline", 0, 0)]);
        let memory = stats.memory.unwrap();
        assert_eq!(
            (memory.domain_bytes, memory.resident_bytes),
            (1 << 20, Some(2048))
        );
        // Faults are counted, not measured; what nobody told is absent.
        assert_eq!((memory.major_faults, memory.unused_bytes), (Some(3), None));
        let [card] = &stats.interfaces[..] else {
            panic!("{:?}", stats.interfaces)
        };
        assert_eq!(
            (&*card.name, card.receive_bytes, card.transmit_drops),
            ("default", 11, 12)
        );
        let [block] = &stats.blocks[..] else {
            panic!("{:?}", stats.blocks)
        };
        assert_eq!(
            (&*block.name, block.read_bytes, block.flush_time_ns),
            ("root", 21, 22)
        );
    }

    #[test]
    fn no_counters_are_no_virtual_cpus_and_no_devices() {
        let stats = stats(&Counters::default(), &Live::default(), &[]);
        assert_eq!(
            stats.vcpus.len() + stats.interfaces.len() + stats.blocks.len(),
            0
        );
    }
}
