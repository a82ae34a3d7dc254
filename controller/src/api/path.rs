//! What a call is about, as its path says: read once, as it is given, and never decoded.
//!
//! ```text
//! /apis/subresources.kubevirt.io/{version}/version
//! /apis/subresources.kubevirt.io/{version}/namespaces/{namespace}/expand-vm-spec
//! /apis/subresources.kubevirt.io/{version}/namespaces/{namespace}/{resource}/{name}/{subresource...}
//! ```
//!
//! The API server has authorised the same path before, and the router chooses by it afterwards:
//! what could be read in two ways is refused here.

use super::{GROUP, VERSIONS};

/// What a call is about. What its path does not name is empty, as in a SubjectAccessReview.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The version of the group.
    pub version: String,
    /// The namespace.
    pub namespace: String,
    /// `virtualmachines`, `virtualmachineinstances`, `expand-vm-spec` or `version`; or what nobody
    /// serves.
    pub resource: String,
    /// The machine's or the instance's name.
    pub name: String,
    /// What is asked of it, as RBAC knows it: of `portforward/22/tcp`, `portforward`.
    pub subresource: String,
}

/// A path is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing is served there.
    #[error("the server could not find the requested resource")]
    Unknown,
    /// A part of it could be read in more than one way, or is no name.
    #[error(
        "the path has a part that is no name: between slashes are lower-case letters, digits, '-' \
         and '.', at most 253 of them, and nothing is percent-encoded"
    )]
    Malformed,
}

/// How long a name may be (RFC 1123, as Kubernetes has it).
const NAME: usize = 253;
/// How long a namespace's name may be.
const LABEL: usize = 63;

impl Call {
    /// Reads a path, which is without its query.
    ///
    /// # Errors
    /// When it is none of those that can be authorised.
    pub fn parse(path: &str) -> Result<Self, PathError> {
        let path = path.strip_prefix('/').ok_or(PathError::Malformed)?;
        // The whole of it, before any of it is believed.
        if !path.split('/').all(is_name) {
            return Err(PathError::Malformed);
        }
        let parts: Vec<_> = path.split('/').collect();
        let ["apis", GROUP, version, rest @ ..] = parts.as_slice() else {
            return Err(PathError::Unknown);
        };
        if !VERSIONS.contains(version) {
            return Err(PathError::Unknown);
        }
        let call = |namespace: &str, resource: &str, name: &str, subresource: String| Self {
            version: (*version).to_owned(),
            namespace: namespace.to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            subresource,
        };
        match rest {
            [resource] => Ok(call("", resource, "", String::new())),
            ["namespaces", namespace, _, ..] if !is_label(namespace) => Err(PathError::Malformed),
            ["namespaces", namespace, resource] => Ok(call(namespace, resource, "", String::new())),
            ["namespaces", namespace, resource, name, "portforward", ..] => {
                Ok(call(namespace, resource, name, "portforward".to_owned()))
            }
            ["namespaces", namespace, resource, name, subresource @ ..]
                if !subresource.is_empty() =>
            {
                Ok(call(namespace, resource, name, subresource.join("/")))
            }
            _ => Err(PathError::Unknown),
        }
    }
}

/// A DNS subdomain, which everything in our paths is: versions, ports and verbs too.
fn is_name(part: &str) -> bool {
    part.len() <= NAME && part.split('.').all(is_dns_label)
}

fn is_label(part: &str) -> bool {
    part.len() <= LABEL && is_dns_label(part)
}

