//! Calls to a server that is a virt-handler as far as TLS and HTTP go, and clients' WebSockets from
//! end to end.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request as Call, State};
use axum::response::IntoResponse;
use axum::routing::get;
use futures::StreamExt;
use hyper::server::conn::http1 as server;
use hyper_util::service::TowerToHyperService;
use k8s_openapi::jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::*;
use crate::api::Streams;
use crate::api::stream::Upgrade;
use crate::certificates::{Bundle, Flaw, client, plan, plan_handler};

/// Nothing here takes so long.
const DEADLINE: Duration = Duration::from_secs(60);

fn authority() -> Bundle {
    let (missing, now) = (Err(Flaw::Missing), Timestamp::now());
    let step = plan(&missing, &[], now);
    step.perform(missing, &[], now).unwrap()
}

/// How a handler serves whose Secret is of this authority.
fn served_by(authority: &Bundle) -> TlsAcceptor {
    let (none, now) = (BTreeMap::new(), Timestamp::now());
    let secret = plan_handler(&none, authority, now);
    let secret = secret.perform(none, authority, now).unwrap();
    let file = |name: &str| &secret[name].0[..];
    let mut trusted = RootCertStore::empty();
    let authorities = CertificateDer::pem_slice_iter(file("ca.crt"));
    trusted.add_parsable_certificates(authorities.map(Result::unwrap));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(trusted.into(), provider.clone());
    let chain = CertificateDer::pem_slice_iter(file("tls.crt"));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(
            chain.map(Result::unwrap).collect(),
            PrivateKeyDer::from_pem_slice(file("tls.key")).unwrap(),
        );
    TlsAcceptor::from(Arc::new(config.unwrap()))
}

/// Serves `router` on a port of this machine, by TLS or not, until the test is over.
async fn serve(tls: Option<TlsAcceptor>, router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, service) = (tls.clone(), TowerToHyperService::new(router.clone()));
            tokio::spawn(async move {
                let server = server::Builder::new();
                match tls {
                    None => {
                        let connection = server.serve_connection(TokioIo::new(stream), service);
                        let _ = connection.with_upgrades().await;
                    }
                    Some(tls) => {
                        let Ok(stream) = tls.accept(stream).await else {
                            return;
                        };
                        let connection = server.serve_connection(TokioIo::new(stream), service);
                        let _ = connection.with_upgrades().await;
                    }
                }
            });
        }
    });
    address
}

/// A console that says what it hears, in capitals.
async fn console(mut call: Call) -> axum::response::Response {
    let headers = call.headers();
    if headers.get("upgrade") != Some(&STREAM) || headers.get("connection").is_none() {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let stream = upgrade::on(&mut call);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(stream.await.unwrap());
        let mut heard = [0; 100];
        loop {
            match stream.read(&mut heard).await.unwrap() {
                0 => break,
                length => {
                    let heard = &mut heard[..length];
                    heard.make_ascii_uppercase();
                    stream.write_all(heard).await.unwrap();
                    stream.flush().await.unwrap();
                    if heard.ends_with(b"EXIT\n") {
                        break;
                    }
                }
            }
        }
        stream.shutdown().await.unwrap();
    });
    let head = [
        (header::CONNECTION, "Upgrade"),
        (header::UPGRADE, "ferrovirt-stream"),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, head).into_response()
}

/// The calls of one instance.
fn calls() -> Router {
    let status = |code: u16, message: &'static str| {
        let status = json!({"kind": "Status", "code": code, "message": message});
        move || async move { (StatusCode::from_u16(code).unwrap(), status.to_string()) }
    };
    let instance = Router::new()
        .route(
            "/pause",
            axum::routing::put(async |call: Call| match call.uri().query() {
                Some("uid=7") => StatusCode::ACCEPTED,
                _ => StatusCode::BAD_REQUEST,
            }),
        )
        .route(
            "/freeze",
            axum::routing::put(async |body: Bytes| match &body[..] {
                br#"{"unfreezeTimeoutSeconds":5}"# => StatusCode::ACCEPTED,
                _ => StatusCode::BAD_REQUEST,
            }),
        )
        .route(
            "/reset",
            axum::routing::put(status(409, "there is no domain")),
        )
        .route(
            "/unpause",
            axum::routing::put(async || (StatusCode::NOT_FOUND, "nginx")),
        )
        .route(
            "/vnc/screenshot",
            get(async || ([(header::CONTENT_TYPE, "image/png")], vec![7; 1 << 20])),
        )
        .route("/vnc", get(status(503, "another session is open")))
        .route("/console", get(console));
    Router::new().nest("/v1/namespaces/n/virtualmachineinstances/one", instance)
}

fn known(address: SocketAddr, authority: &Bundle) -> Handler {
    let certificate = client(authority, Timestamp::now()).unwrap();
    Handler {
        node: "node-1".to_owned(),
        address,
        tls: Arc::new(authority.client_config(&certificate).unwrap()),
        base: "/v1/namespaces/n/virtualmachineinstances/one".to_owned(),
        uid: "7".to_owned(),
    }
}

async fn handler() -> Handler {
    let authority = authority();
    let address = serve(Some(served_by(&authority)), calls()).await;
    known(address, &authority)
}

#[test]
fn a_handler_is_where_its_pod_is() {
    let ending = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
    let cases = [
        (json!({}), json!({"podIP": "10.0.0.5"}), Some("10.0.0.5")),
        (json!({}), json!({"podIP": "fd00::5"}), Some("fd00::5")),
        (json!({}), json!({}), None),
        (ending, json!({"podIP": "10.0.0.5"}), None),
    ];
    for (metadata, status, expected) in cases {
        let pod = json!({"metadata": metadata, "status": status});
        let found = address(&serde_json::from_value(pod.clone()).unwrap());
        assert_eq!(found, expected.map(|ip| ip.parse().unwrap()), "{pod}");
    }
}

