//! Ports: a client's WebSocket to a port of the guest, dialled from here, as any pod would
//! (docs/decisions/0016).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use crds::{VirtualMachine, VirtualMachineInstance};
use kube_client::Api;
use serde::Deserialize;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::stream::{Upgrade, running};
use super::verbs::{Named, find, path};
use super::{ApiContext, ApiError, Object};

/// How long the guest may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// When a guest is gone: it answers nothing for a minute.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// Ports of machines and of instances, which have the same names.
pub(super) fn routes() -> Router<ApiContext> {
    let mut routes = Router::new();
    for port in ["portforward/{port}", "portforward/{port}/{protocol}"] {
        let (vm, vmi) = ("virtualmachines", "virtualmachineinstances");
        routes = routes
            .route(&path(vm, port), get(forward_of_vm))
            .route(&path(vmi, port), get(forward));
    }
    routes
}

/// What a path names.
#[derive(Debug, Deserialize)]
struct Asked {
    #[serde(flatten)]
    named: Named,
    port: String,
    protocol: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
}

/// Of a machine, which may be there and not run.
async fn forward_of_vm(
    State(context): State<ApiContext>,
    Path(asked): Path<Asked>,
    request: Request,
) -> Result<Response, ApiError> {
    let Named { namespace, name } = &asked.named;
    let vms: Api<VirtualMachine> = Api::namespaced(context.client.clone(), namespace);
    let vm = vms.get_metadata_opt(name).await?;
    vm.ok_or_else(|| Object::vm(name).not_found())?;
    let forwarded = forward(State(context), Path(asked), request).await;
    forwarded.map_err(|error| match error.code() {
        StatusCode::NOT_FOUND => ApiError::bad_request("VMI is not running"),
        _ => error,
    })
}

async fn forward(
    State(context): State<ApiContext>,
    Path(asked): Path<Asked>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let client = Upgrade::of(&mut request)?;
    let (port, protocol) = asked.port()?;
    let Named { namespace, name } = &asked.named;
    let place = context.streams.take(namespace, name)?;
    let vmi = find(&context, &asked.named).await?;
    running(&vmi)?;
    let guest = SocketAddr::new(address(&vmi)?, port);
    Ok(match protocol {
        Protocol::Tcp => client.serve_bytes(dial(guest).await?, place),
        Protocol::Udp => client.serve_datagrams(dial_datagrams(guest).await?, place),
    })
}

impl Asked {
    fn port(&self) -> Result<(u16, Protocol), ApiError> {
        let port = self.port.parse().ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| {
            ApiError::bad_request(format!("{:?} is no port: write 1 to 65535", self.port))
        })?;
        match self.protocol.as_deref() {
            None | Some("tcp") => Ok((port, Protocol::Tcp)),
            Some("udp") => Ok((port, Protocol::Udp)),
            Some(other) => Err(ApiError::bad_request(format!(
                "{other:?} is no protocol of ports: write tcp or udp"
            ))),
        }
    }
}

/// The guest's address on the pod's network, IPv4 where it has one.
///
/// It is the pod's, as the kubelet tells it. What a guest's agent says of further interfaces is
/// never dialled: a guest could name anybody.
fn address(vmi: &VirtualMachineInstance) -> Result<IpAddr, ApiError> {
    let none = |why| ApiError::bad_request(format!("VMI has no address to dial: {why}"));
    let primary = vmi
        .spec
        .networks
        .iter()
        .find(|network| network.is_primary());
    let primary = primary.ok_or_else(|| none("none of its networks is the pod's"))?;
    let shown = vmi.status.iter().flat_map(|status| &status.interfaces);
    let addresses = shown
        .filter(|shown| shown.name.as_ref() == Some(&primary.name))
        .flat_map(|shown| shown.ip_addresses.iter().chain(&shown.ip_address))
        .filter_map(|address| address.parse().ok())
        .filter(|address: &IpAddr| !address.is_loopback() && !address.is_unspecified());
    // The first of its family.
    addresses
        .min_by_key(IpAddr::is_ipv6)
        .ok_or_else(|| none("it has none on the pod's network yet"))
}

async fn dial(guest: SocketAddr) -> Result<TcpStream, ApiError> {
    let connected = timeout(CONNECT, TcpStream::connect(guest)).await;
    let connected = connected.map_err(|_elapsed| {
        let seconds = CONNECT.as_secs();
        ApiError::late(format!(
            "dialing VM: {guest} does not answer within {seconds} s"
        ))
    })?;
    let set_up = |stream: TcpStream| {
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE)?;
        Ok(stream)
    };
    connected
        .and_then(set_up)
        .map_err(|error| unreached(guest, &error))
}

