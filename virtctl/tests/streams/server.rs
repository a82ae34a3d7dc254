//! What an API server with the subresource API does, for machines whose names say how they behave.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures::{SinkExt as _, StreamExt as _};
use launcher_api::VNC_IN_USE;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Runtime;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// A picture to anybody who does not look closely.
pub(crate) const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n\0picture";

type Socket = WebSocketStream<TcpStream>;

/// How often each path was asked for.
type Calls = Arc<Mutex<HashMap<String, usize>>>;

/// The server; it ends with the value.
pub(crate) struct Server {
    address: SocketAddr,
    calls: Calls,
    _runtime: Runtime,
}

impl Server {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Calls::default();
        let seen = calls.clone();
        runtime.spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(client, seen.clone()));
            }
        });
        Self {
            address,
            calls,
            _runtime: runtime,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often `path`, below the namespace's, was asked for.
    pub(crate) fn calls(&self, path: &str) -> usize {
        self.calls.lock().unwrap().get(path).copied().unwrap_or(0)
    }
}

/// Answers one request, which is all that a stream's connection has.
async fn answer(mut client: TcpStream, calls: Calls) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap();
    let path = path
        .strip_prefix("/apis/subresources.kubevirt.io/v1/namespaces/lab/")
        .unwrap_or(path);
    let nth = {
        let mut calls = calls.lock().unwrap();
        let nth = calls.entry(path.to_owned()).or_default();
        *nth += 1;
        *nth
    };
    let parts: Vec<_> = path.split(['/', '?']).collect();
    match parts[1..] {
        ["late", "console"] if nth < 3 => refuse(&mut client, 400, "VMI is not running").await,
        ["late", ..] if parts[2] != "console" => {
            refuse(&mut client, 400, "VMI is not running").await;
        }
        ["busy", "vnc", "preserveSession=true"] => {
            refuse(&mut client, 503, VNC_IN_USE).await;
        }
        ["lost", "vnc", ..] => refuse(&mut client, 503, "no virt-handler runs there").await,
        [_, "vnc", "screenshot", _] => {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                PICTURE.len()
            );
            client.write_all(head.as_bytes()).await.unwrap();
            client.write_all(PICTURE).await.unwrap();
        }
        [name, "console"] => console(upgrade(client, &head).await, name).await,
        [_, "vnc", ..] => {
            let mut socket = upgrade(client, &head).await;
            let greeting = Message::Binary("RFB 003.008\n".into());
            socket.send(greeting).await.unwrap();
            echo(socket).await;
        }
        [_, "portforward", port, "tcp"] => {
            // As the controller does, which dials before it upgrades.
            match TcpStream::connect(("127.0.0.1", port.parse().unwrap())).await {
                Ok(guest) => bridge(upgrade(client, &head).await, guest).await,
                Err(_) => refuse(&mut client, 500, "the guest does not listen there").await,
            }
        }
        [_, "portforward", port, "udp"] => {
            let guest = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let port = port.parse().unwrap();
            guest.connect(("127.0.0.1", port)).await.unwrap();
            datagrams(upgrade(client, &head).await, &guest).await;
        }
        _ => refuse(&mut client, 404, &format!("{path} not found")).await,
    }
}

async fn refuse(client: &mut TcpStream, code: u16, message: &str) {
    let body = format!("{{\"kind\":\"Status\",\"message\":\"{message}\"}}");
    let length = body.len();
    let answer = format!("HTTP/1.1 {code} No\r\nContent-Length: {length}\r\n\r\n{body}");
    client.write_all(answer.as_bytes()).await.unwrap();
}

async fn upgrade(mut client: TcpStream, head: &str) -> Socket {
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
    };
    assert_eq!(header("sec-websocket-protocol"), Some("plain.kubevirt.io"));
    let accept = derive_accept_key(header("sec-websocket-key").unwrap().as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: plain.kubevirt.io\r\n\r\n"
    );
    client.write_all(answer.as_bytes()).await.unwrap();
    WebSocketStream::from_raw_socket(client, Role::Server, None).await
}

async fn console(mut socket: Socket, name: &str) {
    socket
        .send(Message::Binary("login: ".into()))
        .await
        .unwrap();
    if matches!(name, "ends" | "breaks") {
        // Whenever the test has seen enough.
        socket.next().await;
    }
    match name {
        "ends" => socket.close(None).await.unwrap(),
        "breaks" => {
            let _ = socket.get_ref().set_zero_linger();
        }
        _ => echo(socket).await,
    }
}

async fn echo(mut socket: Socket) {
    while let Some(Ok(message)) = socket.next().await {
        if message.is_binary() {
            socket.send(message).await.unwrap();
        }
    }
}

async fn bridge(socket: Socket, mut guest: TcpStream) {
    let (mut to_client, mut from_client) = socket.split();
    let (mut from_guest, mut to_guest) = guest.split();
    let up = async {
        while let Some(Ok(Message::Binary(bytes))) = from_client.next().await {
            to_guest.write_all(&bytes).await.unwrap();
        }
    };
    let down = async {
        let mut bytes = vec![0; 16 << 10];
        while let Ok(count @ 1..) = from_guest.read(&mut bytes).await {
            let message = Message::Binary(bytes[..count].to_vec().into());
            to_client.send(message).await.unwrap();
        }
        let _ = to_client.close().await;
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

async fn datagrams(mut socket: Socket, guest: &UdpSocket) {
    let mut datagram = vec![0; 1 << 16];
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    guest.send(&bytes).await.unwrap();
                }
                _ => return,
            },
            count = guest.recv(&mut datagram) => {
                let answer = datagram[..count.unwrap()].to_vec();
                socket.send(Message::Binary(answer.into())).await.unwrap();
            }
        }
    }
}
