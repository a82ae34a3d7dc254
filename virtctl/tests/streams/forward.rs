//! `port-forward`, and what uses it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::TcpSocket;

use super::{Cluster, MOMENT, Running, stderr};

/// Sends everything back, and closes once its client does.
fn echo_server() -> u16 {
    serve(|mut client| {
        let mut from = client.try_clone().unwrap();
        let _ = std::io::copy(&mut from, &mut client);
    })
}

fn serve(session: impl Fn(TcpStream) + Send + Clone + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let session = session.clone();
            thread::spawn(move || session(client.unwrap()));
        }
    });
    port
}

/// Starts `port-forward`; returns where it listens, in order.
fn forwarding(cluster: &Cluster, arguments: &[&str], count: usize) -> (Running, Vec<SocketAddr>) {
    let mut command = cluster.virtctl(&["port-forward"]);
    command.args(arguments).stdout(Stdio::piped());
    let mut running = Running::start(&mut command);
    let addresses = (0..count)
        .map(|_| {
            let line = running.line();
            let address = line.strip_prefix("Forwarding from ").unwrap();
            address.split(' ').next().unwrap().parse().unwrap()
        })
        .collect();
    (running, addresses)
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at * 31 % 251) as u8).collect()
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(MOMENT)).unwrap();
    client
}