async fn dial_datagrams(guest: SocketAddr) -> Result<UdpSocket, ApiError> {
    let any: IpAddr = match guest {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let connect = async {
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(guest).await?;
        Ok(socket)
    };
    connect.await.map_err(|error| unreached(guest, &error))
}

fn unreached(guest: SocketAddr, error: &io::Error) -> ApiError {
    let hint = match error.kind() {
        io::ErrorKind::ConnectionRefused => "; nothing listens there in the guest",
        _ => "",
    };
    ApiError::unavailable(format!("dialing VM: {guest}: {error}{hint}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn instance(networks: Value, interfaces: Value) -> VirtualMachineInstance {
        serde_json::from_value(json!({
            "metadata": {"name": "one"},
            "spec": {"domain": {"devices": {}}, "networks": networks},
            "status": {"phase": "Running", "interfaces": interfaces},
        }))
        .unwrap()
    }

    #[test]
    fn the_pods_address_is_dialled_and_no_other() {
        let pod = json!([{"name": "default", "pod": {}}]);
        let second = json!([{"name": "other", "multus": {"networkName": "lan"}}]);
        let shown =
            |name: &str, addresses: &[&str]| json!({"name": name, "ipAddresses": addresses});
        let cases = [
            (
                &pod,
                json!([shown("default", &["10.0.0.5"])]),
                Some("10.0.0.5"),
            ),
            (
                &pod,
                json!([shown("default", &["fd00::5", "10.0.0.5"])]),
                Some("10.0.0.5"),
            ),
            (
                &pod,
                json!([shown("default", &["10.0.0.5", "10.0.0.6"])]),
                Some("10.0.0.5"),
            ),
            (
                &pod,
                json!([shown("default", &["fd00::5"])]),
                Some("fd00::5"),
            ),
            (
                &pod,
                json!([{"name": "default", "ipAddress": "10.0.0.5"}]),
                Some("10.0.0.5"),
            ),
            (
                &pod,
                json!([shown("default", &["127.0.0.1", "::1", "0.0.0.0"])]),
                None,
            ),
            (&pod, json!([shown("default", &["nobody"])]), None),
            // The agent's word.
            (
                &pod,
                json!([shown("default", &[]), {"interfaceName": "docker0", "ipAddresses": ["10.96.0.1"]}]),
                None,
            ),
            (&second, json!([shown("other", &["10.0.0.5"])]), None),
            (&pod, json!([]), None),
        ];
        for (networks, interfaces, expected) in cases {
            let vmi = instance(networks.clone(), interfaces.clone());
            let found = address(&vmi);
            if let Err(error) = &found {
                assert_eq!(error.code().as_u16(), 400, "{interfaces}");
            }
            let expected = expected.map(|address| address.parse().unwrap());
            assert_eq!(found.ok(), expected, "{networks} {interfaces}");
        }
    }

    #[test]
    fn ports_and_protocols_are_read_whole() {
        let cases = [
            ("22", None, Some((22, Protocol::Tcp))),
            ("22", Some("tcp"), Some((22, Protocol::Tcp))),
            ("65535", Some("udp"), Some((65535, Protocol::Udp))),
            ("0", None, None),
            ("65536", None, None),
            ("-1", None, None),
            ("ssh", None, None),
            ("22", Some("sctp"), None),
            ("22", Some("TCP"), None),
        ];
        for (port, protocol, expected) in cases {
            let asked = Asked {
                named: Named {
                    namespace: "n".to_owned(),
                    name: "one".to_owned(),
                },
                port: port.to_owned(),
                protocol: protocol.map(str::to_owned),
            };
            assert_eq!(asked.port().ok(), expected, "{port} {protocol:?}");
        }
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_is_told_of() {
        // Nobody listens there, nor can anybody while it is bound.
        let silent = tokio::net::TcpSocket::new_v4().unwrap();
        silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let guest = silent.local_addr().unwrap();
        let error = dial(guest).await.unwrap_err();
        assert_eq!(error.code().as_u16(), 503);
        assert!(error.to_string().contains("refused"), "{error}");
        assert!(error.to_string().contains("nothing listens"), "{error}");
    }
}
