//! Consoles and screens, with launchers that print, swallow, end and die.

use futures::StreamExt;
use launcher_api::{ConsoleBytes, PauseReason, ScreenshotBytes, VncBytes};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::{Response, Streaming};

use super::*;
use crate::launchers::tests::adversary::{Answer, Bytes};

/// As much as nobody between the two ends may keep, in bytes.
const MUCH: usize = 4 << 20;

/// What a launcher sends at once, in bytes.
const MESSAGE: usize = 16 * 1024;

type Carried = TlsStream<TcpStream>;

/// A node whose machine's launcher is like that, and the one client's authority.
async fn node(like: impl FnOnce(&mut Adversary)) -> (Node, Authority) {
    let node = Node::with(CONNECTIONS, like).await;
    let ours = Authority::new();
    ours.mount(node.secret.path());
    (node, ours)
}

impl Node {
    /// Opens a stream, or has the answer's code and body.
    async fn open(&self, ours: &Authority, call: &str) -> Result<Carried, (u16, Value)> {
        let headers = "connection: Upgrade\r\nupgrade: ferrovirt-stream";
        let opened = self.get(ours, call, headers);
        let (code, stream, body) = timeout(DEADLINE, opened).await.expect("in time");
        match code {
            101 => Ok(stream),
            code => Err((code, serde_json::from_slice(&body).unwrap())),
        }
    }

    /// The answer's code, its body where it tells its length, and the connection behind it.
    async fn get(&self, ours: &Authority, call: &str, headers: &str) -> (u16, Carried, Vec<u8>) {
        let client = Some(ours.signs(&["virt-controller"]));
        let mut stream = self.connect(ours, client).await.unwrap();
        let path = match call {
            whole if whole.starts_with('/') => whole.to_owned(),
            call => format!("{ONE}/{call}"),
        };
        let and = if path.contains('?') { '&' } else { '?' };
        let uid = if path.contains("uid") { "" } else { "uid=" };
        let request = format!("GET {path}{and}{uid} HTTP/1.1\r\nhost: x\r\n{headers}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = vec![];
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.lines().find_map(|line| {
            let length = line.strip_prefix("content-length: ")?;
            length.parse().ok()
        });
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body).await.unwrap();
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        (code, stream, body)
    }

    async fn sessions(&self, holds: impl FnMut(&Sessions) -> bool) {
        let mut sessions = self.sessions.clone();
        let waited = timeout(DEADLINE, sessions.wait_for(holds)).await;
        waited.expect("in time").unwrap();
    }
}

/// Sends back what it is sent, until its client ends.
fn console(input: Streaming<ConsoleBytes>) -> Answer<Bytes<ConsoleBytes>> {
    Ok(Response::new(Box::pin(input)))
}

/// As [`console`]; in use for whoever would preserve a session.
fn vnc(first: VncBytes, input: Streaming<VncBytes>) -> Answer<Bytes<VncBytes>> {
    if first.preserve {
        return Err(tonic::Status::unavailable("another VNC session is open"));
    }
    let rest = tokio_stream::once(Ok(first)).chain(input);
    Ok(Response::new(Box::pin(rest)))
}

/// Sends without end, until its client ends.
fn flood(_: VncBytes, mut input: Streaming<VncBytes>) -> Answer<Bytes<VncBytes>> {
    let screens = pattern(0).map(VncBytes::of);
    let ended = async move { while let Ok(Some(_)) = input.message().await {} };
    let screens = futures::stream::iter(screens.map(Ok)).take_until(Box::pin(ended));
    Ok(Response::new(Box::pin(screens)))
}

/// Bytes of which a lost one is noticed: message after message, each with its number in it.
fn pattern(from: u32) -> impl Iterator<Item = Vec<u8>> {
    (from..).map(|number| number.to_be_bytes().repeat(MESSAGE / 4))
}

fn much() -> Vec<u8> {
    pattern(0).take(MUCH / MESSAGE).flatten().collect()
}

async fn sent_back<S: AsyncRead + AsyncWrite>(stream: S, sent: &[u8]) -> Vec<u8> {
    let (mut from, mut to) = tokio::io::split(stream);
    let mut back = vec![0; sent.len()];
    let both = async {
        tokio::try_join!(
            async {
                to.write_all(sent).await?;
                to.flush().await
            },
            from.read_exact(&mut back)
        )
    };
    timeout(DEADLINE, both).await.expect("in time").unwrap();
    back
}

