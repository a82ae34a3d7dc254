//! Rules about the machine without its devices.

use std::collections::BTreeMap;

use super::firmware;
use super::text::Unique;
use crate::defaults::{has_synic_timer, is_on};
use crate::field::Field;
use crate::{CPU, Clock, DomainSpec, FeatureHyperv, FieldError, Memory, Quantity};

/// The most virtual CPUs that a machine without an interrupt-remapping IOMMU can address.
const CPUS_MOST: u64 = 255;

/// The least memory that firmware starts in.
const MEMORY_LEAST: u64 = 1024 * 1024;

pub(super) fn check(domain: &DomainSpec, at: &Field, errors: &mut Vec<FieldError>) {
    if let Some(cpu) = &domain.cpu {
        check_cpu(cpu, &at.at("cpu"), errors);
    }
    resources(domain, at, errors);
    memory(domain, at, errors);
    if let Some(machine) = domain
        .machine
        .as_ref()
        .and_then(|machine| machine.type_.as_ref())
    {
        let version = machine.strip_prefix("pc-q35-").unwrap_or_default();
        let known = !version.is_empty() && word(version);
        if machine != "q35" && !known {
            errors.push(at.at("machine.type").error(format!(
                "{machine:?} is not supported; use q35, or one of its versions such as pc-q35-7.2"
            )));
        }
    }
    if let Some(clock) = &domain.clock {
        check_clock(clock, &at.at("clock"), errors);
    }
    if let Some(hyperv) = domain
        .features
        .as_ref()
        .and_then(|features| features.hyperv.as_ref())
    {
        check_hyperv(hyperv, &at.at("features.hyperv"), errors);
        let timer = domain.clock.as_ref().and_then(|clock| clock.timer.as_ref());
        let timer = timer.and_then(|timer| timer.hyperv.as_ref());
        if has_synic_timer(hyperv) && timer.is_none_or(|timer| timer.present == Some(false)) {
            errors.push(
                at.at("clock.timer.hyperv")
                    .error("features.hyperv.synictimer needs it; add it, or remove synictimer"),
            );
        }
    }
    firmware::check(domain, &at.at("firmware"), errors);
}

/// A name of libvirt's: a CPU model, a feature, a version.
fn word(text: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    !text.is_empty() && text.bytes().all(allowed)
}

fn check_cpu(cpu: &CPU, at: &Field, errors: &mut Vec<FieldError>) {
    let counts = [
        ("sockets", cpu.sockets),
        ("cores", cpu.cores),
        ("threads", cpu.threads),
    ];
    for (name, count) in counts {
        if count == Some(0) {
            errors.push(at.at(name).error("0 makes no CPU; write at least 1"));
        }
    }
    let cpus = counts
        .into_iter()
        .map(|(_, count)| u64::from(count.unwrap_or(1)))
        .fold(1, u64::saturating_mul);
    if cpus > CPUS_MOST {
        errors.push(at.error(format!(
            "sockets x cores x threads make {cpus} CPUs; {CPUS_MOST} are the most"
        )));
    }
    if let Some(model) = &cpu.model
        && !word(model)
    {
        errors.push(at.at("model").error(format!(
            "{model:?} is no CPU model; use host-model, host-passthrough or a model of libvirt's"
        )));
    }
    let mut names = Unique::new("leave one of the two");
    for (index, feature) in cpu.features.iter().enumerate() {
        let at = at.at("features").index(index).at("name");
        if !word(&feature.name) {
            let detail = format!(
                "{:?} is no CPU feature; use a name of libvirt's, such as vmx",
                feature.name
            );
            errors.push(at.error(detail));
        }
        names.add(format!("{:?}", feature.name), at, errors);
    }
}

fn resources(domain: &DomainSpec, at: &Field, errors: &mut Vec<FieldError>) {
    let Some(resources) = &domain.resources else {
        return;
    };
    let at = at.at("resources");
    known_resources(&resources.limits, &at.at("limits"), errors);
    known_resources(&resources.requests, &at.at("requests"), errors);
    for (name, request) in &resources.requests {
        if let Some(limit) = resources.limits.get(name)
            && request > limit
        {
            errors.push(at.at("requests").at(name).error(format!(
                "{request} is more than the limit, {limit}; make it at most that"
            )));
        }
    }
}

fn known_resources(list: &BTreeMap<String, Quantity>, at: &Field, errors: &mut Vec<FieldError>) {
    for (name, quantity) in list {
        if name != "memory" && name != "cpu" {
            errors.push(at.at(name).error("not supported; only memory and cpu are"));
        } else if quantity.signum() < 0 {
            errors.push(
                at.at(name)
                    .error(format!("{quantity} is below zero; write what is needed")),
            );
        }
    }
}

