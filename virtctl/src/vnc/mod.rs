//! A machine's screen at a VNC viewer on this machine.
//!
//! ```text
//! viewer ─▶ listener ─▶ connection ─ Stream::Vnc ─▶ VNC server
//! ```

pub mod viewer;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;

use crate::forward::tcp;
use crate::stream::{ByteStream, Stream};
use crate::target::{OpenError, Target};

/// The screen of a machine on a port of this machine: each viewer that connects has a session.
pub struct Proxy {
    listener: TcpListener,
    address: SocketAddr,
    target: Target,
    stream: Stream,
    first: ByteStream,
}

/// The screen cannot be had here.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The machine gives none.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The port.
    #[error("cannot listen on {address}; choose another --port or --address")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

impl Proxy {
    /// Opens the screen, which the first viewer is given, and `address` to viewers.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub async fn open(
        target: Target,
        preserve_session: bool,
        address: SocketAddr,
    ) -> Result<Self, ProxyError> {
        let failed = |source| ProxyError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let stream = Stream::Vnc { preserve_session };
        // Now, as a viewer could tell its user little of why there is no screen.
        let first = target.open(stream).await?;
        Ok(Self {
            listener,
            address,
            target,
            stream,
            first,
        })
    }

    /// Where a viewer on this machine finds it.
    pub fn address(&self) -> SocketAddr {
        let ip = match self.address.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        SocketAddr::new(ip, self.address.port())
    }

    /// Serves viewers. Never returns.
    pub async fn serve(self) {
        let Self {
            listener,
            target,
            stream,
            first,
            ..
        } = self;
        let first = Arc::new(Mutex::new(Some(first)));
        tcp::serve(listener, || {
            let (target, first) = (target.clone(), first.clone());
            async move {
                let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
                match first {
                    Some(first) => Ok(first),
                    None => target.open(stream).await,
                }
            }
        })
        .await;
    }
}
