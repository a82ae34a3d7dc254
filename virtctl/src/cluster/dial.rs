//! Connections to the API server. A network that vanishes tells nobody: each connection asks its
//! other end for a sign of life once it has been silent, and ends where none comes.

use std::time::Duration;

use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube_client::client::{Body, ClientBuilder, ConfigExt as _};
use kube_client::{Client, Config, Error};
use tower::BoxError;
use tower::util::MapErr;

use super::proxy::{self, Proxy};

/// How long the other end of a connection may be silent: tcp(7).
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// `TCP_KEEPIDLE`, in whole seconds: a silence after which it is asked for a sign of life.
    idle: Duration,
    /// `TCP_KEEPINTVL`, in whole seconds: until it is asked again.
    again: Duration,
    /// `TCP_KEEPCNT`: how often it is asked before the connection ends. There is no
    /// `TCP_USER_TIMEOUT` beside it: that would also end an upload to a guest that is paused.
    times: u32,
}

/// A silent network is noticed in about a minute.
pub(super) const PATIENCE: Patience = Patience {
    idle: Duration::from_secs(20),
    again: Duration::from_secs(10),
    times: 4,
};

/// What kube makes of `config`, but for its sockets, which kube lets nobody set, for its proxy, in
/// whose place is `proxy`, and for retries: a session in use is a 503, and a verb is not for trying
/// twice behind the user's back. Nothing is sent yet.
///
/// # Errors
/// The certificates or credentials of `config` cannot be used.
pub(super) fn client(
    config: &Config,
    proxy: Option<Proxy>,
    patience: Patience,
) -> Result<Client, Error> {
    let mut tcp = HttpConnector::new();
    // TLS is put around it.
    tcp.enforce_http(false);
    tcp.set_keepalive(Some(patience.idle));
    tcp.set_keepalive_interval(Some(patience.again));
    tcp.set_keepalive_retries(Some(patience.times));
    let dial = match &proxy {
        Some(proxy) => proxy.dial(tcp),
        None => proxy::dial(tcp),
    };
    let tls = config.rustls_https_connector_with_connector(dial)?;
    // Around all: who accepts a connection may be silent for all that.
    let mut connect = TimeoutConnector::new(tls);
    connect.set_connect_timeout(config.connect_timeout);
    let connect = MapErr::new(connect, move |error| match &proxy {
        Some(proxy) => proxy.through(&error),
        None => error,
    });
    let http = Http::builder(TokioExecutor::new()).build::<_, Body>(connect);
    let http = MapErr::new(http, BoxError::from);
    let asking = ClientBuilder::new(http, config.default_namespace.clone())
        .with_layer(&config.extra_headers_layer()?);
    let base = config.base_uri_layer();
    Ok(match config.auth_layer()? {
        Some(auth) => asking.with_layer(&auth).with_layer(&base).build(),
        None => asking.with_layer(&base).build(),
    })
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use http::Request;
    use http::header::{CONNECTION, UPGRADE};
    use hyper_util::rt::TokioIo;
    use socket2::{SockFilter, SockRef};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::*;

    const BRIEF: Patience = Patience {
        idle: Duration::from_secs(1),
        again: Duration::from_secs(1),
        times: 1,
    };

    /// Far longer than [`BRIEF`], and far shorter than the kernel is patient by itself.
    const MOMENT: Duration = Duration::from_secs(60);

    /// Takes one connection, and upgrades it.
    async fn upgraded(listener: &TcpListener) -> TcpStream {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        let answer = b"HTTP/1.1 101 Switching Protocols\r\n\
                       Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        client.write_all(answer).await.unwrap();
        client
    }

    /// Drops whatever comes to `socket` before it is acknowledged, as a pulled cable does.
    fn cut(socket: &TcpStream) {
        // `BPF_RET | BPF_K`: keep 0 bytes.
        let nothing = [SockFilter::new(6, 0, 0, 0)];
        SockRef::from(socket).attach_filter(&nothing).unwrap();
    }

    #[tokio::test]
    async fn a_network_that_vanishes_ends_a_stream() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = client(&Config::new(url.parse().unwrap()), None, BRIEF).unwrap();
        let request = Request::get("/")
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .body(Body::empty())
            .unwrap();
        let (answer, server) = tokio::join!(client.send(request), upgraded(&listener));
        let stream = hyper::upgrade::on(answer.unwrap()).await.unwrap();
        let mut stream = TokioIo::new(stream);
        cut(&server);
        let ended = timeout(MOMENT, stream.read_u8()).await.unwrap();
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
