//! The aggregated API's door: who gets in, by real TLS, and with what paths.
//!
//! There is no API server here, and none is made up: a call that has been let in as far as that
//! would be asked whether its user may make it ends with 503, and says so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that panics fails"
)]

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::routing::get;
use common::{Answer, DEADLINE, bundle, closed, connect};
use controller::api::{ApiContext, GROUP, Handlers, Streams, Trust, VERSIONS, router};
use controller::certificates::{Certified, Identity, Subject, Usage};
use controller::server::{Limits, Readiness, Transport, serve};
use hyper_util::rt::TokioIo;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube_client::{Client, Config};
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

/// The name of the front proxy's certificate.
const FRONT_PROXY: &str = "front-proxy-client";
/// A call that is let in.
const VERSION: &str = "/apis/subresources.kubevirt.io/v1/version";
/// A caller who may do everything.
const ROOT: &str = "x-remote-user: root\r\nx-remote-group: system:masters\r\n";
/// How the answer to a call begins that was let in.
const LET_IN: &str = "virt-controller cannot ask the API server who may do this: ";

/// A time ago, in days.
fn ago(days: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(24 * days)
}

fn authority() -> Certified {
    Certified::authority(ago(100)).unwrap()
}

/// A certificate that `authority` signed so long ago.
fn signed(authority: &Certified, common_name: &str, usage: Usage, days: i64) -> Certified {
    let subject = Subject {
        common_name: common_name.to_owned(),
        dns_names: Vec::new(),
        usage,
    };
    authority.issue(&subject, ago(days)).unwrap()
}

