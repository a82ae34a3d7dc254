//! `src:…,name:…,bootorder:…`: a disk as KubeVirt's flags describe it.

use std::str::FromStr;

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// The image or the claim.
    pub(super) src: String,
    /// The volume's name, if it is given.
    pub(super) name: Option<String>,
    /// The place in the order of boot devices.
    pub(super) boot_order: Option<u32>,
}

/// The text describes no disk.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ParseSourceError {
    #[error("src is missing; write src:WHAT[,name:NAME][,bootorder:NUMBER]")]
    NoSource,
    #[error("{0:?} is no parameter; write src:WHAT, name:NAME or bootorder:NUMBER")]
    Unknown(String),
    #[error("{0} is given twice; leave one")]
    Twice(String),
    #[error("bootorder {0:?} is no place; write a number from 1")]
    BootOrder(String),
}

impl FromStr for Source {
    type Err = ParseSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (mut src, mut name, mut order) = (None, None, None);
        for parameter in text.split(',') {
            // The rest of an image's name has colons of its own.
            let known = parameter.split_once(':').and_then(|(key, value)| {
                let place = match key {
                    "src" => &mut src,
                    "name" => &mut name,
                    "bootorder" => &mut order,
                    _ => return None,
                };
                (!value.is_empty()).then_some((key, place, value))
            });
            let Some((key, place, value)) = known else {
                return Err(ParseSourceError::Unknown(parameter.to_owned()));
            };
            if place.replace(value.to_owned()).is_some() {
                return Err(ParseSourceError::Twice(key.to_owned()));
            }
        }
        let boot_order = match order {
            None => None,
            Some(text) => match text.parse() {
                Ok(place @ 1..) => Some(place),
                _ => return Err(ParseSourceError::BootOrder(text)),
            },
        };
        Ok(Self {
            src: src.ok_or(ParseSourceError::NoSource)?,
            name,
            boot_order,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_described_by_parameters() {
        let source = |src: &str, name: Option<&str>, boot_order| {
            Ok(Source {
                src: src.to_owned(),
                name: name.map(str::to_owned),
                boot_order,
            })
        };
        let unknown = |text: &str| Err(ParseSourceError::Unknown(text.to_owned()));
        for (text, parsed) in [
            (
                "src:host:5000/image:tag",
                source("host:5000/image:tag", None, None),
            ),
            (
                "bootorder:2,name:root,src:disk",
                source("disk", Some("root"), Some(2)),
            ),
            ("name:root", Err(ParseSourceError::NoSource)),
            ("", unknown("")),
            ("disk", unknown("disk")),
            ("src:", unknown("src:")),
            ("src:disk,size:1Gi", unknown("size:1Gi")),
            (
                "src:a,src:b",
                Err(ParseSourceError::Twice("src".to_owned())),
            ),
            (
                "src:a,bootorder:0",
                Err(ParseSourceError::BootOrder("0".to_owned())),
            ),
        ] {
            assert_eq!(text.parse::<Source>(), parsed, "{text}");
        }
    }
}
