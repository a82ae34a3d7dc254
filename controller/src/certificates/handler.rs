//! What virt-controller and the handlers know each other by: both sides' certificates are of the
//! one authority.
//!
//! ```text
//! Bundle --> Secret virt-handler-certificates --> every handler: server `virt-handler`
//!    |       (kept as the Bundle is: by the time alone)            |
//!    '-----> in each replica's memory: client `virt-controller` ---' mutual TLS
//! ```
//!
//! A certificate that is still good is followed by a new authority's only when that has been
//! trusted for [`TRUST_DELAY`]: the kubelet takes a minute or two to show a handler a changed
//! Secret. Where there is none, in a Secret that is not there or of no use, or in a process that
//! has just started, the newest authority signs at once. Who starts within that minute or two of a
//! new authority is refused by the handlers that do not know it yet, until they do.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::jiff::Timestamp;
use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::warn;

use super::attend::CHECK_EVERY;
use super::authority::{Certified, IssueError, Subject, Usage};
use super::bundle::{self, AUTHORITIES, Bundle, Flaw, LEAF, LEAF_KEY};
#[cfg(doc)]
use super::plan::TRUST_DELAY;
use crate::error::Chain;

/// The Secret that handlers mount.
pub const HANDLER_SECRET: &str = "virt-handler-certificates";
/// The name by which every handler is known. They are dialled by address, and share a certificate.
pub const HANDLER: &str = "virt-handler";
/// The name by which handlers know virt-controller.
const CONTROLLER: &str = "virt-controller";

/// What to do with the handlers' Secret. Displayed as what is made, and why.
#[derive(Clone, Debug, PartialEq)]
pub enum HandlerStep {
    /// Nothing.
    Keep,
    /// Write whom to trust beside the present certificate.
    Trust,
    /// Sign a certificate: the present one has less than a third of its life left.
    Renew,
    /// Sign a certificate at once: the present one is of no use.
    Replace(Flaw),
}

/// Decides what to do with what was found in the handlers' Secret, which is empty if there is none.
pub fn plan_handler(
    found: &BTreeMap<String, ByteString>,
    authority: &Bundle,
    now: Timestamp,
) -> HandlerStep {
    let leaf = bundle::leaf(found).and_then(|leaf| {
        authority.check_server(&leaf.certificate, &[HANDLER.to_owned()], now)?;
        Ok(leaf)
    });
    let leaf = match leaf {
        Ok(leaf) => leaf,
        Err(flaw) => return HandlerStep::Replace(flaw),
    };
    if authority.has_successor_for(&leaf, now) {
        return HandlerStep::Renew;
    }
    let trusted = found.get(AUTHORITIES).map(|trusted| trusted.0.as_slice());
    match trusted == Some(authority.trusted().as_bytes()) {
        true => HandlerStep::Keep,
        false => HandlerStep::Trust,
    }
}

impl HandlerStep {
    /// What the Secret is to hold after this step; `found` if nothing is to be done.
    ///
    /// # Errors
    /// When a certificate cannot be made.
    pub fn perform(
        &self,
        found: BTreeMap<String, ByteString>,
        authority: &Bundle,
        now: Timestamp,
    ) -> Result<BTreeMap<String, ByteString>, IssueError> {
        if *self == Self::Keep {
            return Ok(found);
        }
        let mut data = found;
        let mut put = |entry: &str, pem: String| {
            data.insert(entry.to_owned(), ByteString(pem.into_bytes()));
        };
        put(AUTHORITIES, authority.trusted());
        if *self != Self::Trust {
            let subject = Subject {
                common_name: HANDLER.to_owned(),
                dns_names: vec![HANDLER.to_owned()],
                usage: Usage::Server,
            };
            let leaf = authority.authority.issue(&subject, now)?;
            put(LEAF, bundle::encode([&leaf.certificate]));
            put(LEAF_KEY, leaf.key.serialize_pem());
        }
        Ok(data)
    }
}

