//! A guest that is spoken to in datagrams.

use futures::SinkExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::between::{DEADLINE, connection, next, noise, read_all};
use crate::api::stream::datagram;
use crate::api::stream::relay::{Over, relay};

/// A guest that is spoken to in datagrams.
async fn datagrams() -> (WebSocketStream<TcpStream>, UdpSocket, JoinHandle<Over>) {
    // Where no other test binds: one of them takes its port again.
    let guest = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    near.connect(guest.local_addr().unwrap()).await.unwrap();
    guest.connect(near.local_addr().unwrap()).await.unwrap();
    let (far, socket) = connection().await;
    let (source, sink) = datagram::halves(near);
    let relay = tokio::spawn(relay(socket, source, sink, std::future::pending()));
    (
        WebSocketStream::from_raw_socket(far, Role::Client, None).await,
        guest,
        relay,
    )
}

#[tokio::test]
async fn a_message_is_a_datagram_and_a_datagram_a_message() {
    let (mut client, guest, relay) = datagrams().await;
    let mut heard = vec![0; 1 << 16];
    // The longest that there is over IPv4, and none at all.
    for length in [1, 0, 1500, 65_507, 3] {
        let said = noise(length);
        client.send(Message::binary(said.clone())).await.unwrap();
        let length = timeout(DEADLINE, guest.recv(&mut heard))
            .await
            .unwrap()
            .unwrap();
        assert!(heard[..length] == said, "{length}");
        guest.send(&said).await.unwrap();
        assert_eq!(next(&mut client).await, Message::binary(said));
    }
    relay.abort();
}

#[tokio::test]
async fn a_message_that_is_no_datagram_is_refused() {
    let (mut client, _guest, relay) = datagrams().await;
    client.send(Message::binary(noise(1 << 16))).await.unwrap();
    let (_, code) = read_all(&mut client).await;
    assert_eq!(code, CloseCode::Size);
    drop(client);
    let over = timeout(DEADLINE, relay).await.unwrap().unwrap();
    assert!(matches!(over, Over::TooLong), "{over:?}");
}

#[tokio::test]
async fn datagrams_that_nobody_takes_are_lost_and_the_stream_is_not() {
    let (mut client, guest, relay) = datagrams().await;
    let address = guest.local_addr().unwrap();
    let peer = guest.peer_addr().unwrap();
    drop(guest);
    // The kernel answers that nobody is there.
    for _ in 0..3 {
        client
            .send(Message::binary(b"lost".to_vec()))
            .await
            .unwrap();
    }
    client.send(Message::Ping(vec![].into())).await.unwrap();
    assert_eq!(next(&mut client).await, Message::Pong(vec![].into()));
    let guest = UdpSocket::bind(address).await.unwrap();
    guest.connect(peer).await.unwrap();
    guest.send(b"back").await.unwrap();
    assert_eq!(next(&mut client).await, Message::binary(b"back".to_vec()));
    relay.abort();
}