#[test]
fn many_connections_at_once_are_each_their_own() {
    let cluster = Cluster::new();
    let port = echo_server();
    let (mut running, addresses) = forwarding(&cluster, &["vm/guest", &format!(":{port}")], 1);
    let clients: Vec<_> = (1..=8)
        .map(|nth| {
            let address = addresses[0];
            thread::spawn(move || {
                let mut client = connect(address);
                let sent = bytes(nth * 100_001);
                let mut to = client.try_clone().unwrap();
                let sending = sent.clone();
                let sender = thread::spawn(move || to.write_all(&sending).unwrap());
                let mut came = vec![0; sent.len()];
                client.read_exact(&mut came).unwrap();
                sender.join().unwrap();
                assert!(came == sent);
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    assert_eq!(
        cluster
            .server
            .calls(&format!("virtualmachines/guest/portforward/{port}/tcp")),
        8
    );
    // Ctrl-C.
    kill(
        Pid::from_raw(running.0.id().try_into().unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    assert!(running.ended().success());
}

#[test]
fn a_connection_that_fails_ends_no_other() {
    let cluster = Cluster::new();
    let listening = echo_server();
    // Nobody listens there, nor can anybody while it is bound.
    let silent = TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    let ports = [format!(":{listening}"), format!(":{silent_port}")];
    let arguments = ["guest.lab", &ports[0], &ports[1]];
    let (_running, addresses) = forwarding(&cluster, &arguments, 2);
    let mut open = connect(addresses[0]);
    open.write_all(b"before").unwrap();
    let mut came = [0; 6];
    open.read_exact(&mut came).unwrap();
    let mut refused = connect(addresses[1]);
    match refused.read(&mut came) {
        Ok(count) => assert_eq!(count, 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    open.write_all(b"after.").unwrap();
    open.read_exact(&mut came).unwrap();
    assert_eq!(&came, b"after.");
}

#[test]
fn a_client_that_sends_no_more_is_answered_still() {
    let cluster = Cluster::new();
    // Answers late, and in more than one piece.
    let answer = bytes(3_000_000);
    let port = serve(move |mut client| {
        let mut request = [0; 4];
        client.read_exact(&mut request).unwrap();
        client.write_all(&answer).unwrap();
    });
    let (_running, addresses) = forwarding(&cluster, &["guest", &format!(":{port}")], 1);
    let mut client = connect(addresses[0]);
    client.write_all(b"GET\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut came = Vec::new();
    client.read_to_end(&mut came).unwrap();
    assert!(came == bytes(3_000_000), "{} bytes came", came.len());
}

#[test]
fn a_stream_that_breaks_is_not_taken_for_a_whole_one() {
    let cluster = Cluster::new();
    let port = serve(|mut client| {
        client.write_all(b"a part").unwrap();
        let _ = client.read(&mut [0]);
    });
    let (_running, addresses) = forwarding(&cluster, &["guest", &format!(":{port}")], 1);
    let mut client = connect(addresses[0]);
    let mut came = [0; 6];
    client.read_exact(&mut came).unwrap();
    // The server goes, and its streams with it.
    drop(cluster);
    let error = client.read(&mut came).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn datagrams_go_back_to_who_asked() {
    let cluster = Cluster::new();
    let guest = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = guest.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut datagram = vec![0; 1 << 16];
        while let Ok((count, from)) = guest.recv_from(&mut datagram) {
            guest.send_to(&datagram[..count], from).unwrap();
        }
    });
    let (_running, addresses) = forwarding(&cluster, &["guest", &format!(":{port}/udp")], 1);
    let clients = [(); 2].map(|()| {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(MOMENT)).unwrap();
        client.connect(addresses[0]).unwrap();
        client
    });
    let mut came = vec![0; 1 << 16];
    for count in [1, 1_400, 40_000] {
        for client in &clients {
            client.send(&bytes(count)).unwrap();
        }
        for client in &clients {
            let received = client.recv(&mut came).unwrap();
            assert!(came[..received] == bytes(count), "{received} of {count}");
        }
    }
    let path = format!("virtualmachineinstances/guest/portforward/{port}/udp");
    assert_eq!(cluster.server.calls(&path), 2);
}

#[test]
fn standard_input_and_output_are_a_port() {
    let cluster = Cluster::new();
    let port = echo_server().to_string();
    let mut command = cluster.virtctl(&["port-forward", "--stdio=true", "vm/guest/lab", &port]);
    let mut running = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let sent = bytes(4 << 20);
    let mut input = running.0.stdin.take().unwrap();
    let mut output = running.0.stdout.take().unwrap();
    let sending = sent.clone();
    let sender = thread::spawn(move || {
        input.write_all(&sending).unwrap();
        input
    });
    let mut came = vec![0; sent.len()];
    output.read_exact(&mut came).unwrap();
    assert!(came == sent);
    drop(sender.join().unwrap());
    drop(output);
    // Nobody reads, and the guest is silent.
    assert!(running.ended().success());
}

#[test]
fn the_guests_close_ends_standard_output() {
    let cluster = Cluster::new();
    let port = serve(|mut client| client.write_all(b"SSH-2.0-guest\r\n").unwrap()).to_string();
    let mut command = cluster.virtctl(&["port-forward", "guest", "--stdio", &port]);
    let mut running = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    // A keyboard at which nobody types.
    let _keyboard = running.0.stdin.take();
    assert_eq!(running.line(), "SSH-2.0-guest\r\n");
    assert_eq!(running.line(), "");
    assert!(running.ended().success());
}

#[test]
fn what_cannot_be_forwarded_is_told() {
    let cluster = Cluster::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("{}:80", taken.local_addr().unwrap().port());
    for (arguments, said) in [
        (&["guest", taken.as_str()][..], "choose another local port"),
        (&["late", "22", "--stdio"], "VMI is not running"),
        (
            &["guest", "22", "23", "--stdio"],
            "--stdio forwards one port",
        ),
        (&["guest", "53/udp", "--stdio"], "--stdio forwards one port"),
    ] {
        let output = cluster
            .virtctl(&["port-forward"])
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(output.stdout.is_empty());
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
}

#[test]
fn ssh_speaks_to_the_guests_server_and_its_status_is_ours() {
    let cluster = Cluster::new();
    let (sender, banners) = std::sync::mpsc::channel();
    let port = serve(move |mut client| {
        let mut banner = [0; 8];
        client.read_exact(&mut banner).unwrap();
        sender.send(banner).unwrap();
        client.write_all(b"that is no SSH server\r\n").unwrap();
    })
    .to_string();
    for arguments in [
        &["ssh", "root@vm/guest/lab", "-p", &port, "--", "true"][..],
        &["scp", "-p", &port, "--local-ssh", "root@guest:/x", "."],
    ] {
        let output = cluster.virtctl(arguments).arg("-t-Fnone").output().unwrap();
        let banner = banners.recv_timeout(MOMENT).unwrap();
        assert_eq!(&banner, b"SSH-2.0-", "{}", stderr(&output));
        // Both have 255 for an error of ssh itself.
        assert_eq!(output.status.code(), Some(255), "{}", stderr(&output));
    }
}
