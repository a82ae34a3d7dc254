//! What virt-controller and the handlers know each other by: both sides' certificates are of the
//! one authority.
//!
//! ```text
//! Bundle --> Secret virt-handler-certificates --> every handler: server `virt-handler`
//!    |       (kept as the Bundle is: by the time alone)            |
//!    '-----> in each replica's memory: client `virt-controller` ---' mutual TLS
//! ```
//!
//! A new authority signs for neither side before it is trusted for [`TRUST_DELAY`]: the kubelet
//! takes a minute or two to show a handler a changed Secret.

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
