//! What the node gives to launcher pods: plugins of the kubelet's device manager.
//!
//! ```text
//!  kubelet.sock is there ─▶ for each resource: bind a socket, serve it, Register
//!        ▲                                      │
//!        │ inotify                              ├ ListAndWatch: 1000 ids, healthy while
//!        │                                      │   what they stand for is there
//!        │                                      └ Allocate: device nodes and mounts
//!        └─ a kubelet that starts removes every socket of the directory ◀──┘
//! ```
//!
//! The ids stand for nothing: any number of containers may open the same node. A pod that holds one
//! keeps running while no handler is there; one that wants one waits for the handler, and the
//! scheduler says so (`Insufficient devices.kubevirt.io/tun`).
//!
//! Each process has sockets of its own names, and registers with a kubelet once. So of two handlers on
//! a node, as an update may bring, the one that registered last serves, and the other leaves it at
//! that. A kubelet that loses one of them lets go of whichever registered last (1.35,
//! `devicemanager/plugin/v1beta1/handler.go`, `runClient`): the other sees its stream end, and registers
//! again.

mod directory;
mod plugin;
mod resource;

use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::transport::Endpoint;

use directory::{Change, Changes, Sockets};
use generated::registration_client::RegistrationClient;
use generated::{DevicePluginOptions, RegisterRequest};

pub use resource::{Resource, resources};

/// The generated messages, client and server.
#[expect(
    unreachable_pub,
    clippy::allow_attributes_without_reason,
    reason = "generated; deviceplugin.proto has the docs"
)]
mod generated {
    tonic::include_proto!("v1beta1");
}

/// The version of the kubelet's API that is spoken here.
const VERSION: &str = "v1beta1";

/// The kubelet's own socket in the directory of plugins.
const KUBELET: &str = "kubelet.sock";

/// How long the kubelet may take to answer a registration; it calls back first.
const ANSWER: Duration = Duration::from_secs(10);

/// The shortest and the longest pause before the next registration; one that lasted for the longest
/// was well.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Why the resources are not offered.
#[derive(Debug, thiserror::Error)]
pub enum DevicesError {
    /// The directory of plugins cannot be watched.
    #[error("cannot watch {path}, the kubelet's directory of device plugins")]
    Watch {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A plugin's socket cannot be made.
    #[error("cannot listen at {path}")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kubelet does not listen.
    #[error("no kubelet answers at {path}")]
    Kubelet {
        /// The kubelet's socket.
        path: PathBuf,
        /// The transport's answer.
        source: tonic::transport::Error,
    },
    /// The kubelet does not want the resource.
    #[error("the kubelet refused {resource}")]
    Refused {
        /// The resource's name.
        resource: &'static str,
        /// The kubelet's answer.
        source: Box<tonic::Status>,
    },
}

/// Offers the resources to the kubelet whose directory of plugins is `directory`, and again to each
/// kubelet that starts there. `registered` tells whether it knows all of them.
///
/// # Errors
/// [`DevicesError::Watch`]; whatever else fails is logged and tried again.
pub async fn offer(
    directory: &Path,
    resources: &[Resource],
    registered: &watch::Sender<bool>,
) -> Result<Infallible, DevicesError> {
    let changes = Changes::watch(directory).map_err(|source| DevicesError::Watch {
        path: directory.to_owned(),
        source,
    })?;
    let kubelet_starts = |change, name: &OsStr| change == Change::Come && name == KUBELET;
    let mut pause = Duration::ZERO;
    loop {
        // Whether it is the time or a kubelet that comes, what follows is the same.
        let _ = timeout(pause, changes.until(kubelet_starts)).await;
        // What happened until now is seen by what follows.
        changes.forget();
        let began = Instant::now();
        match register(directory, resources).await {
            Ok(sockets) => {
                tracing::info!("the kubelet knows {} resources", resources.len());
                registered.send_replace(true);
                let undone = changes.until(|change, name| {
                    kubelet_starts(change, name) || change == Change::Gone && sockets.contain(name)
                });
                tokio::select! {
                    () = undone => tracing::info!("the kubelet starts again"),
                    () = sockets.let_go() => tracing::info!("the kubelet has let go of a resource"),
                }
                registered.send_replace(false);
            }
            Err(error) => tracing::warn!("{:#}", anyhow::Error::from(error)),
        }
        pause = if began.elapsed() < PAUSE.1 {
            (pause * 2).clamp(PAUSE.0, PAUSE.1)
        } else {
            PAUSE.0
        };
    }
}

/// Serves the resources at sockets of their own and tells the kubelet of them. They are served for
/// as long as the sockets are kept.
async fn register(directory: &Path, resources: &[Resource]) -> Result<Sockets, DevicesError> {
    directory::remove_dead(directory).await;
    let path = directory.join(KUBELET);
    let socket = path.clone();
    // The address is not used: the connector knows the path.
    let channel = Endpoint::from_static("http://kubelet")
        .timeout(ANSWER)
        .connect_with_connector(tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        }))
        .await
        .map_err(|source| DevicesError::Kubelet { path, source })?;
    let mut kubelet = RegistrationClient::new(channel);
    let mut sockets = Sockets::new(directory);
    for resource in resources {
        let endpoint = sockets.serve(resource)?;
        let request = RegisterRequest {
            version: VERSION.to_owned(),
            endpoint,
            resource_name: resource.name.to_owned(),
            options: Some(DevicePluginOptions::default()),
        };
        let answer = kubelet.register(request).await;
        answer.map_err(|status| DevicesError::Refused {
            resource: resource.name,
            source: Box::new(status),
        })?;
    }
    Ok(sockets)
}