impl fmt::Display for HandlerStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => f.write_str("nothing"),
            Self::Trust => f.write_str("it trust the present authorities"),
            Self::Renew => f.write_str("a certificate: the present one ages"),
            Self::Replace(flaw) => write!(f, "a certificate: {}", Chain(flaw)),
        }
    }
}

/// Whether a certificate by which handlers know this process needs a successor.
fn is_client_due(present: &Certified, authority: &Bundle, now: Timestamp) -> bool {
    authority.check_client(&present.certificate, now).is_err()
        || authority.has_successor_for(present, now)
}

/// Signs a certificate by which handlers know this process.
///
/// # Errors
/// When the system has no randomness.
pub fn client(authority: &Bundle, now: Timestamp) -> Result<Certified, IssueError> {
    let subject = Subject {
        common_name: CONTROLLER.to_owned(),
        dns_names: Vec::new(),
        usage: Usage::Client,
    };
    authority.authority.issue(&subject, now)
}

/// Keeps, for ever, how to reach handlers: by a certificate that no other process has. `config`
/// gets it at once, and whenever something about it changes.
pub async fn dial(
    mut authority: watch::Receiver<Option<Arc<Bundle>>>,
    config: &watch::Sender<Option<Arc<ClientConfig>>>,
) -> Infallible {
    let mut present = None;
    loop {
        let bundle = authority.borrow_and_update().clone();
        if let Some(bundle) = bundle {
            match redial(&mut present, &bundle, Timestamp::now()) {
                Ok(redialled) => {
                    config.send_replace(Some(Arc::new(redialled)));
                }
                Err(error) => warn!("reaching virt-handler: {}", Chain(&error)),
            }
        }
        if let Ok(Err(_)) = timeout(CHECK_EVERY, authority.changed()).await {
            // Who keeps the authority has ended, and with it the process, nearly.
            std::future::pending::<()>().await;
        }
    }
}

