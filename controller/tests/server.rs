//! The server as its clients meet it: over TCP and TLS, with certificates as the plan makes them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that panics fails"
)]

mod common;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Answer, DEADLINE, bundle, closed};
use controller::certificates::Identity;
use controller::config::Settings;
use controller::metrics::Metrics;
use controller::server::{Context, Limits, Readiness, Transport, probes, serve, webhooks};
use kube_runtime::reflector::store;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Limits that a test can wait for, and that a handshake keeps on a busy machine.
fn short() -> Limits {
    Limits {
        handshake: Duration::from_secs(2),
        idle: Duration::from_secs(2),
        request: Duration::from_secs(4),
        ..Limits::default()
    }
}

/// Limits that no test comes near.
fn long() -> Limits {
    Limits {
        handshake: 2 * DEADLINE,
        idle: 2 * DEADLINE,
        request: 2 * DEADLINE,
        ..Limits::default()
    }
}

/// The server, both of its listeners, on ports of its own.
struct Server {
    https: SocketAddr,
    http: SocketAddr,
    identity: watch::Sender<Option<Identity>>,
    readiness: watch::Sender<Readiness>,
    authority: CertificateDer<'static>,
    ended: JoinHandle<()>,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        let bundle = bundle();
        let authority = bundle.authority.certificate.clone();
        let (identity, who) = watch::channel(Some(Identity::of(&bundle).unwrap()));
        let (readiness, ready) = watch::channel(Readiness::Ready);
        let (settings, known) = watch::channel(Settings::default());
        let context = Context {
            namespace: "ferrovirt".into(),
            settings: known,
            readiness: ready.clone(),
        };
        let [https, http] = [(), ()].map(|()| async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            (listener.local_addr().unwrap(), listener)
        });
        let ((https, tls), (http, plain)) = (https.await, http.await);
        let metrics = Arc::new(Metrics::new(store().0, store().0));
        let ended = tokio::spawn(async move {
            tokio::join!(
                serve(
                    tls,
                    Transport::Tls(who),
                    webhooks(context, limits),
                    ready.clone(),
                    limits,
                ),
                serve(
                    plain,
                    Transport::Plain,
                    probes(ready.clone(), metrics, limits),
                    ready.clone(),
                    limits,
                ),
            );
            drop(settings);
        });
        Self {
            https,
            http,
            identity,
            readiness,
            authority,
            ended,
        }
    }

    async fn connect_as(
        &self,
        authority: &CertificateDer<'static>,
    ) -> std::io::Result<impl AsyncRead + AsyncWrite + Unpin + use<>> {
        common::connect(self.https, authority, None).await
    }

    async fn connect(&self) -> impl AsyncRead + AsyncWrite + Unpin + use<> {
        self.connect_as(&self.authority).await.unwrap()
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        let mut stream = self.connect().await;
        let head = head(path, body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        // A body that is refused for its size need not be read to its end.
        let _ = stream.write_all(body.as_bytes()).await;
        Answer::read(&mut stream).await
    }

    async fn get(&self, path: &str) -> Answer {
        let mut stream = TcpStream::connect(self.http).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: virt-controller\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Answer::read(&mut stream).await
    }
}

async fn connect_from(from: impl Into<IpAddr>, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from.into(), 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

fn head(path: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: virt-controller\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n"
    )
}

fn closes(answer: &Answer) -> bool {
    answer.head.contains("\r\nconnection: close\r\n")
}

fn decision(answer: &Answer) -> Value {
    let review: Value = serde_json::from_str(&answer.body).unwrap();
    review["response"].clone()
}

fn vmi() -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": { "name": "web", "namespace": "default" },
        "spec": { "domain": { "devices": {}, "memory": { "guest": "1Gi" } } },
    })
}

fn review(object: &Value) -> String {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {
                "group": "kubevirt.io", "version": "v1", "kind": "VirtualMachineInstance",
            },
            "resource": {
                "group": "kubevirt.io", "version": "v1", "resource": "virtualmachineinstances",
            },
            "name": "web",
            "namespace": "default",
            "operation": "CREATE",
            "userInfo": { "username": "alice" },
            "object": object,
            "oldObject": null,
        },
    })
    .to_string()
}