#[tokio::test]
async fn bytes_pass_as_they_are_in_both_directions_at_once() {
    let (node, ours) = node(|launcher| (launcher.console, launcher.vnc) = (console, vnc)).await;
    let sent = much();
    for call in ["console", "vnc", "vnc?preserveSession=false"] {
        let stream = node.open(&ours, call).await.unwrap();
        assert!(sent_back(stream, &sent).await == sent, "{call}");
    }
}

#[tokio::test]
async fn who_reads_nothing_holds_up_nobody_else_and_no_memory() {
    let like = |launcher: &mut Adversary| (launcher.console, launcher.vnc) = (console, flood);
    let (mut node, ours) = node(like).await;
    let mut stalled = vec![];
    for _ in 0..8 {
        stalled.push(node.open(&ours, "vnc").await.unwrap());
    }
    // Each has sent all that fits.
    node.sessions(|sessions| sessions.sent >= 8 * 8).await;
    let sent = much();
    let console = node.open(&ours, "console").await.unwrap();
    assert!(sent_back(console, &sent).await == sent);
    let client = Some(ours.signs(&["virt-controller"]));
    let pause = format!("PUT {ONE}/pause");
    let answer = node.ask(&ours, client, &pause, "").await;
    assert_eq!(answer, Some((202, Value::Null)));
    node.says.send_modify(|says| says.set_phase(Phase::Paused));
    node.followed
        .stands_at(Stage::Paused(PauseReason::Unspecified))
        .await;
    // The console's messages are among them.
    let most = stalled.len() * MUCH / MESSAGE;
    let sent = node.sessions.borrow().sent;
    assert!(sent < most, "{sent} messages are somewhere");
    for mut stream in stalled {
        let mut read = vec![0; MUCH];
        let reading = timeout(DEADLINE, stream.read_exact(&mut read)).await;
        reading.expect("in time").unwrap();
        assert!(read == much());
    }
}

#[tokio::test]
async fn what_cannot_be_streamed_is_refused_before_the_upgrade() {
    let (node, ours) = node(|launcher| {
        launcher.vnc = vnc;
        launcher.console = |_| Err(tonic::Status::failed_precondition("no serial\u{7} console"));
        launcher.screenshot = |_| Err(tonic::Status::failed_precondition("no screen"));
    })
    .await;
    let other = ONE.replace("/one", "/other/console");
    let cases = [
        ("console", 400, "no serial  console"),
        ("vnc/screenshot", 400, "no screen"),
        ("vnc?preserveSession=true", 503, "another VNC session"),
        ("vnc?preserveSession=perhaps", 400, "preserveSession"),
        (&other, 404, "default/other does not run on this node"),
        ("console?uid=another", 404, "does not run on this node"),
        (
            "vnc/screenshot?uid=another",
            404,
            "does not run on this node",
        ),
    ];
    for (call, code, message) in cases {
        refused(&node, &ours, call, code, message).await;
    }
    for headers in [
        "connection: close",
        "connection: upgrade\r\nupgrade: websocket",
    ] {
        let (code, _, body) = node.get(&ours, "vnc", headers).await;
        let answer: Value = serde_json::from_slice(&body).unwrap();
        let told = answer["message"].as_str().unwrap();
        assert!(code == 400 && told.contains("ferrovirt-stream"), "{answer}");
    }
    for (phase, message) in [
        (Phase::Starting, "does not run yet"),
        (Phase::Failed, "has ended"),
    ] {
        node.says.send_modify(|says| says.set_phase(phase));
        for call in ["console", "vnc", "vnc/screenshot"] {
            refused(&node, &ours, call, 400, message).await;
        }
    }
    assert_eq!(node.sessions.borrow().open, 0);
}

async fn refused(node: &Node, ours: &Authority, call: &str, code: u16, message: &str) {
    let (found, answer) = node.open(ours, call).await.expect_err(call);
    let told = answer["message"].as_str().unwrap();
    assert!(told.contains(message), "{call}: {answer}");
    assert_eq!((found, &answer["code"]), (code, &json!(code)), "{call}");
    assert_eq!(answer["kind"], "Status", "{call}");
}

