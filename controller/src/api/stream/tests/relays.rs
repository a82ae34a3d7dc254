//! What passes, and what holds it back.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::between::{Between, DEADLINE, SOCKET, STILL, next, noise, read_all};
use crate::api::stream::relay::{Over, PIECE};

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
