//! The API server, as the user's kubeconfig leads to it.

use std::path::PathBuf;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use kube_client::client::Body;
use kube_client::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube_client::{Client, Config};
use serde_json::Value;

use super::SUBRESOURCES;
use super::dial::{self, PATIENCE};
use super::proxy;
use super::refusal::{self, Refusal};
use crate::target::CallError;

/// How to find the cluster, and who asks.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The kubeconfig file; `$KUBECONFIG`, else `~/.kube/config`, where absent.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it; its current one where absent.
    pub context: Option<String>,
    /// Whom to act as, with the user's right to do so.
    pub impersonate: Option<String>,
    /// Groups of whom to act as.
    pub impersonate_groups: Vec<String>,
}

/// The cluster cannot be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no kubeconfig, and this is no pod.
    #[error(
        "no cluster is known: neither $KUBECONFIG nor ~/.kube/config leads to one; give \
         --kubeconfig FILE, or --local for machines on this machine"
    )]
    Absent,
    /// The kubeconfig that was given cannot be used.
    #[error("cannot use the kubeconfig: {}; check --kubeconfig, --context and $KUBECONFIG", told(.0))]
    Kubeconfig(KubeconfigError),
    /// This is a pod whose service account cannot be used.
    #[error("cannot use the pod's service account: {0}; give --kubeconfig FILE")]
    ServiceAccount(InClusterError),
    /// The user's name cannot be sent.
    #[error("{0:?} cannot be the name of a user or a group; check --as and --as-group")]
    Impersonate(String),
    /// What names a proxy names none that can be used. Its value may hold a password.
    #[error(
        "cannot use the proxy that {0} names: virtctl takes http://HOST:PORT and \
         socks5://HOST:PORT; name such a one, or none"
    )]
    Proxy(&'static str),
    /// The kubeconfig's certificates or credentials cannot be used.
    #[error("cannot use the kubeconfig: {}; check its certificates and credentials", cause(.0))]
    Client(kube_client::Error),
}

fn told(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(source, path) => format!("{}: {source}", path.display()),
        error => error.to_string(),
    }
}

/// What is at the bottom of `error`. kube's errors repeat their sources, each after a name of its
/// own.
pub(super) fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// The API server, and who asks it.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// For errors.
    server: String,
    namespace: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// The cluster that `options` lead to. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn find(options: &Options) -> Result<Self, ConnectError> {
        let (mut config, proxy) = load(options).await?;
        let value = |text: &str| {
            HeaderValue::from_str(text).map_err(|_| ConnectError::Impersonate(text.to_owned()))
        };
        if let Some(user) = &options.impersonate {
            let name = HeaderName::from_static("impersonate-user");
            config.headers.push((name, value(user)?));
        }
        for group in &options.impersonate_groups {
            let name = HeaderName::from_static("impersonate-group");
            config.headers.push((name, value(group)?));
        }
        let variable = |name: &str| std::env::var(name).ok();
        let proxy = proxy::choose(proxy.as_deref(), &config.cluster_url, variable)?;
        let server = config.cluster_url.to_string();
        let namespace = config.default_namespace.clone();
        let client = dial::client(&config, proxy, PATIENCE).map_err(ConnectError::Client)?;
        Ok(Self {
            client,
            server,
            namespace,
        })
    }

    /// The namespace of the kubeconfig's context.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The client, for ordinary objects.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The error of a call that had no answer.
    pub fn unreachable(&self, source: kube_client::Error) -> CallError {
        CallError::Unreachable {
            server: self.server.clone(),
            reason: cause(&source),
        }
    }

    /// Calls `path`, and has the body of the answer or the server's refusal.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Result<Bytes, Refusal>, CallError> {
        let request = Request::builder().method(method).uri(path);
        let request = match body {
            Some(body) => request
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(Body::from(body.to_string().into_bytes())),
            None => request.body(Body::empty()),
        };
        let answer = self.send(request).await?;
        let code = answer.status();
        let body = answer.into_body().collect_bytes().await;
        let body = body.map_err(|source| self.unreachable(source))?;
        Ok(if code.is_success() {
            Ok(body)
        } else {
            Err(Refusal::read(code, &body))
        })
    }

    /// The version of what serves the machines.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn version(&self) -> Result<Value, CallError> {
        let path = format!("{SUBRESOURCES}/version");
        let answer = self.call(Method::GET, &path, None).await?;
        self.json(&answer.map_err(refusal::plain)?)
    }

    /// `vm`, a VirtualMachine of `namespace`, with all that it refers to written out.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn expand(&self, namespace: &str, vm: &Value) -> Result<Value, CallError> {
        let path = format!("{SUBRESOURCES}/namespaces/{namespace}/expand-vm-spec");
        let answer = self.call(Method::PUT, &path, Some(vm)).await?;
        self.json(&answer.map_err(refusal::plain)?)
    }

    pub(super) async fn send(
        &self,
        request: http::Result<Request<Body>>,
    ) -> Result<Response<Body>, CallError> {
        // A name that makes no path is no machine's.
        let request = request.map_err(|error| CallError::Refused {
            message: format!("{error}; check the machine's name and namespace"),
        })?;
        let sent = self.client.send(request).await;
        sent.map_err(|source| self.unreachable(source))
    }

    /// The JSON of an answer.
    pub(super) fn json(&self, body: &[u8]) -> Result<Value, CallError> {
        serde_json::from_slice(body)
            .map_err(|source| self.unreachable(kube_client::Error::SerdeError(source)))
    }
}