fn is_dns_label(label: &str) -> bool {
    let alphanumeric = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
    let bytes = label.as_bytes();
    bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "/apis/subresources.kubevirt.io/v1";

    fn call(namespace: &str, resource: &str, name: &str, subresource: &str) -> Call {
        Call {
            version: "v1".to_owned(),
            namespace: namespace.to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
        }
    }

    #[test]
    fn what_is_served_is_read_as_it_is_given() {
        let vmis = "virtualmachineinstances";
        let long = "a".repeat(NAME);
        let cases = [
            ("/version".to_owned(), call("", "version", "", "")),
            (
                "/namespaces/n/expand-vm-spec".to_owned(),
                call("n", "expand-vm-spec", "", ""),
            ),
            (
                "/namespaces/n/virtualmachines/web/start".to_owned(),
                call("n", "virtualmachines", "web", "start"),
            ),
            (
                format!("/namespaces/n/{vmis}/web-1.example/console"),
                call("n", vmis, "web-1.example", "console"),
            ),
            (
                format!("/namespaces/n/{vmis}/web/vnc/screenshot"),
                call("n", vmis, "web", "vnc/screenshot"),
            ),
            (
                format!("/namespaces/n/{vmis}/web/portforward/22"),
                call("n", vmis, "web", "portforward"),
            ),
            (
                format!("/namespaces/n/{vmis}/web/portforward/22/tcp"),
                call("n", vmis, "web", "portforward"),
            ),
            (
                format!("/namespaces/n/{vmis}/{long}/console"),
                call("n", vmis, &long, "console"),
            ),
            // Read, so that it is authorised before anybody learns that it is not served.
            (
                format!("/namespaces/n/{vmis}/web/console/twice"),
                call("n", vmis, "web", "console/twice"),
            ),
            (
                "/namespaces/namespaces/namespaces/namespaces/namespaces".to_owned(),
                call("namespaces", "namespaces", "namespaces", "namespaces"),
            ),
        ];
        for (path, expected) in cases {
            assert_eq!(
                Call::parse(&format!("{BASE}{path}")),
                Ok(expected),
                "{path}"
            );
        }
    }

    #[test]
    fn both_versions_are_known() {
        for version in VERSIONS {
            let path = format!("/apis/{GROUP}/{version}/version");
            assert_eq!(Call::parse(&path).unwrap().version, version);
        }
    }

    #[test]
    fn tricks_are_refused() {
        let long = format!("/namespaces/n/virtualmachines/{}/start", "a".repeat(300));
        let label = format!("/namespaces/{}/virtualmachines/a/start", "a".repeat(64));
        let tricks = [
            "/namespaces/n/virtualmachineinstances/web//console",
            "//namespaces/n/virtualmachineinstances/web/console",
            "/namespaces/n/virtualmachineinstances/./console",
            "/namespaces/n/virtualmachineinstances/../console",
            "/namespaces/n/virtualmachineinstances/web/../../../m/virtualmachineinstances/a/console",
            "/namespaces/n/virtualmachineinstances/web/console/",
            "/namespaces/n/virtualmachineinstances/web/console/.",
            "/namespaces/n/virtualmachineinstances/web/console/..",
            "/namespaces/n/virtualmachineinstances/web%2fconsole/vnc",
            "/namespaces/n/virtualmachineinstances/web%2Fconsole/vnc",
            "/namespaces/n/virtualmachineinstances/web/%2e%2e/console",
            "/namespaces/n/virtualmachineinstances/web/%63onsole",
            "/namespaces/n/virtualmachineinstances/web/%2563onsole",
            "/namespaces/n/virtualmachineinstances/web/console%00",
            "/namespaces/n/virtualmachineinstances/web\0/console",
            "/namespaces/n/virtualmachineinstances/Web/console",
            "/namespaces/n/VirtualMachineInstances/web/console",
            "/namespaces/n/virtualmachineinstances/web/Console",
            "/namespaces/n/virtualmachineinstances/web;x=y/console",
            "/namespaces/n/virtualmachineinstances/web\\console/vnc",
            "/namespaces/n/virtualmachineinstances/web/console?x",
            "/namespaces/n/virtualmachineinstances/web/console#x",
            "/namespaces/n/virtualmachineinstances/wéb/console",
            "/namespaces/n/virtualmachineinstances/-web/console",
            "/namespaces/n/virtualmachineinstances/web-/console",
            "/namespaces/n/virtualmachineinstances/we..b/console",
            "/namespaces/n/virtualmachineinstances/web./console",
            "/namespaces/n/virtualmachineinstances/web /console",
            "/namespaces/n.m/virtualmachineinstances/web/console",
            "/namespaces//virtualmachineinstances/web/console",
            "/",
            &long,
            &label,
        ];
        for trick in tricks {
            let path = format!("{BASE}{trick}");
            assert_eq!(Call::parse(&path), Err(PathError::Malformed), "{path}");
        }
        for path in ["", "*", "apis", "/", "//", "http://a/apis"] {
            assert_eq!(Call::parse(path), Err(PathError::Malformed), "{path:?}");
        }
    }

    #[test]
    fn what_is_elsewhere_is_not_found() {
        let base = format!("/apis/{GROUP}");
        let paths = [
            "/apis".to_owned(),
            base.clone(),
            format!("{base}/v1"),
            format!("{base}/v2/version"),
            format!("{base}/v1/namespaces/n"),
            format!("{base}/v1/namespaces/n/virtualmachines/web"),
            format!("{base}/v1/virtualmachines/web/start"),
            "/apis/kubevirt.io/v1/namespaces/n/virtualmachines/web/start".to_owned(),
            "/api/v1/namespaces/n/pods/web/exec".to_owned(),
            "/openapi/v2".to_owned(),
        ];
        for path in paths {
            assert_eq!(Call::parse(&path), Err(PathError::Unknown), "{path}");
        }
    }
}
