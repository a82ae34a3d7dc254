//! What to do with the certificates now: pure, from what the Secret holds and the time.
//!
//! ```text
//! authority  |-------- signs -------------------|------ is trusted still -----|
//!            0                                 243 d                         365 d
//! successor                                     |-------- signs --------- ...
//! leaf       |----- is served ------|-- valid --|
//!            0                      60 d       90 d
//! ```
//!
//! A successor is trusted for an hour before it signs, so that every webhook configuration and
//! every API server knows it when the first certificate of it is served. All that is needed to
//! decide is in the certificates themselves: no state, no leader.

use std::fmt;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::authority::{Certified, IssueError, Subject, Usage, Validity};
use super::bundle::{AUTHORITIES, Bundle, Flaw};
use crate::error::Chain;

/// How long an authority is trusted before it signs.
pub const TRUST_DELAY: SignedDuration = SignedDuration::from_hours(1);

/// What to do with the certificates. Displayed as what is made, and why.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing.
    Keep,
    /// Make an authority and sign a certificate: there is nothing to build on.
    StartAnew(Flaw),
    /// Make an authority beside the present one, which has less than a third of its life left.
    AddAuthority,
    /// Sign a certificate: the present one has less than a third of its life left.
    Renew,
    /// Sign a certificate at once: the present one is of no use.
    Replace(Flaw),
}

/// Decides what to do with what was found in the Secret, for a server that is reached under
/// `names`.
pub fn plan(found: &Result<Bundle, Flaw>, names: &[String], now: Timestamp) -> Step {
    let bundle = match found {
        Ok(bundle) => bundle,
        Err(flaw) => return Step::StartAnew(flaw.clone()),
    };
    let Some(authority) = Validity::of(&bundle.authority.certificate) else {
        return Step::StartAnew(Flaw::Unreadable(AUTHORITIES));
    };
    if !authority.contains(now) {
        return Step::StartAnew(Flaw::Expired(authority));
    }
    let leaf = match bundle.check_leaf(names, now) {
        Ok(leaf) => leaf,
        Err(flaw) => return Step::Replace(flaw),
    };
    if authority.is_due(now) {
        return Step::AddAuthority;
    }
    match bundle.has_successor_for(leaf, now) {
        true => Step::Renew,
        false => Step::Keep,
    }
}

impl Step {
    /// What the Secret is to hold after this step; `found` if nothing is to be done.
    ///
    /// # Errors
    /// When a certificate cannot be made.
    pub fn perform(
        &self,
        found: Result<Bundle, Flaw>,
        names: &[String],
        now: Timestamp,
    ) -> Result<Bundle, IssueError> {
        let mut bundle = match (self, found) {
            (Self::StartAnew(_), _) | (_, Err(_)) => {
                let authority = Certified::authority(now)?;
                return Ok(Bundle {
                    leaf: Ok(authority.issue(&server(names), now)?),
                    authority,
                    retired: Vec::new(),
                });
            }
            (Self::Keep, Ok(bundle)) => return Ok(bundle),
            (_, Ok(bundle)) => bundle,
        };
        if *self == Self::AddAuthority {
            let retired = std::mem::replace(&mut bundle.authority, Certified::authority(now)?);
            bundle.retired.insert(0, retired.certificate);
        } else {
            bundle.leaf = Ok(bundle.authority.issue(&server(names), now)?);
        }
        bundle.retired.retain(|certificate| {
            Validity::of(certificate).is_some_and(|validity| validity.contains(now))
        });
        Ok(bundle)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => f.write_str("nothing to do"),
            Self::StartAnew(flaw) => write!(f, "an authority and a certificate: {}", Chain(flaw)),
            Self::AddAuthority => f.write_str("a second authority: the first one ages"),
            Self::Renew => f.write_str("a certificate: the present one ages"),
            Self::Replace(flaw) => write!(f, "a certificate: {}", Chain(flaw)),
        }
    }
}

fn server(names: &[String]) -> Subject {
    Subject {
        common_name: "virt-controller".to_owned(),
        dns_names: names.to_vec(),
        usage: Usage::Server,
    }
}
