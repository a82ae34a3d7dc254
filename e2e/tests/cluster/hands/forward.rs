//! How fast a port is through `virtctl port-forward`, beside how fast it is without.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::virtctl::Virtctl;
use crate::api::eventually;
use crate::vms::Installation;
use crate::vms::guest::{Guest, mini};

/// What goes through at a time, in bytes.
const SIZE: usize = 8 << 20;
/// How often, each way.
const ROUNDS: usize = 5;

pub(crate) async fn a_port_is_half_as_fast_as_without(ferrovirt: &Installation<'_>) {
    let api = ferrovirt.api;
    let namespace = &api.namespace("forward").await;
    let work = tempfile::tempdir().expect("there is a place for files");
    let virtctl = Virtctl::new(ferrovirt, namespace, work.path());
    let guest = Guest::instance(api, namespace, "fast", mini()).await;
    let address = guest.answers().await;
    // It gives what it has to give, or takes all and says so.
    let gives = format!("echo 'exec head -c {SIZE} /dev/zero' >/tmp/gives");
    let takes = format!("echo 'head -c {SIZE} >/dev/null; echo ok' >/tmp/takes");
    let serve = "nc -ll -p 9000 -e sh /tmp/gives & nc -ll -p 9001 -e sh /tmp/takes &";
    guest
        .shell(&address, &format!("{gives}; {takes}; {serve}"))
        .await;
    for port in [9000, 9001] {
        guest.listens(&address, port).await;
    }

    let local = free_port().await;
    let back = free_port().await;
    let forward = format!("port-forward vmi/fast {local}:9000 {back}:9001");
    let _forward = virtctl.spawn(&forward);
    for (way, port, local) in [("from", 9000, local), ("to", 9001, back)] {
        eventually("virtctl listens", async || {
            TcpStream::connect(("127.0.0.1", local)).await.ok()
        })
        .await;
        let (mut direct, mut forwarded) = (vec![], vec![]);
        for _ in 0..ROUNDS {
            direct.push(speed(way, &address, port).await);
            forwarded.push(speed(way, "127.0.0.1", local).await);
        }
        let (direct, forwarded) = (median(direct), median(forwarded));
        println!("{way} the guest: {direct:.0} MB/s, forwarded {forwarded:.0} MB/s");
        assert!(
            forwarded * 2.0 >= direct,
            "{way}: {forwarded} of {direct} MB/s"
        );
    }
    guest.delete("VirtualMachineInstance").await;
}

/// A port of this network that nobody else has.
async fn free_port() -> u16 {
    let any = TcpListener::bind(("127.0.0.1", 0)).await;
    let address = any.and_then(|listener| listener.local_addr());
    address.expect("ports are left").port()
}

/// Megabytes in a second.
async fn speed(way: &str, address: &str, port: u16) -> f64 {
    let mut stream = TcpStream::connect((address, port)).await;
    let stream = stream.as_mut().expect("somebody listens");
    let mut piece = vec![0; 64 << 10];
    let began = Instant::now();
    if way == "to" {
        for _ in 0..SIZE / piece.len() {
            stream.write_all(&piece).await.expect("the guest takes it");
        }
        let mut answer = [0; 3];
        stream.read_exact(&mut answer).await.expect("it answers");
    } else {
        let mut left = SIZE;
        while left > 0 {
            let count = stream.read(&mut piece).await.expect("the guest gives it");
            assert!(count > 0, "{left} bytes are missing");
            left -= count;
        }
    }
    // The size is far below 2^53.
    #[expect(clippy::cast_precision_loss, reason = "it is exact")]
    let megabytes = SIZE as f64 / 1e6;
    megabytes / began.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
