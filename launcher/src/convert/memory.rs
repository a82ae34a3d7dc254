//! `spec.domain.memory`: `<memory>` and `<memoryBacking>`.

use crds::{DomainSpec, Quantity};
use domain_xml::{
    Allocation, AllocationMode, HugePages, MemoryBacking, MemorySource, MemorySourceType, Page,
    Scaled,
};

use super::{ConvertError, Problem};

/// What the guest boots with: `memory.guest`, else what is requested, else the limit.
pub(super) fn memory(spec: &DomainSpec) -> Result<Scaled, ConvertError> {
    let resources = spec.resources.as_ref();
    let asked = resources.and_then(|r| r.requests.get("memory").or(r.limits.get("memory")));
    let guest = spec
        .memory
        .as_ref()
        .and_then(|memory| memory.guest.as_ref());
    guest
        .or(asked)
        .and_then(Quantity::bytes)
        .map(Scaled::bytes)
        .ok_or_else(|| Problem::NoMemory.at("spec.domain.memory.guest"))
}

/// Whether the guest's memory is of huge pages.
pub(super) fn has_hugepages(spec: &DomainSpec) -> bool {
    spec.memory
        .as_ref()
        .is_some_and(|memory| memory.hugepages.is_some())
}

/// Huge pages, all taken at start: taken later, a guest could run into their end.
///
/// From a memfd, as the kernel then needs no hugetlbfs mounted for QEMU.
pub(super) fn backing(spec: &DomainSpec) -> Result<Option<MemoryBacking>, ConvertError> {
    let Some(hugepages) = spec
        .memory
        .as_ref()
        .and_then(|memory| memory.hugepages.as_ref())
    else {
        return Ok(None);
    };
    let size = hugepages.page_size.as_deref().unwrap_or_default();
    let bytes = size.parse().ok().and_then(|size: Quantity| size.bytes());
    let Some(bytes) = bytes.filter(|bytes| *bytes > 0) else {
        let path = "spec.domain.memory.hugepages.pageSize";
        return Err(Problem::PageSize(size.to_owned()).at(path));
    };
    let page = Page {
        size: bytes,
        unit: Some("b".to_owned()),
        nodeset: None,
    };
    Ok(Some(MemoryBacking {
        hugepages: Some(HugePages { page: vec![page] }),
        source: Some(MemorySource {
            kind: MemorySourceType::Memfd,
        }),
        allocation: Some(Allocation {
            mode: Some(AllocationMode::Immediate),
            threads: None,
        }),
        ..MemoryBacking::default()
    }))
}