/// A handler cannot be reached.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("making a certificate")]
    Issue(#[from] IssueError),
    #[error("using a certificate")]
    Use(#[from] rustls::Error),
}

/// Keeps the `present` certificate while it is good. Where there is none, as in a process that has
/// just started, the newest authority signs at once, trusted by all handlers or not yet.
fn redial(
    present: &mut Option<Certified>,
    authority: &Bundle,
    now: Timestamp,
) -> Result<ClientConfig, DialError> {
    let certified = match present.take() {
        Some(present) if !is_client_due(&present, authority, now) => present,
        _ => client(authority, now)?,
    };
    Ok(authority.client_config(present.insert(certified))?)
}

#[cfg(test)]
mod tests {
    use x509_parser::certificate::X509Certificate;
    use x509_parser::prelude::FromDer;

    use super::super::tests::{DAY, HOUR, at, bundle};
    use super::*;

    type Data = BTreeMap<String, ByteString>;

    /// What the Secret holds once it is as `authority` wants it.
    fn made(authority: &Bundle, hours: i64) -> Data {
        let now = at(hours);
        let nothing = Data::new();
        let step = plan_handler(&nothing, authority, now);
        assert_eq!(step, HandlerStep::Replace(Flaw::NoEntry(LEAF)));
        let data = step.perform(nothing, authority, now).unwrap();
        assert_eq!(plan_handler(&data, authority, now), HandlerStep::Keep);
        data
    }

    /// `authority` after it got a successor.
    fn followed(authority: Bundle, hours: i64) -> Bundle {
        let step = super::super::Step::AddAuthority;
        step.perform(Ok(authority), &[], at(hours)).unwrap()
    }

    /// What the plan says, without the flaw's details.
    fn planned(data: &Data, authority: &Bundle, hours: i64) -> &'static str {
        match plan_handler(data, authority, at(hours)) {
            HandlerStep::Keep => "keep",
            HandlerStep::Trust => "trust",
            HandlerStep::Renew => "renew",
            HandlerStep::Replace(_) => "replace",
        }
    }

    #[test]
    fn a_handlers_certificate_is_renewed_in_time() {
        let authority = bundle(0);
        let data = made(&authority, 0);
        let cases = [
            (0, "keep"),
            (59 * DAY, "keep"),
            (61 * DAY, "renew"),
            (91 * DAY, "replace"),
            (-2 * HOUR, "replace"),
        ];
        for (hours, expected) in cases {
            assert_eq!(planned(&data, &authority, hours), expected, "at {hours} h");
        }
        let renewed = HandlerStep::Renew.perform(data, &authority, at(61 * DAY));
        assert_eq!(planned(&renewed.unwrap(), &authority, 61 * DAY), "keep");
    }

    #[test]
    fn a_new_authority_is_trusted_before_it_signs() {
        let authority = bundle(0);
        let data = made(&authority, 62 * DAY);
        let later = 245 * DAY;
        let data = HandlerStep::Renew
            .perform(data, &authority, at(180 * DAY))
            .unwrap();
        let leaf = data[LEAF].clone();
        let followed = followed(authority, later);
        assert_eq!(planned(&data, &followed, later), "trust");
        let data = HandlerStep::Trust
            .perform(data, &followed, at(later))
            .unwrap();
        assert_eq!(data[LEAF], leaf);
        assert_eq!(data[AUTHORITIES].0, followed.trusted().into_bytes());
        // It is due, and waits for the other side to know the new authority.
        assert_eq!(planned(&data, &followed, later), "keep");
        assert_eq!(planned(&data, &followed, later + HOUR), "renew");
    }

    #[test]
    fn what_is_of_no_use_is_replaced() {
        let authority = bundle(0);
        let good = made(&authority, 0);
        let other = made(&bundle(0), 0);
        let controllers = authority.write();
        let with = |entry: &str, value: &ByteString| {
            let mut data = good.clone();
            data.insert(entry.to_owned(), value.clone());
            data
        };
        let garbage = ByteString(b"garbage".to_vec());
        let cases = [
            (with(LEAF, &garbage), "replace"),
            (with(LEAF_KEY, &other[LEAF_KEY]), "replace"),
            // Of another authority, or of another name.
            (other, "replace"),
            (controllers, "replace"),
            (with(AUTHORITIES, &garbage), "trust"),
        ];
        for (data, expected) in cases {
            assert_eq!(planned(&data, &authority, DAY), expected, "{data:?}");
            let step = plan_handler(&data, &authority, at(DAY));
            let data = step.perform(data, &authority, at(DAY)).unwrap();
            assert_eq!(planned(&data, &authority, DAY), "keep");
        }
    }

    #[test]
    fn a_client_keeps_its_certificate_as_long_as_it_is_good() {
        let authority = bundle(0);
        let mut present = None;
        let mut at_hours = |authority: &Bundle, hours: i64| {
            redial(&mut present, authority, at(hours)).unwrap();
            present.as_ref().unwrap().certificate.clone()
        };
        let first = at_hours(&authority, 200 * DAY);
        assert_eq!(at_hours(&authority, 259 * DAY), first);
        // Its successor's authority is new: handlers may not know it yet.
        let followed = followed(authority, 261 * DAY);
        assert_eq!(at_hours(&followed, 261 * DAY), first);
        let second = at_hours(&followed, 261 * DAY + HOUR);
        assert_ne!(second, first);
        followed
            .check_client(&second, at(261 * DAY + HOUR))
            .unwrap();
        // Handlers have another authority altogether.
        assert_ne!(at_hours(&bundle(261 * DAY), 262 * DAY), second);
    }

    #[test]
    fn handlers_know_a_client_by_its_one_name() {
        let authority = bundle(0);
        let client = client(&authority, at(0)).unwrap();
        authority.check_client(&client.certificate, at(0)).unwrap();
        let (_, parsed) = X509Certificate::from_der(&client.certificate).unwrap();
        let names = parsed.subject().iter_common_name();
        let names: Vec<_> = names.map(|name| name.as_str().unwrap()).collect();
        assert_eq!(names, [CONTROLLER]);
        // It proves nothing as a server.
        authority
            .check_server(&client.certificate, &[HANDLER.to_owned()], at(0))
            .unwrap_err();
    }
}