#[tokio::test]
async fn what_a_handler_says_is_passed_on() {
    let handler = handler().await;
    let none = json!({});
    handler.put("pause", &none).await.unwrap();
    let options = json!({"unfreezeTimeoutSeconds": 5});
    handler.put("freeze", &options).await.unwrap();
    let cases = [
        ("reset", 409, "there is no domain"),
        // What is no word of a handler's is not passed on.
        (
            "unpause",
            503,
            "virt-handler on node \"node-1\" is another version",
        ),
        (
            "explode",
            503,
            "virt-handler on node \"node-1\" is another version",
        ),
    ];
    for (call, code, message) in cases {
        let error = handler.put(call, &none).await.unwrap_err();
        assert_eq!(error.code().as_u16(), code, "{call}: {error}");
        assert!(error.to_string().contains(message), "{call}: {error}");
    }
    let screen = handler.get("vnc/screenshot").await.unwrap();
    assert_eq!(screen.headers()[header::CONTENT_TYPE], "image/png");
    let screen = to_bytes(screen.into_body(), 2 << 20).await.unwrap();
    assert!(screen == vec![7; 1 << 20]);
}

#[tokio::test]
async fn who_is_not_reached_is_named() {
    let (ours, theirs) = (authority(), authority());
    // Nobody listens there, nor can anybody while it is bound.
    let silent = TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = silent.local_addr().unwrap();
    let stranger = serve(Some(served_by(&theirs)), calls()).await;
    let plain = serve(None, calls()).await;
    for (who, address) in [
        ("nobody", nobody),
        ("a stranger", stranger),
        ("no TLS", plain),
    ] {
        let error = known(address, &ours)
            .put("pause", &json!({}))
            .await
            .unwrap_err();
        assert_eq!(error.code().as_u16(), 503, "{who}: {error}");
        assert!(error.to_string().contains("\"node-1\""), "{who}: {error}");
    }
    // A handler that does not know us: with TLS 1.3, it says so after the handshake.
    let mixed = serve(Some(served_by(&ours)), calls()).await;
    let certificate = client(&theirs, Timestamp::now()).unwrap();
    let unknown = Handler {
        tls: Arc::new(ours.client_config(&certificate).unwrap()),
        ..known(mixed, &ours)
    };
    let error = unknown.put("pause", &json!({})).await.unwrap_err();
    assert_eq!(error.code().as_u16(), 503, "{error}");
}

/// A route that opens a stream of the handler's, as consoles and screens do.
async fn open(
    State(state): State<(Arc<Handler>, Streams)>,
    mut call: Call,
) -> Result<Response, ApiError> {
    let (handler, streams) = state;
    let client = Upgrade::of(&mut call)?;
    let place = streams.take("n", "one")?;
    let stream = call.uri().path().trim_start_matches('/').to_owned();
    let guest = handler.open(&stream).await?;
    Ok(client.serve_bytes(guest, place))
}

/// Asks for a stream. The answer's subprotocol is with it.
async fn websocket(
    address: SocketAddr,
    stream: &str,
    protocol: Option<&'static str>,
) -> Result<(WebSocketStream<TcpStream>, Option<HeaderValue>), Error> {
    let mut request = format!("ws://{address}/{stream}").into_client_request()?;
    if let Some(protocol) = protocol {
        let headers = request.headers_mut();
        headers.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(protocol),
        );
    }
    let socket = TcpStream::connect(address).await?;
    let (client, answer) = timeout(DEADLINE, client_async(request, socket))
        .await
        .unwrap()?;
    let chosen = answer.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
    Ok((client, chosen.cloned()))
}

#[tokio::test]
async fn a_stream_goes_from_the_client_to_the_handler_and_back() {
    let (end, ending) = watch::channel(false);
    let streams = Streams::new(ending);
    let state = (Arc::new(handler().await), streams);
    let router = Router::new().fallback(open).with_state(state);
    let address = serve(None, router).await;

    let (mut client, protocol) = websocket(address, "console", Some("plain.kubevirt.io"))
        .await
        .unwrap();
    assert_eq!(
        protocol,
        Some(HeaderValue::from_static("plain.kubevirt.io"))
    );
    for (said, heard) in [("login: ", "LOGIN: "), ("exit\n", "EXIT\n")] {
        futures::SinkExt::send(&mut client, Message::text(said))
            .await
            .unwrap();
        let next = timeout(DEADLINE, client.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(next, Message::binary(heard));
    }
    // The guest is done.
    let next = timeout(DEADLINE, client.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let Message::Close(Some(close)) = next else {
        panic!("{next:?}");
    };
    assert_eq!(close.code, CloseCode::Normal);

    // What is in the way is told before there is a stream.
    let cases = [
        ("vnc", None, 503),
        ("nowhere", None, 503),
        ("console", Some("binary.example"), 400),
    ];
    for (stream, protocol, code) in cases {
        match websocket(address, stream, protocol).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status().as_u16(), code, "{stream}"),
            other => panic!("{stream}: {other:?}"),
        }
    }

    let (mut client, _) = websocket(address, "console", None).await.unwrap();
    end.send_replace(true);
    let next = timeout(DEADLINE, client.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let Message::Close(Some(close)) = next else {
        panic!("{next:?}");
    };
    assert_eq!(close.code, CloseCode::Away);
}