/// The configuration, and the `proxy-url` in it: the file that was named, else what is where
/// kubectl looks for it, else this pod's service account.
async fn load(options: &Options) -> Result<(Config, Option<String>), ConnectError> {
    let chosen = KubeConfigOptions {
        context: options.context.clone(),
        ..KubeConfigOptions::default()
    };
    let named = options.kubeconfig.as_ref();
    let file = named.map_or_else(Kubeconfig::read, Kubeconfig::read_from);
    let file = match file {
        Err(error) if named.is_none() && is_absent(&error) => {
            return match Config::incluster() {
                Ok(config) => Ok((config, None)),
                Err(InClusterError::ReadEnvironmentVariable(_)) => Err(ConnectError::Absent),
                Err(error) => Err(ConnectError::ServiceAccount(error)),
            };
        }
        file => file.map_err(ConnectError::Kubeconfig)?,
    };
    let proxy = proxy_url(&file, options.context.as_deref()).map(str::to_owned);
    match Config::from_custom_kubeconfig(file, &chosen).await {
        Ok(config) => Ok((config, proxy)),
        // kube reads the environment too, without `NO_PROXY`.
        Err(KubeconfigError::ParseProxyUrl(_)) => Err(ConnectError::Proxy(
            proxy.map_or("HTTPS_PROXY", |_| proxy::FIELD),
        )),
        Err(error) => Err(ConnectError::Kubeconfig(error)),
    }
}

/// The `proxy-url` of the cluster of `context`, the current one where absent.
fn proxy_url<'a>(file: &'a Kubeconfig, context: Option<&str>) -> Option<&'a str> {
    let context = context.or(file.current_context.as_deref())?;
    let context = file.contexts.iter().find(|named| named.name == context)?;
    let cluster = &context.context.as_ref()?.cluster;
    let cluster = file.clusters.iter().find(|named| named.name == *cluster)?;
    let url = cluster.cluster.as_ref()?.proxy_url.as_deref()?;
    Some(url).filter(|url| !url.is_empty())
}

/// There is no kubeconfig where kubectl looks for it.
fn is_absent(error: &KubeconfigError) -> bool {
    match error {
        KubeconfigError::FindPath => true,
        KubeconfigError::ReadConfig(source, _) => source.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}
