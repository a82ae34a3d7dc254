//! Machines in a cluster: `subresources.kubevirt.io`, as KubeVirt's API has it.

mod client;
mod dial;
mod follow;
mod proxy;
mod refusal;
mod verbs;
mod websocket;

use http::Method;
use serde_json::Value;

pub use client::{Cluster, ConnectError, Options};

use crate::stream::{ByteStream, Stream};
use crate::target::{Action, CallError, Kind, Name, OpenError, Question};

/// The group and version that serve what is done with machines.
pub const SUBRESOURCES: &str = "/apis/subresources.kubevirt.io/v1";

/// A machine in a cluster.
#[derive(Clone, Debug)]
pub struct Machine {
    cluster: Cluster,
    name: Name,
}

impl Machine {
    /// The machine `name` of `cluster`; whether it is there shows when it is asked something.
    pub fn new(cluster: Cluster, name: Name) -> Self {
        Self { cluster, name }
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Its cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(&self, stream: Stream) -> Result<ByteStream, OpenError> {
        let (kind, rest) = verbs::stream(self.name.kind, stream);
        let opened =
            websocket::open(&self.cluster, &self.path(kind, &rest), stream.piece()).await?;
        opened.map_err(|status| refusal::open(&self.name, status))
    }

    /// The screen, as a PNG.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn screenshot(&self, move_cursor: bool) -> Result<Vec<u8>, OpenError> {
        let rest = format!("vnc/screenshot?moveCursor={move_cursor}");
        let answer = self
            .cluster
            .call(Method::GET, &self.path(Kind::Vmi, &rest), None)
            .await?;
        answer
            .map(|body| body.to_vec())
            .map_err(|status| refusal::open(&self.name, status))
    }

    /// Asks for `action`.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn act(&self, action: Action, dry_run: bool) -> Result<(), CallError> {
        let (kind, rest, body) = verbs::action(action, dry_run);
        let answer = self
            .cluster
            .call(Method::PUT, &self.path(kind, rest), Some(&body))
            .await?;
        answer
            .map(|_| ())
            .map_err(|status| refusal::call(&self.name, status))
    }

    /// Asks the guest's agent.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn ask(&self, question: Question) -> Result<Value, CallError> {
        self.get(Kind::Vmi, verbs::question(question)).await
    }

    /// The JSON at the subresource `rest` of the machine's object of kind `kind`.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn get(&self, kind: Kind, rest: &str) -> Result<Value, CallError> {
        let answer = self
            .cluster
            .call(Method::GET, &self.path(kind, rest), None)
            .await?;
        let body = answer.map_err(|status| refusal::call(&self.name, status))?;
        self.cluster.json(&body)
    }

    /// Why a call about this machine's objects failed.
    pub fn failed(&self, error: kube_client::Error) -> CallError {
        match error {
            kube_client::Error::Api(status) => {
                let code = http::StatusCode::from_u16(status.code).unwrap_or_default();
                let message = status.message;
                refusal::call(&self.name, refusal::Refusal { code, message })
            }
            error => self.cluster.unreachable(error),
        }
    }

    fn path(&self, kind: Kind, rest: &str) -> String {
        let Name {
            namespace, name, ..
        } = &self.name;
        let resource = kind.resource();
        format!("{SUBRESOURCES}/namespaces/{namespace}/{resource}/{name}/{rest}")
    }
}