#[tokio::test]
async fn a_launchers_end_is_told_apart_from_its_death() {
    let (mut node, ours) = node(|launcher| {
        launcher.console = |_| {
            let data = b"bye".to_vec();
            let last = tokio_stream::once(Ok(ConsoleBytes::of(data)));
            Ok(Response::new(Box::pin(last)))
        };
        launcher.vnc = vnc;
    })
    .await;
    let mut read = vec![];
    let mut stream = node.open(&ours, "console").await.unwrap();
    let reading = timeout(DEADLINE, stream.read_to_end(&mut read)).await;
    reading.expect("in time").expect("it ends with a goodbye");
    assert_eq!(read, b"bye");
    let mut stream = node.open(&ours, "vnc").await.unwrap();
    drop(node.launcher.take());
    let reading = timeout(DEADLINE, stream.read_to_end(&mut read)).await;
    let error = reading.expect("in time").expect_err("it is cut off");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_clients_end_frees_the_session_and_what_it_sent_arrives() {
    let like = |launcher: &mut Adversary| {
        (launcher.console, launcher.vnc) = (console, flood);
    };
    let (node, ours) = node(like).await;
    // A goodbye, none, and one while nothing is read.
    for (call, polite) in [("console", true), ("console", false), ("vnc", false)] {
        let mut stream = node.open(&ours, call).await.unwrap();
        node.sessions(|sessions| sessions.open == 1).await;
        let before = node.sessions.borrow().sent;
        stream.write_all(b"last words").await.unwrap();
        stream.flush().await.unwrap();
        if polite {
            stream.shutdown().await.unwrap();
        }
        drop(stream);
        // A flood may have sent all that fits before it was looked at.
        let arrived = |sent| call == "vnc" || sent > before;
        node.sessions(|sessions| sessions.open == 0 && arrived(sessions.sent))
            .await;
    }
}

#[tokio::test]
async fn one_machine_has_so_many_streams_at_once() {
    let (node, ours) = node(|launcher| launcher.vnc = vnc).await;
    let mut streams = vec![];
    let answer = loop {
        match node.open(&ours, "vnc").await {
            Ok(stream) if streams.len() < CONNECTIONS / 2 => streams.push(stream),
            other => break other,
        }
    };
    let (code, answer) = answer.expect_err("there is a limit");
    let told = answer["message"].as_str().unwrap();
    assert!(code == 503 && told.contains("open already"), "{answer}");
    assert_eq!(node.sessions.borrow().open, streams.len());
    // One that ends leaves its place to another.
    let most = streams.len();
    streams.pop();
    node.sessions(|sessions| sessions.open < most).await;
    let opened = async { while node.open(&ours, "vnc").await.is_err() {} };
    timeout(DEADLINE, opened).await.expect("in time");
}

#[tokio::test]
async fn a_stream_has_its_connections_place_until_it_ends() {
    let node = Node::with(1, |launcher| launcher.console = console).await;
    let ours = Authority::new();
    ours.mount(node.secret.path());
    let stream = node.open(&ours, "console").await.unwrap();
    let mut second = std::pin::pin!(node.open(&ours, "console"));
    timeout(Duration::from_millis(300), second.as_mut())
        .await
        .expect_err("a second connection was taken");
    drop(stream);
    second.await.unwrap();
}

#[tokio::test]
async fn strangers_keep_nobody_out_and_cut_no_stream() {
    let node = Node::with(2, |launcher| launcher.console = console).await;
    let ours = Authority::new();
    ours.mount(node.secret.path());
    let first = node.open(&ours, "console").await.unwrap();
    let mut silent = vec![];
    for _ in 0..8 {
        let stranger = TcpStream::connect(("127.0.0.1", node.port)).await;
        silent.push(stranger.unwrap());
    }
    let second = node.open(&ours, "console").await.unwrap();
    for stream in [first, second] {
        assert_eq!(sent_back(stream, b"still there").await, b"still there");
    }
}

#[tokio::test]
async fn a_picture_comes_whole_or_is_cut_off() {
    let (node, ours) = node(|launcher| {
        launcher.screenshot = |asked| {
            let broken = asked
                .move_cursor
                .then(|| Err(tonic::Status::internal("torn")));
            let pieces = pattern(0).take(4).map(|data| Ok(ScreenshotBytes { data }));
            Ok(Response::new(Box::pin(tokio_stream::iter(
                pieces.chain(broken),
            ))))
        };
    })
    .await;
    let whole: Vec<u8> = pattern(0).take(4).flatten().collect();
    for (call, ends) in [
        ("vnc/screenshot", true),
        ("vnc/screenshot?moveCursor=true", false),
    ] {
        let (code, mut stream, _) = node.get(&ours, call, "connection: close").await;
        assert_eq!(code, 200, "{call}");
        let mut body = vec![];
        let _ = timeout(DEADLINE, stream.read_to_end(&mut body)).await;
        assert_eq!(body.ends_with(b"\r\n0\r\n\r\n"), ends, "{call}");
        assert!(body.len() > whole.len(), "{call}");
    }
}
