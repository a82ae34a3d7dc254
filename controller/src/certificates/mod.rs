//! The certificates that virt-controller serves with: made, kept, rotated, and trusted by the
//! API server, without anybody's help.
//!
//! ```text
//!            plan: what to do with what is there, at this time (pure)
//!              |
//! Secret <--- keep, every replica ---> Identity ---> server, from the next connection on
//! (watched; who writes first wins)        |
//!                |                        '------> inject ------------> caBundle of the webhooks'
//!                v                                                     configurations, APIServices
//!             Bundle ---> keep_handlers, dial ---> mutual TLS with virt-handler
//! ```
//!
//! Every replica watches the Secret and serves what it holds. Whoever finds something to do
//! writes it, under the resource version that was seen: of two writers one is told so, and looks
//! again.

pub(crate) mod attend;
mod authority;
mod bundle;
mod handler;
mod inject;
mod keep;
mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustls::ServerConfig;

pub use authority::{
    AUTHORITY_LIFETIME, Certified, IssueError, LEAF_LIFETIME, Subject, Usage, Validity,
};
pub use bundle::{AUTHORITIES, AUTHORITY_KEY, Bundle, Flaw, LEAF, LEAF_KEY};
pub use handler::{HANDLER, HANDLER_SECRET, HandlerStep, client, dial, plan_handler};
pub use inject::inject;
pub use keep::{keep, keep_handlers};
pub use plan::{Step, TRUST_DELAY, plan};

/// The Secret, in the controller's namespace.
pub const SECRET: &str = "virt-controller-certificates";
/// The MutatingWebhookConfiguration and the ValidatingWebhookConfiguration.
pub const WEBHOOKS: &str = "virt-controller";

/// Who this server is, as the Secret says.
#[derive(Clone, Debug)]
pub struct Identity {
    /// How it serves TLS.
    pub tls: Arc<ServerConfig>,
    /// The authorities by which its clients know it, as PEM.
    pub trusted: Arc<str>,
}

impl Identity {
    /// Who a server with this bundle is.
    ///
    /// # Errors
    /// When its certificate is of no use.
    pub fn of(bundle: &Bundle) -> Result<Self, Flaw> {
        Ok(Self {
            tls: Arc::new(bundle.server_config()?),
            trusted: bundle.trusted().into(),
        })
    }
}

/// The names under which the Service `virt-controller` is reached.
pub fn server_names(namespace: &str) -> Vec<String> {
    let service = format!("virt-controller.{namespace}.svc");
    vec![format!("{service}.cluster.local"), service]
}