fn memory(domain: &DomainSpec, at: &Field, errors: &mut Vec<FieldError>) {
    let at = at.at("memory");
    let memory = domain.memory.as_ref();
    let Some(guest) = memory.and_then(|memory| memory.guest) else {
        let detail = "required; write how much memory the guest has, such as 1Gi";
        errors.push(at.at("guest").error(detail));
        return;
    };
    let guest_at = at.at("guest");
    let bytes = guest.bytes().filter(|bytes| i64::try_from(*bytes).is_ok());
    if bytes.is_none_or(|bytes| bytes < MEMORY_LEAST) {
        errors.push(guest_at.error(format!(
            "{guest} is no size of a memory; write at least 1Mi"
        )));
        return;
    }
    if let Some(resources) = &domain.resources {
        if let Some(limit) = resources
            .limits
            .get("memory")
            .filter(|limit| guest > **limit)
        {
            errors.push(guest_at.error(format!(
                "{guest} is more than resources.limits.memory, {limit}; make it at most that"
            )));
        }
        if let Some(request) = resources
            .requests
            .get("memory")
            .filter(|request| guest < **request)
        {
            errors.push(guest_at.error(format!(
                "{guest} is less than resources.requests.memory, {request}; make it at least that"
            )));
        }
    }
    if let (Some(memory), Some(bytes)) = (memory, bytes) {
        hugepages(memory, bytes, &at, errors);
    }
}

fn hugepages(memory: &Memory, guest: u64, at: &Field, errors: &mut Vec<FieldError>) {
    let Some(hugepages) = &memory.hugepages else {
        return;
    };
    let page: u64 = match hugepages.page_size.as_deref() {
        Some("2Mi") => 2 << 20,
        Some("1Gi") => 1 << 30,
        other => {
            let found = other.map_or("not given".to_owned(), |size| {
                format!("{size:?} is no size of a huge page")
            });
            let detail = format!("{found}; write 2Mi or 1Gi");
            errors.push(at.at("hugepages.pageSize").error(detail));
            return;
        }
    };
    if !guest.is_multiple_of(page) {
        errors.push(at.at("guest").error(format!(
            "{guest} bytes are not a multiple of the huge page, {}; round it up",
            hugepages.page_size.as_deref().unwrap_or_default()
        )));
    }
}

fn check_clock(clock: &Clock, at: &Field, errors: &mut Vec<FieldError>) {
    if clock.utc.is_some() && clock.timezone.is_some() {
        errors.push(
            at.at("timezone")
                .error("excludes utc; leave one of the two"),
        );
    }
    if let Some(zone) = &clock.timezone {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || b"_+-/".contains(&c);
        if zone.is_empty() || !zone.bytes().all(allowed) {
            errors.push(at.at("timezone").error(format!(
                "{zone:?} is no time zone; write one such as Europe/Berlin"
            )));
        }
    }
}

fn check_hyperv(hyperv: &FeatureHyperv, at: &Field, errors: &mut Vec<FieldError>) {
    if let Some(retries) = hyperv
        .spinlocks
        .as_ref()
        .and_then(|spinlocks| spinlocks.spinlocks)
        && retries < 4096
    {
        let detail = format!("{retries} are too few retries; write at least 4096");
        errors.push(at.at("spinlocks.spinlocks").error(detail));
    }
    if let Some(vendor) = hyperv
        .vendorid
        .as_ref()
        .filter(|vendor| vendor.enabled != Some(false))
    {
        let id = vendor.vendorid.as_deref().unwrap_or_default();
        let allowed = |c: u8| c.is_ascii_graphic() && c != b',' || c == b' ';
        if !(1..=12).contains(&id.len()) || !id.bytes().all(allowed) {
            errors.push(at.at("vendorid.vendorid").error(format!(
                "{id:?} is no vendor; write 1 to 12 ASCII characters without a comma"
            )));
        }
    }
    let tlbflush = hyperv.tlbflush.as_ref();
    let tlbflush = tlbflush.is_some_and(|flush| flush.enabled.unwrap_or(true));
    let needs = [
        (
            "synictimer",
            has_synic_timer(hyperv),
            "synic",
            &hyperv.synic,
        ),
        ("synic", is_on(&hyperv.synic), "vpindex", &hyperv.vpindex),
        ("ipi", is_on(&hyperv.ipi), "vpindex", &hyperv.vpindex),
        ("tlbflush", tlbflush, "vpindex", &hyperv.vpindex),
        ("evmcs", is_on(&hyperv.evmcs), "vapic", &hyperv.vapic),
    ];
    for (name, enabled, needed, state) in needs {
        if enabled && !is_on(state) {
            errors.push(
                at.at(needed)
                    .error(format!("{name} needs it; enable it, or remove {name}")),
            );
        }
    }
}
