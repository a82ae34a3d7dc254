//! What a guest's CPU may be on this node, from libvirt's own description: pure.
//! <https://libvirt.org/formatdomaincaps.html#cpu-configuration>

use serde::{Deserialize, Serialize};

/// What a guest's CPU may be here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// libvirt's names of the models that a guest may have.
    pub models: Vec<String>,
    /// The model nearest to the host's: what `host-model` becomes.
    pub host_model: Option<String>,
    /// Its vendor, such as Intel.
    pub vendor: Option<String>,
    /// The features of a `host-model` CPU, those of its model among them.
    pub features: Vec<String>,
}

/// libvirt's description is not what is documented.
#[derive(Debug, thiserror::Error)]
#[error("libvirt's description of CPUs is not understood")]
pub struct CpuError(#[from] quick_xml::DeError);

#[derive(Deserialize)]
struct Domains {
    cpu: Modes,
}

#[derive(Deserialize)]
struct Modes {
    #[serde(default)]
    mode: Vec<Mode>,
}

#[derive(Deserialize)]
struct Mode {
    #[serde(rename = "@name")]
    name: String,
    #[serde(default)]
    model: Vec<Model>,
    vendor: Option<String>,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "@usable")]
    usable: Option<String>,
    #[serde(rename = "$text")]
    name: String,
}

#[derive(Deserialize)]
struct HostCpu {
    #[serde(default)]
    feature: Vec<Feature>,
}

#[derive(Deserialize)]
struct Feature {
    #[serde(rename = "@policy")]
    policy: Option<String>,
    #[serde(rename = "@name")]
    name: String,
}

impl Cpu {
    /// Reads `domainCapabilities`, and the host's CPU with all features, where a guest may have it.
    ///
    /// # Errors
    /// [`CpuError`] where either is not what libvirt documents.
    pub(super) fn parse(domains: &str, host: Option<&str>) -> Result<Self, CpuError> {
        let domains: Domains = quick_xml::de::from_str(domains)?;
        let host: Option<HostCpu> = host.map(quick_xml::de::from_str).transpose()?;
        let (mut host_model, mut custom) = (None, None);
        for mode in domains.cpu.mode {
            match mode.name.as_str() {
                "host-model" => host_model = Some(mode),
                "custom" => custom = Some(mode),
                _ => {}
            }
        }
        let usable = |model: &Model| model.usable.as_deref() == Some("yes");
        let models = custom.into_iter().flat_map(|custom| custom.model);
        let features = host.into_iter().flat_map(|host| host.feature);
        let has = |feature: &Feature| feature.policy.as_deref() != Some("disable");
        Ok(Self {
            models: models.filter(usable).map(|model| model.name).collect(),
            vendor: host_model.as_ref().and_then(|host| host.vendor.clone()),
            host_model: host_model
                .and_then(|host| host.model.into_iter().next())
                .map(|model| model.name),
            features: features.filter(has).map(|feature| feature.name).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // What libvirt 9.0 prints, shortened.
    const DOMAINS: &str = "<domainCapabilities>
  <path>/usr/bin/qemu-system-x86_64</path>
  <cpu>
    <mode name='host-passthrough' supported='no'/>
    <mode name='maximum' supported='yes'>
      <enum name='maximumMigratable'><value>on</value></enum>
    </mode>
    <mode name='host-model' supported='yes'>
      <model fallback='forbid'>EPYC</model>
      <vendor>AMD</vendor>
      <feature policy='require' name='acpi'/>
    </mode>
    <mode name='custom' supported='yes'>
      <model usable='yes' vendor='unknown'>qemu64</model>
      <model usable='no' vendor='AMD'>phenom</model>
      <model usable='unknown' vendor='Intel'>n270</model>
      <model usable='yes' deprecated='yes' vendor='Intel'>Haswell-noTSX-IBRS</model>
    </mode>
  </cpu>
  <devices/>
</domainCapabilities>";
    const HOST: &str = "<cpu mode='custom' match='exact'>
  <model fallback='forbid'>EPYC</model>
  <feature policy='require' name='avx'/>
  <feature policy='disable' name='vme'/>
  <feature name='sse4.2'/>
</cpu>";

    #[test]
    fn usable_models_and_present_features_are_kept() {
        let cpu = Cpu::parse(DOMAINS, Some(HOST)).unwrap();
        assert_eq!(cpu.models, ["qemu64", "Haswell-noTSX-IBRS"]);
        assert_eq!(cpu.host_model.as_deref(), Some("EPYC"));
        assert_eq!(cpu.vendor.as_deref(), Some("AMD"));
        assert_eq!(cpu.features, ["avx", "sse4.2"]);
    }

    #[test]
    fn a_host_that_no_guest_can_be_like_has_models_alone() {
        let domains = DOMAINS.replace("'host-model' supported='yes'", "'other' supported='no'");
        let cpu = Cpu::parse(&domains, None).unwrap();
        assert_eq!((cpu.host_model, cpu.vendor), (None, None));
        assert_eq!((cpu.models.len(), cpu.features.len()), (2, 0));
    }

    #[test]
    fn what_is_no_description_is_an_error() {
        assert!(Cpu::parse("<domainCapabilities/>", None).is_err());
        assert!(Cpu::parse(DOMAINS, Some("<cpu><feature/></cpu>")).is_err());
    }
}
