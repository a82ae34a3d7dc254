//! How a session ends, and what each side hears of it.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::between::{Between, DEADLINE, STILL, connection, noise, read_all};
use crate::api::stream::relay::{ByteSink, ByteSource, Over, relay};

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
