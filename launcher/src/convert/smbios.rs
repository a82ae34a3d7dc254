//! What the guest reads about itself from SMBIOS: `<uuid>` and `<sysinfo>`.

use crds::DomainSpec;
use domain_xml::{Sysinfo, SysinfoEntry, SysinfoTable, SysinfoType};
use uuid::Uuid;

use super::{ConvertError, Problem};

/// The guest's UUID as libvirt writes it, so that domain and SMBIOS agree.
pub(super) fn uuid(spec: &DomainSpec) -> Result<Option<String>, ConvertError> {
    let Some(text) = spec
        .firmware
        .as_ref()
        .and_then(|firmware| firmware.uuid.as_ref())
    else {
        return Ok(None);
    };
    match Uuid::try_parse(text) {
        Ok(uuid) => Ok(Some(uuid.to_string())),
        Err(_) => Err(Problem::Uuid(text.clone()).at("spec.domain.firmware.uuid")),
    }
}

/// Manufacturer, product and family are KubeVirt's own: guest software that asks whether it
/// runs in KubeVirt is told so.
pub(super) fn sysinfo(spec: &DomainSpec) -> Result<Sysinfo, ConvertError> {
    let serial = spec
        .firmware
        .as_ref()
        .and_then(|firmware| firmware.serial.clone());
    let system = table([
        ("manufacturer", Some("KubeVirt".to_owned())),
        ("product", Some("None".to_owned())),
        ("serial", serial),
        ("uuid", uuid(spec)?),
        ("family", Some("KubeVirt".to_owned())),
    ]);
    let chassis = spec.chassis.clone().unwrap_or_default();
    let chassis = table([
        ("manufacturer", chassis.manufacturer),
        ("version", chassis.version),
        ("serial", chassis.serial),
        ("asset", chassis.asset),
        ("sku", chassis.sku),
    ]);
    Ok(Sysinfo {
        kind: SysinfoType::Smbios,
        bios: None,
        system,
        base_board: Vec::new(),
        chassis,
        oem_strings: None,
    })
}

/// The entries that say something; no table where none does.
fn table<const N: usize>(entries: [(&str, Option<String>); N]) -> Option<SysinfoTable> {
    let entries: Vec<_> = entries
        .into_iter()
        .filter_map(|(name, value)| {
            let value = value.filter(|value| !value.is_empty());
            value.map(|value| SysinfoEntry {
                name: name.to_owned(),
                value: Some(value),
            })
        })
        .collect();
    (!entries.is_empty()).then_some(SysinfoTable { entries })
}
