use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::api::stream::datagram;
use crate::api::stream::relay::{ByteSink, ByteSource, Over, PIECE, relay};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long nobody has read when a writer is said to stand still.
const STILL: Duration = Duration::from_secs(1);

/// What sockets hold, at most, where they are asked for this: the kernel doubles it, at each end.
const SOCKET: u32 = 64 << 10;

/// Both ends of a connection whose buffers are small.
async fn connection() -> (TcpStream, TcpStream) {
    let small = || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(SOCKET).unwrap();
        socket.set_recv_buffer_size(SOCKET).unwrap();
        socket
    };
    let listener = small();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener: TcpListener = listener.listen(1).unwrap();
    let connecting = small().connect(listener.local_addr().unwrap());
    let (far, near) = tokio::join!(connecting, listener.accept());
    (far.unwrap(), near.unwrap().0)
}

/// A relay, and both of those that it is between.
struct Between<C, G> {
    client: WebSocketStream<C>,
    guest: G,
    end: oneshot::Sender<()>,
    relay: JoinHandle<Over>,
}

impl<C, G> Between<C, G>
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    G: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    async fn new(client: (C, C), guest: (G, G)) -> Self {
        let (end, ended) = oneshot::channel();
        let (near_client, near_guest) = (client.1, guest.1);
        let relay = tokio::spawn(async move {
            let (from, to) = tokio::io::split(near_guest);
            let ending = async {
                // Who would say so waits for another end.
                if ended.await.is_err() {
                    std::future::pending().await
                }
            };
            relay(near_client, ByteSource(from), ByteSink::new(to), ending).await
        });
        Self {
            client: WebSocketStream::from_raw_socket(client.0, Role::Client, None).await,
            guest: guest.0,
            end,
            relay,
        }
    }

    async fn over(self) -> Over {
        let Self { guest, relay, .. } = self;
        drop(guest);
        timeout(DEADLINE, relay).await.unwrap().unwrap()
    }
}

impl Between<TcpStream, TcpStream> {
    async fn sockets() -> Self {
        Self::new(connection().await, connection().await).await
    }
}

impl Between<DuplexStream, DuplexStream> {
    /// In memory: each end holds so many bytes.
    async fn pipes(size: usize) -> Self {
        Self::new(duplex(size), duplex(size)).await
    }
}

/// Bytes that repeat late.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

async fn next<C>(client: &mut WebSocketStream<C>) -> Message
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let next = timeout(DEADLINE, client.next()).await.unwrap();
    next.unwrap().unwrap()
}