#[tokio::test]
async fn a_good_instance_is_completed_and_a_bad_one_refused() {
    let server = Server::start(long()).await;
    let answer = server.post("/mutate", &review(&vmi())).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let response = decision(&answer);
    assert_eq!(response["allowed"], true);
    assert_eq!(response["patchType"], "JSONPatch");

    let answer = server.post("/validate", &review(&vmi())).await;
    assert_eq!(decision(&answer)["allowed"], true, "{answer:?}");

    let mut bad = vmi();
    bad["spec"]["domain"]["cpus"] = json!(2);
    let answer = server.post("/validate", &review(&bad)).await;
    let response = decision(&answer);
    assert_eq!(response["allowed"], false);
    assert_eq!(response["status"]["code"], 422);
    let causes = &response["status"]["details"]["causes"];
    assert_eq!(causes[0]["field"], "spec.domain.cpus");
}

#[tokio::test]
async fn who_is_not_ready_says_so() {
    let server = Server::start(long()).await;
    server.readiness.send_replace(Readiness::Starting);
    for path in ["/mutate", "/validate"] {
        assert_eq!(server.post(path, &review(&vmi())).await.status, 503);
    }
    assert_eq!(server.get("/readyz").await.status, 503);
    assert_eq!(server.get("/healthz").await.status, 200);
    server.readiness.send_replace(Readiness::Ready);
    assert_eq!(server.post("/validate", &review(&vmi())).await.status, 200);
    assert_eq!(server.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn what_makes_no_sense_gets_a_plain_answer() {
    let server = Server::start(long()).await;
    let too_large = "x".repeat(Limits::default().body + 1);
    let cases = [
        ("/validate", "garbage", 400),
        ("/mutate", "{}", 400),
        ("/mutate", "", 400),
        ("/validate", too_large.as_str(), 413),
        ("/elsewhere", "{}", 404),
    ];
    for (path, body, status) in cases {
        let answer = server.post(path, body).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
    let answer = server.post("/validate", "garbage").await;
    assert!(
        answer
            .body
            .starts_with("the body is no AdmissionReview: expected value"),
        "{answer:?}"
    );
    // What is no HTTP either.
    let mut stream = server.connect().await;
    stream
        .write_all(b"\x16\x03\x01 who?\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(Answer::read(&mut stream).await.status, 400);
    closed(&mut stream).await;
}

#[tokio::test]
async fn metrics_are_scraped() {
    let server = Server::start(long()).await;
    let answer = server.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .head
            .contains("content-type: application/openmetrics-text")
    );
    assert!(
        answer
            .body
            .contains("kubevirt_virt_controller_leading_status 0\n")
    );
}

#[tokio::test]
async fn who_is_slow_is_cut_off() {
    let limits = short();
    let server = Server::start(limits).await;

    // Says nothing at all, neither TLS nor HTTP.
    for address in [server.https, server.http] {
        let start = Instant::now();
        let mut stream = TcpStream::connect(address).await.unwrap();
        closed(&mut stream).await;
        assert!(start.elapsed() >= limits.idle, "{:?}", start.elapsed());
    }
    // Goes on with its head for as long as it may, a byte at a time.
    let start = Instant::now();
    let mut stream = server.connect().await;
    let trickle = async {
        for byte in head("/mutate", 0).bytes().cycle() {
            if byte != b'\n' && stream.write_all(&[byte]).await.is_err() {
                return;
            }
            if timeout(Duration::from_millis(20), stream.read_u8())
                .await
                .is_ok()
            {
                return;
            }
        }
    };
    timeout(DEADLINE, trickle).await.unwrap();
    assert!(start.elapsed() >= limits.idle);

    // Promises a body and sends half.
    let mut stream = server.connect().await;
    let body = review(&vmi());
    let half = format!(
        "{}{}",
        head("/validate", body.len()),
        &body[..body.len() / 2]
    );
    stream.write_all(half.as_bytes()).await.unwrap();
    assert_eq!(Answer::read(&mut stream).await.status, 408);
    closed(&mut stream).await;

    // Is answered, and then says nothing more.
    let mut stream = server.connect().await;
    let request = head("/validate", body.len()) + &body;
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(Answer::read(&mut stream).await.status, 200);
    closed(&mut stream).await;
}

#[tokio::test]
async fn who_is_silent_keeps_nobody_out() {
    let limits = Limits {
        connections: 4,
        ..long()
    };
    let server = Server::start(limits).await;
    let mut known = server.connect().await;
    let mut silent = VecDeque::new();
    for _ in 0..3 * limits.connections {
        silent.push_back(connect_from([127, 0, 0, 2], server.https).await);
        silent.push_back(connect_from([127, 0, 0, 2], server.http).await);
    }
    let body = review(&vmi());
    assert_eq!(server.post("/validate", &body).await.status, 200);
    assert_eq!(server.get("/healthz").await.status, 200);
    for mut first in silent.drain(..2) {
        closed(&mut first).await;
    }
    // Not at the cost of those who have only one.
    let request = head("/validate", body.len()) + &body;
    known.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(Answer::read(&mut known).await.status, 200);
}

#[tokio::test]
async fn who_has_asked_is_answered_before_giving_way() {
    let limits = Limits {
        connections: 1,
        ..long()
    };
    let server = Server::start(limits).await;
    let request = b"GET /healthz HTTP/1.1\r\nhost: virt-controller\r\n\r\n";
    // Often, for chance is what would cut it off.
    for _ in 0..32 {
        let mut first = TcpStream::connect(server.http).await.unwrap();
        first.write_all(request).await.unwrap();
        assert_eq!(Answer::read(&mut first).await.status, 200);
        first.write_all(request).await.unwrap();
        let _second = TcpStream::connect(server.http).await.unwrap();
        assert_eq!(Answer::read(&mut first).await.status, 200);
        closed(&mut first).await;
    }
}

#[tokio::test]
async fn connections_are_counted() {
    let limits = Limits {
        connections: 2,
        ..long()
    };
    let server = Server::start(limits).await;
    let mut first = server.connect().await;
    let _others = (server.connect().await, server.connect().await);
    closed(&mut first).await;
}

#[tokio::test]
async fn a_new_certificate_is_served_at_once() {
    let server = Server::start(long()).await;
    let mut before = server.connect().await;
    let other = bundle();
    server
        .identity
        .send_replace(Some(Identity::of(&other).unwrap()));
    let error = server.connect_as(&server.authority).await.err().unwrap();
    assert!(error.to_string().contains("certificate"), "{error}");
    server
        .connect_as(&other.authority.certificate)
        .await
        .unwrap();
    // Who was connected is still served.
    let body = review(&vmi());
    let request = head("/validate", body.len()) + &body;
    before.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(Answer::read(&mut before).await.status, 200);
}

#[tokio::test]
async fn nobody_is_kept_waiting_for_a_certificate() {
    let server = Server::start(long()).await;
    server.identity.send_replace(None);
    assert!(server.connect_as(&server.authority).await.is_err());
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn an_end_is_announced_and_begun_work_is_finished() {
    let server = Server::start(long()).await;
    let body = review(&vmi());
    let (first, second) = body.split_at(body.len() / 2);
    let mut begun = server.connect().await;
    let start = head("/validate", body.len()) + first;
    begun.write_all(start.as_bytes()).await.unwrap();
    let mut idle = server.connect().await;

    server.readiness.send_replace(Readiness::Draining);
    let answer = server.get("/readyz").await;
    assert_eq!((answer.status, closes(&answer)), (503, true));
    // New work is still done.
    let answer = server.post("/validate", &body).await;
    assert_eq!((answer.status, closes(&answer)), (200, true));

    // When the listener is gone, idle connections are too, and begun work goes on.
    closed(&mut idle).await;
    assert!(server.connect_as(&server.authority).await.is_err());
    assert!(!server.ended.is_finished());
    begun.write_all(second.as_bytes()).await.unwrap();
    let answer = Answer::read(&mut begun).await;
    assert_eq!((answer.status, closes(&answer)), (200, true));
    timeout(DEADLINE, server.ended).await.unwrap().unwrap();
}