/// What an API server publishes whose front proxy is known by this authority, under this name.
fn trust(authority: &Certified, allowed: &str) -> Option<Arc<Trust>> {
    let authority = pem::Pem::new("CERTIFICATE", authority.certificate.to_vec());
    let entries = [
        ("client-ca-file", pem::encode(&authority)),
        ("allowed-names", format!("[{allowed:?}]")),
        ("username-headers", r#"["X-Remote-User"]"#.to_owned()),
        ("group-headers", r#"["X-Remote-Group"]"#.to_owned()),
        ("extra-headers-prefix", r#"["X-Remote-Extra-"]"#.to_owned()),
    ];
    let entries = entries.map(|(name, value)| (format!("requestheader-{name}"), value));
    Some(Arc::new(Trust::read(&BTreeMap::from(entries)).unwrap()))
}

struct Server {
    address: SocketAddr,
    authority: CertificateDer<'static>,
    trust: watch::Sender<Option<Arc<Trust>>>,
    readiness: watch::Sender<Readiness>,
    front_proxy: Certified,
    _identity: watch::Sender<Option<Identity>>,
}

impl Server {
    async fn start() -> Self {
        // A port that nobody listens at: of those that the system gives out, it is none.
        let nobody = Config::new("http://127.0.0.1:1".parse().unwrap());
        let bundle = bundle();
        let authority = bundle.authority.certificate.clone();
        let proxies = self::authority();
        let (identity, who) = watch::channel(Some(Identity::of(&bundle).unwrap()));
        let (readiness, ready) = watch::channel(Readiness::Ready);
        let (trust, trusted) = watch::channel(trust(&proxies, FRONT_PROXY));
        let client = Client::try_from(nobody).unwrap();
        let context = ApiContext {
            client: client.clone(),
            readiness: ready.clone(),
            trust: trusted.clone(),
            handlers: Handlers {
                client,
                namespace: "ferrovirt".into(),
                tls: watch::channel(None).1,
            },
            streams: Streams::new(watch::channel(false).1),
        };
        let transport = Transport::Aggregated {
            identity: who,
            trust: trusted,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = Limits::aggregated();
        let router = router(context, limits);
        tokio::spawn(serve(listener, transport, router, ready, limits));
        Self {
            address,
            authority,
            trust,
            readiness,
            front_proxy: signed(&proxies, FRONT_PROXY, Usage::Client, 1),
            _identity: identity,
        }
    }

    /// The answer to a call; none if the connection ends without.
    async fn call(&self, client: Option<&Certified>, head: &str) -> Option<(u16, Value)> {
        // With TLS 1.3 a client learns that it is refused when it reads.
        let mut stream = connect(self.address, &self.authority, client).await.ok()?;
        let request = format!("{head}connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut first = [0; 1];
        let read = timeout(DEADLINE, stream.read_exact(&mut first));
        read.await.unwrap().ok()?;
        let answer = Answer::read(&mut first.as_slice().chain(stream)).await;
        Some((answer.status, json(&answer)))
    }

    /// The answer to a call of the front proxy's.
    async fn proxied(&self, method: &str, path: &str) -> (u16, Value) {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: a\r\n{ROOT}");
        self.call(Some(&self.front_proxy), &head).await.unwrap()
    }
}

/// The body, which is always JSON.
fn json(answer: &Answer) -> Value {
    assert!(
        answer.head.contains("content-type: application/json\r\n"),
        "{answer:?}"
    );
    serde_json::from_str(&answer.body).unwrap_or_default()
}

fn is_let_in((status, body): &(u16, Value)) -> bool {
    *status == 503 && body["message"].as_str().unwrap().starts_with(LET_IN)
}

#[tokio::test]
async fn only_the_front_proxy_speaks_for_users() {
    let server = Server::start().await;
    let proxies = authority();
    server.trust.send_replace(trust(&proxies, FRONT_PROXY));
    let head = format!("GET {VERSION} HTTP/1.1\r\nhost: a\r\n{ROOT}");
    let certificate = |name, usage, days| signed(&proxies, name, usage, days);

    let front_proxy = certificate(FRONT_PROXY, Usage::Client, 1);
    let answer = server.call(Some(&front_proxy), &head).await.unwrap();
    assert!(is_let_in(&answer), "{answer:?}");

    // Named by the same header, and by nobody who may.
    for client in [None, Some(certificate("kubelet", Usage::Client, 1))] {
        let (status, body) = server.call(client.as_ref(), &head).await.unwrap();
        assert_eq!(status, 401, "{body}");
        assert_eq!(body["kind"], "Status");
        assert_eq!(body["reason"], "Unauthorized");
    }

    // Of the right name, and no certificate of the front proxy's: not even discovery is answered.
    let forgeries = [
        signed(&authority(), FRONT_PROXY, Usage::Client, 1),
        // The one by which the API server knows us is of another authority, too.
        signed(&bundle().authority, FRONT_PROXY, Usage::Client, 0),
        certificate(FRONT_PROXY, Usage::Server, 1),
        certificate(FRONT_PROXY, Usage::Client, 95),
    ];
    for (index, forged) in forgeries.iter().enumerate() {
        for head in [&head, "GET /apis HTTP/1.1\r\nhost: a\r\n"] {
            let answer = server.call(Some(forged), head).await;
            assert_eq!(answer, None, "forgery {index}");
        }
    }

    // Without a name, the front proxy speaks for nobody.
    let head = format!("GET {VERSION} HTTP/1.1\r\nhost: a\r\nx-remote-group: system:masters\r\n");
    let (status, body) = server.call(Some(&front_proxy), &head).await.unwrap();
    assert_eq!(
        (status, &body["message"]),
        (401, &"the call names no user".into())
    );
}

#[tokio::test]
async fn paths_are_taken_as_they_are_given() {
    let server = Server::start().await;
    let base = format!("/apis/{GROUP}/v1/namespaces/n/virtualmachineinstances");
    let let_in = [
        VERSION.to_owned(),
        format!("{VERSION}?x=/../..//%2f"),
        format!("{base}/web/console"),
        format!("{base}/web/vnc?preserveSession=true&x=%00"),
        format!("{base}/web/portforward/22/tcp"),
        // Whether there is such a call is for those to know who may make it.
        format!("{base}/web/console/twice"),
        format!("http://elsewhere{VERSION}"),
    ];
    for path in let_in {
        let answer = server.proxied("GET", &path).await;
        assert!(is_let_in(&answer), "{path}: {answer:?}");
    }
    let long = "a".repeat(300);
    let refused = [
        (format!("{base}//web/console"), 400),
        (format!("/{base}/web/console"), 400),
        (format!("{base}/./web/console"), 400),
        (
            format!("{base}/../../m/virtualmachineinstances/web/console"),
            400,
        ),
        (format!("{base}/%2e%2e/console"), 400),
        (format!("{base}/web%2fconsole/vnc"), 400),
        (format!("{base}/web%2Fconsole/vnc"), 400),
        (format!("{base}/web/%63onsole"), 400),
        (format!("{base}/web/console%00"), 400),
        (format!("{base}/web/console/"), 400),
        (format!("{base}/Web/console"), 400),
        (format!("{base}/{long}/console"), 400),
        (format!("{base}/web"), 404),
        (format!("/apis/{GROUP}/v2/version"), 404),
        (
            format!("{base}/web/console").replace(GROUP, "kubevirt.io"),
            404,
        ),
        ("/api/v1/namespaces/n/pods/web/exec".to_owned(), 404),
        ("/openapi/v2".to_owned(), 404),
        ("/openapi/v3".to_owned(), 404),
        ("*".to_owned(), 400),
    ];
    for (path, expected) in refused {
        let (status, body) = server.proxied("GET", &path).await;
        assert_eq!(status, expected, "{path}: {body}");
        assert_eq!(body["kind"], "Status", "{path}");
    }
    // What is no path at all does not get so far.
    for byte in ["\0", "\x7f", " ", "\t"] {
        let head = format!("GET {base}/web{byte}/console HTTP/1.1\r\nhost: a\r\n{ROOT}");
        let client = Some(&server.front_proxy);
        let mut stream = connect(server.address, &server.authority, client)
            .await
            .unwrap();
        stream
            .write_all(format!("{head}\r\n").as_bytes())
            .await
            .unwrap();
        assert_eq!(Answer::read(&mut stream).await.status, 400, "{byte:?}");
        closed(&mut stream).await;
    }
}

#[tokio::test]
async fn there_are_two_methods() {
    let server = Server::start().await;
    for method in ["GET", "PUT"] {
        let answer = server.proxied(method, VERSION).await;
        assert!(is_let_in(&answer), "{method}: {answer:?}");
    }
    for method in ["POST", "DELETE", "PATCH", "OPTIONS", "get", "CONSOLE"] {
        let (status, body) = server.proxied(method, VERSION).await;
        assert_eq!((status, &body["reason"]), (405, &"MethodNotAllowed".into()));
    }
    let (status, body) = server.proxied("POST", "/apis").await;
    assert_eq!((status, &body["reason"]), (405, &"MethodNotAllowed".into()));
}

#[tokio::test]
async fn discovery_is_for_everybody() {
    let server = Server::start().await;
    let documents = [
        ("/apis".to_owned(), "APIGroupList"),
        (format!("/apis/{GROUP}"), "APIGroup"),
        (format!("/apis/{GROUP}/{}", VERSIONS[0]), "APIResourceList"),
        (format!("/apis/{GROUP}/{}", VERSIONS[1]), "APIResourceList"),
    ];
    for (path, kind) in documents {
        let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\n");
        let (status, body) = server.call(None, &head).await.unwrap();
        assert_eq!((status, &body["kind"]), (200, &kind.into()), "{path}");
    }
}

#[tokio::test]
async fn who_is_not_ready_says_so() {
    let server = Server::start().await;
    let cases = [
        (Readiness::Starting, true, "virt-controller is starting"),
        (
            Readiness::Ready,
            false,
            "virt-controller does not know yet whom the API server calls as",
        ),
    ];
    for (readiness, is_known, expected) in cases {
        let known = authority();
        server.readiness.send_replace(readiness);
        server
            .trust
            .send_replace(trust(&known, FRONT_PROXY).filter(|_| is_known));
        let head = format!("GET {VERSION} HTTP/1.1\r\nhost: a\r\n{ROOT}");
        let (status, body) = server.call(None, &head).await.unwrap();
        assert_eq!((status, &body["message"]), (503, &expected.into()));
        assert_eq!(body["reason"], "ServiceUnavailable");
    }
}

#[tokio::test]
async fn a_new_front_proxy_is_known_from_its_first_connection_on() {
    let server = Server::start().await;
    let head = format!("GET {VERSION} HTTP/1.1\r\nhost: a\r\n{ROOT}");
    let before = Some(&server.front_proxy);
    let mut connected = connect(server.address, &server.authority, before)
        .await
        .unwrap();
    let ask = format!("{head}\r\n");
    connected.write_all(ask.as_bytes()).await.unwrap();
    assert_eq!(Answer::read(&mut connected).await.status, 503);

    let successors = authority();
    server.trust.send_replace(trust(&successors, "successor"));
    assert_eq!(server.call(before, &head).await, None);
    let after = signed(&successors, "successor", Usage::Client, 1);
    let answer = server.call(Some(&after), &head).await.unwrap();
    assert!(is_let_in(&answer), "{answer:?}");
    // Who was connected was verified by somebody who may not say so any more.
    is_sent_away(&mut connected, &head).await;
}

#[tokio::test]
async fn who_came_too_early_to_be_known_may_come_again() {
    let server = Server::start().await;
    let known = server.trust.send_replace(None);
    let client = Some(&server.front_proxy);
    let mut early = connect(server.address, &server.authority, client)
        .await
        .unwrap();
    let head = format!("GET {VERSION} HTTP/1.1\r\nhost: a\r\n{ROOT}");
    early
        .write_all(format!("{head}\r\n").as_bytes())
        .await
        .unwrap();
    assert_eq!(Answer::read(&mut early).await.status, 503);

    server.trust.send_replace(known);
    is_sent_away(&mut early, &head).await;
    let answer = server.call(client, &head).await.unwrap();
    assert!(is_let_in(&answer), "{answer:?}");
}

/// Calls on a connection that is older than what is trusted.
async fn is_sent_away(stream: &mut TlsStream<TcpStream>, head: &str) {
    let ask = format!("{head}\r\n");
    stream.write_all(ask.as_bytes()).await.unwrap();
    let answer = Answer::read(stream).await;
    let message = json(&answer)["message"].to_string();
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(message.contains("since this connection began"), "{message}");
    closed(stream).await;
}

#[tokio::test]
async fn an_upgrade_that_is_refused_ends_its_connection() {
    let server = Server::start().await;
    let client = Some(&server.front_proxy);
    let console =
        format!("/apis/{GROUP}/v1/namespaces/default/virtualmachineinstances/none/console");
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
    for (path, asks, closes) in [(VERSION, "", false), (&console, upgrade, true)] {
        let stream = connect(server.address, &server.authority, client).await;
        let mut stream = stream.unwrap();
        let ask = format!("GET {path} HTTP/1.1\r\nhost: a\r\n{ROOT}{asks}\r\n");
        stream.write_all(ask.as_bytes()).await.unwrap();
        let answer = Answer::read(&mut stream).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        let told = answer.head.contains("connection: close\r\n");
        assert_eq!(told, closes, "{answer:?}");
        if closes {
            closed(&mut stream).await;
        }
    }
}

#[tokio::test]
async fn streams_have_places_and_are_told_of_the_end() {
    let (ending, told) = watch::channel(false);
    let streams = Streams::new(told);
    let mut places = Vec::new();
    let refused = loop {
        // Each of another machine.
        match streams.take("n", &places.len().to_string()) {
            Ok(place) => places.push(place),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.code(), StatusCode::TOO_MANY_REQUESTS);
    let places_at_first = places.len();
    drop(places.pop());
    places.push(streams.take("n", "one").unwrap());
    assert_eq!(places.len(), places_at_first);
    assert!(streams.take("n", "two").is_err());

    let mut place = places.pop().unwrap();
    drop((streams, places));
    let end = async {
        place.ending().await;
        drop(place);
    };
    let process = async {
        ending.send_replace(true);
        ending.closed().await;
    };
    timeout(DEADLINE, async { tokio::join!(end, process) })
        .await
        .unwrap();
}

/// A server whose one route sends for ever what it is asked to; and the names of those whose
/// connections were cut.
async fn flood(unread: Option<Duration>, cut: mpsc::UnboundedSender<&'static str>) -> SocketAddr {
    let name = if unread.is_some() {
        "bounded"
    } else {
        "patient"
    };
    let stream = move |mut request: Request| {
        let cut = cut.clone();
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgraded.await.unwrap());
            while stream.write_all(&[b'.'; 16 << 10]).await.is_ok() {}
            // The test may have ended.
            let _ = cut.send(name);
        });
        async {
            (
                StatusCode::SWITCHING_PROTOCOLS,
                [("connection", "upgrade"), ("upgrade", "flood")],
            )
        }
    };
    let limits = Limits {
        unread,
        idle: Duration::from_millis(300),
        ..Limits::aggregated()
    };
    let (_, ready) = watch::channel(Readiness::Ready);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", get(stream));
    tokio::spawn(serve(listener, Transport::Plain, router, ready, limits));
    address
}

async fn upgrade(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: flood\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    stream
}

#[tokio::test]
async fn a_stream_may_stall_for_as_long_as_its_reader_is_there() {
    let (cut, mut cuts) = mpsc::unbounded_channel();
    let patient = flood(None, cut.clone()).await;
    let bounded = flood(Some(Duration::from_millis(300)), cut).await;
    // The patient one's reader stalls for longer than the other's.
    let mut patient = upgrade(patient).await;
    let _bounded = upgrade(bounded).await;
    assert_eq!(
        timeout(DEADLINE, cuts.recv()).await.unwrap(),
        Some("bounded")
    );
    let mut bytes = vec![0; 16 << 20];
    timeout(DEADLINE, patient.read_exact(&mut bytes))
        .await
        .unwrap()
        .unwrap();
    assert!(cuts.try_recv().is_err());
}
