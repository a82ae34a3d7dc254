//! The page's server as a browser meets it: by HTTP and WebSocket on the loopback interface.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::relay::relay;
use super::server::router;
use crate::cluster::{self, Cluster};
use crate::stream::ByteStream;
use crate::target::{CallError, Kind, Name, Target};

const DEADLINE: Duration = Duration::from_secs(30);
const SECRET: &str = "5ec3e7";

/// A machine of an API server that is not there.
async fn unreachable() -> Target {
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    let text = "{apiVersion: v1, kind: Config, current-context: c, \
        clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}], \
        users: [{name: u, user: {}}], contexts: [{name: c, context: {cluster: c, user: u}}]}";
    fs::write(&kubeconfig, text).unwrap();
    let options = cluster::Options {
        kubeconfig: Some(kubeconfig),
        ..cluster::Options::default()
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cluster = Cluster::find(&options).await.unwrap();
    let name = Name {
        kind: Kind::Vm,
        namespace: "team".into(),
        name: "hello".into(),
    };
    Target::Cluster(cluster::Machine::new(cluster, name))
}

async fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = router(unreachable().await, false, SECRET);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// The whole answer to a GET.
async fn get(to: SocketAddr, path: &str, headers: &[(&str, &str)]) -> String {
    let mut request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        request += &format!("Host: {to}\r\n");
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += "\r\n";
    let exchange = async {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![];
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    };
    timeout(DEADLINE, exchange).await.unwrap()
}

fn status(answer: &str) -> u16 {
    answer["HTTP/1.1 ".len()..][..3].parse().unwrap()
}

#[tokio::test]
async fn the_page_is_at_its_secret_path_alone() {
    let to = serve().await;
    for (path, expected) in [
        ("/5ec3e7/", 200),
        ("/5ec3e7/main.js", 200),
        ("/5ec3e7/style.css", 200),
        ("/5ec3e7/licenses.txt", 200),
        ("/5ec3e7/vm", 200),
        ("/", 404),
        ("/main.js", 404),
        ("/vm", 404),
        ("/5ec3e8/", 404),
        ("/5ec3e8/vm", 404),
        ("/5EC3E7/vm", 404),
        ("/5ec3e7/../5ec3e7/vm", 404),
    ] {
        let answer = get(to, path, &[]).await;
        assert_eq!(status(&answer), expected, "{path}: {answer}");
        // Errors too, for a browser shows them.
        let head = answer.split("\r\n\r\n").next().unwrap();
        for header in [
            "content-security-policy: default-src 'none';",
            "referrer-policy: no-referrer",
        ] {
            assert!(head.contains(header), "{path}: {head}");
        }
    }
    let machine = get(to, "/5ec3e7/vm", &[]).await;
    assert!(
        machine.ends_with(r#"{"name":"hello","namespace":"team"}"#),
        "{machine}"
    );
}

#[tokio::test]
async fn other_names_and_other_sites_are_refused() {
    let to = serve().await;
    let own = format!("http://{to}");
    let socket = [
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let with = |more: &[(&'static str, &'static str)]| [&socket[..], more].concat();
    for (path, headers, expected) in [
        ("/5ec3e7/", vec![("Host", "evil.example")], 403),
        ("/5ec3e7/vm", vec![("Origin", "http://evil.example")], 403),
        ("/5ec3e7/vnc", with(&[]), 403),
        (
            "/5ec3e7/vnc",
            with(&[("Origin", "http://evil.example")]),
            403,
        ),
        ("/5ec3e7/console", with(&[("Origin", "null")]), 403),
        (
            "/5ec3e7/console",
            with(&[("Origin", "http://evil.example"), ("Host", "evil.example")]),
            403,
        ),
        ("/5ec3e7/vnc", vec![("Origin", &*own)], 400),
    ] {
        let answer = get(to, path, &headers).await;
        assert_eq!(status(&answer), expected, "{path} {headers:?}: {answer}");
    }
}

#[tokio::test]
async fn the_page_is_told_why_a_stream_is_not_open() {
    let to = serve().await;
    for endpoint in ["vnc", "console"] {
        let mut request = format!("ws://{to}/{SECRET}/{endpoint}")
            .into_client_request()
            .unwrap();
        let origin = format!("http://{to}").parse().unwrap();
        request.headers_mut().insert("Origin", origin);
        let stream = TcpStream::connect(to).await.unwrap();
        let (mut page, _) = client_async(request, stream).await.unwrap();
        let words = next(&mut page).await.into_text().unwrap();
        assert!(
            words.starts_with("cannot reach http://127.0.0.1:1"),
            "{words}"
        );
        assert!(matches!(next(&mut page).await, Message::Close(_)));
    }
}

/// A page and a machine, and nothing but the relay between them.
async fn joined() -> (WebSocketStream<DuplexStream>, DuplexStream) {
    const WIRE: usize = 1024;
    let (ours, theirs) = duplex(WIRE);
    let (machine, stream) = duplex(WIRE);
    let page = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
    let socket = WebSocketStream::from_raw_socket(ours, Role::Server, None).await;
    let opened = Ok::<_, CallError>(Box::new(stream) as ByteStream);
    tokio::spawn(relay(socket, opened));
    (page, machine)
}

async fn next<T>(page: &mut WebSocketStream<T>) -> Message
where
    WebSocketStream<T>: futures::Stream<Item = Result<Message, Error>> + Unpin,
{
    let next = timeout(DEADLINE, page.next()).await;
    next.expect("a message comes in time").unwrap().unwrap()
}

#[tokio::test]
async fn bytes_go_both_ways_whatever_their_number() {
    let (mut page, mut machine) = joined().await;
    assert_eq!(next(&mut page).await, Message::text(""));

    let long: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
    let pasted = Message::binary(long.clone());
    let mut come = vec![0; long.len()];
    let (sent, read) = tokio::join!(page.send(pasted), machine.read_exact(&mut come));
    sent.unwrap();
    read.unwrap();
    assert_eq!(come, long);

    let printed = async {
        let mut come = vec![];
        while come.len() < long.len() {
            come.extend(next(&mut page).await.into_data());
        }
        come
    };
    let (written, come) = tokio::join!(machine.write_all(&long), printed);
    written.unwrap();
    assert_eq!(come, long);
}

#[tokio::test]
async fn the_page_is_told_that_the_machine_ended_the_session() {
    let (mut page, machine) = joined().await;
    assert_eq!(next(&mut page).await, Message::text(""));
    drop(machine);
    let words = next(&mut page).await.into_text().unwrap();
    assert!(words.starts_with("The session has ended"), "{words}");
    assert!(matches!(next(&mut page).await, Message::Close(_)));
}

#[tokio::test]
async fn a_page_that_is_left_ends_the_session() {
    for polite in [true, false] {
        let (mut page, mut machine) = joined().await;
        assert_eq!(next(&mut page).await, Message::text(""));
        if polite {
            page.close(None).await.unwrap();
        } else {
            drop(page);
        }
        let end = timeout(DEADLINE, machine.read(&mut [0])).await;
        assert_eq!(end.unwrap().unwrap(), 0, "polite: {polite}");
    }
}
