//! A client of virt-controller's servers: TLS with certificates as the plan makes them, and HTTP by
//! hand, so that it can do what a library would not.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use controller::certificates::{Bundle, Certified, Flaw, plan, server_names};
use k8s_openapi::jiff::Timestamp;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Nothing here takes so long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn bundle() -> Bundle {
    let (missing, now) = (Err(Flaw::Missing), Timestamp::now());
    let names = server_names("ferrovirt");
    let step = plan(&missing, &names, now);
    step.perform(missing, &names, now).unwrap()
}

/// A connection of a client that knows this authority, asks for the Service's name, and may prove
/// who it is.
pub(crate) async fn connect(
    address: SocketAddr,
    authority: &CertificateDer<'static>,
    client: Option<&Certified>,
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match client {
        None => config.with_no_client_auth(),
        Some(client) => {
            let key = PrivateKeyDer::try_from(client.key.serialize_der()).unwrap();
            config
                .with_client_auth_cert(vec![client.certificate.clone()], key)
                .unwrap()
        }
    };
    let name = ServerName::try_from("virt-controller.ferrovirt.svc").unwrap();
    let stream = TcpStream::connect(address).await?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    timeout(DEADLINE, handshake).await.unwrap()
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Self {
        timeout(DEADLINE, Self::read_slowly(stream)).await.unwrap()
    }

    async fn read_slowly(stream: &mut (impl AsyncRead + Unpin)) -> Self {
        let mut text = Vec::new();
        let end = loop {
            let end = text.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
            assert_ne!(stream.read_buf(&mut text).await.unwrap(), 0, "no answer");
        };
        let head = String::from_utf8(text[..end].to_vec())
            .unwrap()
            .to_lowercase();
        let field = |name: &str| {
            let mut lines = head.lines();
            lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
        };
        let length: usize = field("content-length:").map_or(0, |length| length.parse().unwrap());
        while text.len() < end + length {
            assert_ne!(
                stream.read_buf(&mut text).await.unwrap(),
                0,
                "half an answer"
            );
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = String::from_utf8(text[end..].to_vec()).unwrap();
        Self { status, head, body }
    }
}

/// Returns when the server has closed a connection.
pub(crate) async fn closed(stream: &mut (impl AsyncRead + Unpin)) {
    let mut rest = Vec::new();
    // An answer may come first, and a reset is as good as an end.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut rest))
        .await
        .unwrap();
}