/// Everything that the client gets until it is closed, and how that is said.
async fn read_all<C>(client: &mut WebSocketStream<C>) -> (Vec<u8>, CloseCode)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let mut all = vec![];
    loop {
        match next(client).await {
            Message::Binary(bytes) => {
                assert!(bytes.len() <= PIECE);
                all.extend(bytes);
            }
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Close(frame) => return (all, frame.unwrap().code),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn ten_mebibytes_arrive_intact_in_both_directions_at_once() {
    let mut between = Between::sockets().await;
    let (down, up) = (noise(10 << 20), noise((10 << 20) + 7));
    let (mut guest_reads, mut guest_writes) = tokio::io::split(between.guest);
    let (mut client_writes, client_reads) = between.client.split();
    let sending = async {
        // Lengths below, at and far above what is read at a time.
        let mut rest = &up[..];
        for length in [1, 125, 126, PIECE, 32 << 10, 1 << 20].into_iter().cycle() {
            let (now, later) = rest.split_at(rest.len().min(length));
            client_writes
                .send(Message::binary(now.to_vec()))
                .await
                .unwrap();
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
    };
    let receiving = async {
        let (mut all, mut messages) = (vec![], client_reads);
        while all.len() < down.len() {
            match messages.next().await.unwrap().unwrap() {
                Message::Binary(bytes) => all.extend(bytes),
                other => panic!("{other:?}"),
            }
        }
        all
    };
    let mut heard = vec![0; up.len()];
    let hearing = guest_reads.read_exact(&mut heard);
    let speaking = guest_writes.write_all(&down);
    let all = async { tokio::join!(sending, receiving, hearing, speaking) };
    let ((), received, heard_all, spoken) = timeout(DEADLINE, all).await.unwrap();
    heard_all.unwrap();
    spoken.unwrap();
    assert!(received == down, "what the guest said");
    assert!(heard == up, "what the client said");
    between.relay.abort();
    let _ = (&mut between.relay).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_guest_and_loses_nothing() {
    let between = Between::sockets().await;
    let (mut client, mut guest) = (between.client, between.guest);
    let said = noise(4 << 20);
    let mut written = 0;
    while let Ok(more) = timeout(STILL, guest.write(&said[written..])).await {
        written += more.unwrap();
        assert!(written < said.len(), "nothing holds the guest back");
    }
    // Four sockets' buffers, each doubled by the kernel, and what the relay holds.
    let most = 8 * SOCKET as usize + 2 * PIECE;
    assert!(
        written <= most,
        "{written} bytes are on their way; {most} is the most"
    );
    // The other direction does not care.
    client
        .send(Message::binary(b"still here".to_vec()))
        .await
        .unwrap();
    let mut heard = [0; 10];
    timeout(DEADLINE, guest.read_exact(&mut heard))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&heard, b"still here");
    let finish = async {
        guest.write_all(&said[written..]).await.unwrap();
        guest.shutdown().await.unwrap();
    };
    let (((), (received, code)), over) = timeout(DEADLINE, async {
        let both = tokio::join!(finish, read_all(&mut client));
        // The answer to the close.
        while client.next().await.is_some() {}
        (both, between.relay.await.unwrap())
    })
    .await
    .unwrap();
    assert!(received == said);
    assert_eq!(code, CloseCode::Normal);
    assert!(matches!(over, Over::Guest), "{over:?}");
}

#[tokio::test]
async fn a_guest_that_does_not_read_stops_the_client() {
    let between = Between::sockets().await;
    let (mut client, mut guest) = (between.client, between.guest);
    let said = noise(4 << 20);
    // Messages far longer than what is held.
    let mut messages = said
        .chunks(1 << 20)
        .map(|part| Message::binary(part.to_vec()));
    let first = messages.next().unwrap();
    assert!(
        timeout(STILL, client.send(first)).await.is_err(),
        "nothing holds the client back"
    );
    // The other direction does not care.
    guest.write_all(b"still here").await.unwrap();
    assert_eq!(
        next(&mut client).await,
        Message::binary(b"still here".to_vec())
    );
    let mut heard = vec![0; said.len()];
    let finish = async {
        for message in messages {
            client.send(message).await.unwrap();
        }
    };
    let (_, all) = timeout(DEADLINE, async {
        tokio::join!(finish, guest.read_exact(&mut heard))
    })
    .await
    .unwrap();
    all.unwrap();
    assert!(heard == said);
    between.relay.abort();
}

/// Time stands still while anything can be done: who waits in vain waits for good.
#[tokio::test(start_paused = true)]
async fn no_more_is_held_than_a_piece_a_direction() {
    const PIPE: usize = 1000;
    let Between {
        mut client,
        mut guest,
        relay,
        end: _end,
    } = Between::pipes(PIPE).await;
    let said = noise(1 << 20);
    let mut written = 0;
    while let Ok(more) = timeout(STILL, guest.write(&said[written..])).await {
        written += more.unwrap();
    }
    // The pipe to the relay, what it holds, the pipe to the client.
    assert!((PIPE..=2 * PIPE + PIECE).contains(&written), "{written}");
    // The client's library holds what it cannot write. The relay takes what it has room for.
    client.feed(Message::binary(said.clone())).await.unwrap();
    let pushed = timeout(STILL, client.flush()).await;
    assert!(pushed.is_err());
    let mut heard = vec![0; PIPE];
    guest.read_exact(&mut heard).await.unwrap();
    assert!(heard == said[..PIPE]);
    relay.abort();
}

#[tokio::test]
async fn a_ping_is_answered_while_the_guest_is_silent() {
    let mut between = Between::sockets().await;
    for said in [&b"are you there"[..], b"", &[7; 125]] {
        let ping = Message::Ping(said.to_vec().into());
        between.client.send(ping).await.unwrap();
        assert_eq!(
            next(&mut between.client).await,
            Message::Pong(said.to_vec().into())
        );
    }
    between.relay.abort();
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_pinged() {
    let mut between = Between::pipes(1000).await;
    let before = tokio::time::Instant::now();
    assert_eq!(
        next(&mut between.client).await,
        Message::Ping(vec![].into())
    );
    assert!(
        before.elapsed() < Duration::from_secs(60),
        "proxies wait no longer"
    );
    between.relay.abort();
}

#[tokio::test]
async fn a_client_that_closes_closes_the_guest() {
    let mut between = Between::sockets().await;
    between
        .client
        .send(Message::binary(b"exit\n".to_vec()))
        .await
        .unwrap();
    between.client.close(None).await.unwrap();
    let mut heard = vec![];
    timeout(DEADLINE, between.guest.read_to_end(&mut heard))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(heard, b"exit\n");
    let (_, code) = read_all(&mut between.client).await;
    assert_eq!(code, CloseCode::Normal);
    let over = between.over().await;
    assert!(matches!(over, Over::Client), "{over:?}");
}

/// While it speaks itself, and nobody reads that.
#[tokio::test]
async fn a_guest_reads_all_that_its_client_said_before_it_closed() {
    let Between {
        mut client,
        mut guest,
        relay,
        end: _end,
    } = Between::sockets().await;
    // More than the guest's socket holds, and less than both do: some of it is not sent yet.
    let (said, spoken) = (noise(160 << 10), noise(4 << 20));
    while let Ok(more) = timeout(STILL, guest.write(&spoken)).await {
        more.unwrap();
    }
    let (mut heard, leave) = (vec![], async {
        client.send(Message::binary(said.clone())).await.unwrap();
        client.close(None).await.unwrap();
        read_all(&mut client).await
    });
    let ((_, code), relayed) = timeout(DEADLINE, async {
        let left = leave.await;
        guest.read_to_end(&mut heard).await.unwrap();
        drop(guest);
        (left, relay.await.unwrap())
    })
    .await
    .unwrap();
    assert!(heard == said);
    assert_eq!(code, CloseCode::Normal);
    assert!(matches!(relayed, Over::Client), "{relayed:?}");
}

#[tokio::test]
async fn a_client_that_vanishes_closes_the_guest() {
    let Between {
        client,
        mut guest,
        relay,
        end: _end,
    } = Between::sockets().await;
    drop(client);
    let mut heard = vec![];
    timeout(DEADLINE, guest.read_to_end(&mut heard))
        .await
        .unwrap()
        .unwrap();
    assert!(heard.is_empty());
    drop(guest);
    let over = timeout(DEADLINE, relay).await.unwrap().unwrap();
    assert!(matches!(over, Over::Gone(_)), "{over:?}");
}

/// A write to it fails before its end is read: the guest is closed at once all the same.
#[tokio::test(start_paused = true)]
async fn a_client_that_vanishes_while_the_guest_speaks_closes_the_guest() {
    let (far_reads, near_writes) = duplex(100);
    let (mut far_writes, near_reads) = duplex(100);
    let (mut guest, near_guest) = duplex(100);
    let (from, to) = tokio::io::split(near_guest);
    let relay = tokio::spawn(relay(
        tokio::io::join(near_reads, near_writes),
        ByteSource(from),
        ByteSink::new(to),
        std::future::pending(),
    ));
    drop(far_reads);
    let spoken = noise(1000);
    timeout(STILL, guest.write_all(&spoken))
        .await
        .expect("it is read on, for nobody")
        .unwrap();
    // A binary message, masked with nothing.
    let said = [&[0x82, 0x84, 0, 0, 0, 0][..], b"exit"].concat();
    far_writes.write_all(&said).await.unwrap();
    drop(far_writes);
    let (mut hears, mut speaks) = tokio::io::split(guest);
    let mut heard = vec![];
    let speaking = async {
        while speaks.write_all(b"still here").await.is_ok() {
            tokio::time::sleep(STILL / 100).await;
        }
    };
    let read = tokio::select! {
        read = timeout(STILL, hears.read_to_end(&mut heard)) => read,
        () = speaking => panic!("the guest is not read"),
    };
    read.expect("in time").unwrap();
    assert_eq!(heard, b"exit");
    drop((hears, speaks));
    let over = timeout(DEADLINE, relay).await.unwrap().unwrap();
    assert!(matches!(over, Over::Gone(Some(_))), "{over:?}");
}

#[tokio::test]
async fn a_guest_that_breaks_off_is_told_from_one_that_closes() {
    let Between {
        mut client,
        guest,
        relay,
        end: _end,
    } = Between::sockets().await;
    socket2::SockRef::from(&guest)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(guest);
    let (_, code) = read_all(&mut client).await;
    assert_eq!(code, CloseCode::Error);
    drop(client);
    let over = timeout(DEADLINE, relay).await.unwrap().unwrap();
    assert!(matches!(over, Over::Failed(_)), "{over:?}");
}

#[tokio::test]
async fn a_client_hears_that_the_process_ends() {
    let Between {
        mut client,
        mut guest,
        end,
        relay,
    } = Between::sockets().await;
    end.send(()).unwrap();
    let (_, code) = read_all(&mut client).await;
    assert_eq!(code, CloseCode::Away);
    // Answers the close.
    while timeout(DEADLINE, client.next()).await.unwrap().is_some() {}
    let over = timeout(DEADLINE, relay).await.unwrap().unwrap();
    assert!(matches!(over, Over::Ending), "{over:?}");
    let mut heard = vec![];
    timeout(DEADLINE, guest.read_to_end(&mut heard))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_was_begun_is_ended_before_the_close() {
    let Between {
        mut client,
        mut guest,
        end,
        relay,
    } = Between::pipes(100).await;
    let said = noise(1000);
    // More than the client's pipe takes: the relay stands in the middle of a frame.
    let mut written = 0;
    while let Ok(more) = timeout(STILL, guest.write(&said[written..])).await {
        written += more.unwrap();
    }
    end.send(()).unwrap();
    let (received, code) = read_all(&mut client).await;
    assert_eq!(code, CloseCode::Away);
    // All that the pipe took, less the headers of two frames, and the rest of what was begun.
    assert!(received.len() >= 96, "{}", received.len());
    assert!(said.starts_with(&received));
    drop((client, guest));
    timeout(DEADLINE, relay).await.unwrap().unwrap();
}

/// A process that ends does not wait for who does not listen.
#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_keeps_nobody_from_ending() {
    let Between {
        client,
        mut guest,
        end,
        relay,
    } = Between::pipes(100).await;
    let said = noise(1000);
    while let Ok(more) = timeout(STILL, guest.write(&said)).await {
        more.unwrap();
    }
    end.send(()).unwrap();
    let over = timeout(Duration::from_secs(15), relay)
        .await
        .unwrap()
        .unwrap();
    assert!(matches!(over, Over::Ending), "{over:?}");
    drop(client);
}

#[tokio::test]
async fn a_client_that_does_not_speak_the_protocol_is_told_so() {
    let (far, near) = connection().await;
    let guest = connection().await;
    let (from, to) = tokio::io::split(guest.1);
    let relay = tokio::spawn(relay(
        near,
        ByteSource(from),
        ByteSink::new(to),
        std::future::pending(),
    ));
    let mut client = far;
    // Not masked.
    client.write_all(&[0x82, 0x01, 0x00]).await.unwrap();
    let mut heard = vec![];
    timeout(DEADLINE, client.read_to_end(&mut heard))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(heard, [0x88, 2, 0x03, 0xea]);
    let over = timeout(DEADLINE, relay).await.unwrap().unwrap();
    assert!(matches!(over, Over::Violation(_)), "{over:?}");
}

/// A guest that is spoken to in datagrams.
async fn datagrams() -> (WebSocketStream<TcpStream>, UdpSocket, JoinHandle<Over>) {
    let guest = UdpSocket::bind("127.0.0.1:0").await.unwrap();
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
