//! The proxy that leads to the API server, as client-go finds it: by the kubeconfig, else by the
//! environment as Go reads it.

use std::fmt;
use std::net::IpAddr;

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use tokio::net::TcpStream;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceExt as _};

use super::client::{ConnectError, cause};

/// What dials the API server, whatever the way: TLS comes around it.
pub(super) type Dial = BoxCloneSyncService<Uri, TokioIo<TcpStream>, BoxError>;

/// What names a proxy in a kubeconfig, for errors.
pub(super) const FIELD: &str = "proxy-url in the kubeconfig";

/// A proxy, and who asks it.
#[derive(Clone)]
pub(super) struct Proxy {
    /// Without credentials.
    url: Uri,
    speaks: Protocol,
    named_by: &'static str,
}

#[derive(Clone)]
enum Protocol {
    /// HTTP's `CONNECT`, with `Proxy-Authorization`.
    Connect(Option<HeaderValue>),
    /// RFC 1928, with a name and a password: RFC 1929.
    Socks5(Option<(String, String)>),
}

/// The way through a proxy ends before the API server.
#[derive(Debug, thiserror::Error)]
#[error("through the proxy {proxy}: {reason}")]
struct ThroughError {
    proxy: String,
    reason: String,
}

/// For people: without credentials.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.to_string();
        let url = url.trim_end_matches('/');
        write!(f, "{url} of {}", self.named_by)
    }
}

/// The proxy that leads to `server`: `given` by the kubeconfig's `proxy-url`, else by `variable`s
/// of the environment.
///
/// # Errors
/// [`ConnectError::Proxy`].
pub(super) fn choose(
    given: Option<&str>,
    server: &Uri,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>, ConnectError> {
    if let Some(url) = given {
        return Proxy::parse(FIELD, url).map(Some);
    }
    let first = |names: [&'static str; 2]| {
        let set = |name| Some((name, variable(name).filter(|value| !value.is_empty())?));
        names.into_iter().find_map(set)
    };
    let named = first(if server.scheme() == Some(&Scheme::HTTPS) {
        ["HTTPS_PROXY", "https_proxy"]
    } else {
        ["HTTP_PROXY", "http_proxy"]
    });
    let Some((name, url)) = named else {
        return Ok(None);
    };
    let except = first(["NO_PROXY", "no_proxy"]).map_or_else(String::new, |(_, list)| list);
    if is_direct(server, &except) {
        return Ok(None);
    }
    Proxy::parse(name, &url).map(Some)
}

/// Whether the environment's proxy has nothing to do with `server`: it is this machine, or in
/// `except`, a `NO_PROXY`. Go's rules, not the curl's that hyper-util has: an entry may have a
/// port, `.NAME` is only what is below NAME, and `*` is addresses too.
fn is_direct(server: &Uri, except: &str) -> bool {
    let host = bare(server.host().unwrap_or_default()).to_ascii_lowercase();
    let address = host.parse::<IpAddr>().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    let except = except.to_ascii_lowercase();
    except.split(',').map(str::trim).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Ok(network) = entry.parse::<IpNet>() {
            return address.is_some_and(|address| network.contains(&address));
        }
        // An IPv6 address without brackets is none.
        let authority = entry.parse::<Authority>().ok();
        let name = authority.as_ref().map_or(entry, |it| bare(it.host()));
        let only = authority.as_ref().and_then(Authority::port_u16);
        if only.is_some_and(|only| only != port(server)) {
            return false;
        }
        if let Some(address) = address {
            return name.parse() == Ok(address);
        }
        let name = name.strip_prefix('*').unwrap_or(name);
        let ending = name.trim_start_matches('.');
        if ending.is_empty() {
            return false;
        }
        match host.strip_suffix(ending) {
            Some("") => !name.starts_with('.'),
            Some(below) => below.ends_with('.'),
            None => false,
        }
    })
}

/// A URL's host, without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.trim_matches(['[', ']'])
}

/// Where `url` leads, by its scheme where it says nothing.
fn port(url: &Uri) -> u16 {
    url.port_u16().unwrap_or(match url.scheme_str() {
        Some("https") => 443,
        Some("socks5" | "socks5h") => 1080,
        _ => 80,
    })
}

/// `url` with its port written out: hyper-util takes 443 for what is behind any proxy, and 80 for
/// any proxy.
fn with_port(url: Uri) -> Uri {
    let mut parts = url.clone().into_parts();
    let authority = format!("{}:{}", url.host().unwrap_or_default(), port(&url));
    parts.authority = authority.parse().ok();
    Uri::from_parts(parts).unwrap_or(url)
}

impl Proxy {
    /// The proxy at `url`, in `http` where it has no scheme, as `named_by` names it.
    fn parse(named_by: &'static str, url: &str) -> Result<Self, ConnectError> {
        let all = Matcher::builder().all(url).build();
        // One for all servers is one for any.
        let found = all.intercept(&Uri::from_static("http://any"));
        let found = found.ok_or(ConnectError::Proxy(named_by))?;
        let speaks = match found.uri().scheme_str() {
            Some("http") => Protocol::Connect(found.basic_auth().cloned()),
            Some("socks5" | "socks5h") => {
                let auth = found.raw_auth();
                Protocol::Socks5(auth.map(|(name, word)| (name.to_owned(), word.to_owned())))
            }
            // `https`: the kubeconfig has no certificate authority for a proxy.
            _ => return Err(ConnectError::Proxy(named_by)),
        };
        Ok(Self {
            url: with_port(found.uri().clone()),
            speaks,
            named_by,
        })
    }

    /// What dials through the proxy, to which `tcp` leads.
    pub(super) fn dial(&self, tcp: HttpConnector) -> Dial {
        let url = self.url.clone();
        match self.speaks.clone() {
            Protocol::Connect(None) => dial(Tunnel::new(url, tcp)),
            Protocol::Connect(Some(auth)) => dial(Tunnel::new(url, tcp).with_auth(auth)),
            Protocol::Socks5(None) => dial(SocksV5::new(url, tcp)),
            Protocol::Socks5(Some((name, word))) => {
                dial(SocksV5::new(url, tcp).with_auth(name, word))
            }
        }
    }

    /// The error of a connection that `error` kept from being made, with the proxy's name.
    pub(super) fn through(&self, error: &BoxError) -> BoxError {
        BoxError::from(ThroughError {
            proxy: self.to_string(),
            reason: cause(error.as_ref()),
        })
    }
}

/// `connector`, as one type for all.
pub(super) fn dial<C>(connector: C) -> Dial
where
    C: Service<Uri, Response = TokioIo<TcpStream>> + Clone + Send + Sync + 'static,
    C::Error: Into<BoxError> + 'static,
    C::Future: Send + 'static,
{
    BoxCloneSyncService::new(connector.map_request(with_port).map_err(Into::into))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use http::Request;
    use http::header::{CONNECTION, UPGRADE};
    use kube_client::Config;
    use kube_client::client::Body;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::super::dial::{self, PATIENCE};
    use super::*;

    /// Far longer than anything here takes.
    const MOMENT: Duration = Duration::from_secs(60);

    #[test]
    fn a_proxy_is_found_as_client_go_finds_it() {
        let https = "https://k8s.example.com:6443";
        let at = ("HTTPS_PROXY", "http://p:3128");
        for (given, server, environment, expected) in [
            (None, https, &[][..], ""),
            (None, https, &[at], "http://p:3128 of HTTPS_PROXY"),
            (
                None,
                https,
                &[("https_proxy", "p")],
                "http://p:80 of https_proxy",
            ),
            (
                None,
                https,
                &[("HTTPS_PROXY", ""), ("https_proxy", "p:1")],
                "http://p:1 of https_proxy",
            ),
            (None, https, &[("HTTP_PROXY", "p"), ("ALL_PROXY", "p")], ""),
            (None, "http://k8s", &[at], ""),
            (
                None,
                "http://k8s",
                &[at, ("http_proxy", "socks5h://me:word@p")],
                "socks5h://p:1080 of http_proxy",
            ),
            (
                Some("socks5://q:1"),
                https,
                &[at],
                "socks5://q:1 of proxy-url in the kubeconfig",
            ),
            // The kubeconfig means it.
            (
                Some("http://me:word@q:1/"),
                "https://localhost",
                &[("NO_PROXY", "*")],
                "http://q:1 of proxy-url in the kubeconfig",
            ),
            (Some("https://q"), https, &[], "refused: proxy-url"),
            (Some("socks4://q"), https, &[], "refused: proxy-url"),
            (
                None,
                https,
                &[("https_proxy", "h ttp")],
                "refused: https_proxy",
            ),
        ] {
            let variable = |name: &str| {
                let found = environment.iter().find(|(key, _)| *key == name)?;
                Some(found.1.to_owned())
            };
            let found = match choose(given, &server.parse().unwrap(), variable) {
                Ok(found) => found.map_or_else(String::new, |proxy| proxy.to_string()),
                Err(ConnectError::Proxy(name)) => {
                    format!("refused: {}", name.split(' ').next().unwrap())
                }
                Err(error) => panic!("{error}"),
            };
            assert_eq!(found, expected, "{given:?} {server} {environment:?}");
        }
    }

    #[test]
    fn exceptions_are_go_s() {
        for (server, except, direct) in [
            ("https://k8s.example.com", "", false),
            ("https://LOCALHOST:6443", "", true),
            ("https://127.1.2.3:6443", "", true),
            ("https://[::1]:6443", "", true),
            ("https://k8s.example.com.", "a,.", false),
            ("https://k8s.example.com", " , *", true),
            ("https://10.0.0.1", "*", true),
            ("https://k8s.example.com", "a, K8S.example.com", true),
            ("https://k8s.example.com", "example.com", true),
            ("https://k8s.example.com", ".example.com", true),
            ("https://k8s.example.com", "*.example.com", true),
            ("https://example.com", ".example.com", false),
            ("https://k8sexample.com", "example.com", false),
            ("https://k8s.example.com", "example.com:443", true),
            ("https://k8s.example.com", "example.com:6443", false),
            ("https://10.0.0.1:6443", "10.0.0.0/8", true),
            ("https://11.0.0.1:6443", "10.0.0.0/8,10.0.0.1", false),
            ("https://10.0.0.1:6443", "10.0.0.1:6443", true),
            ("https://10.0.0.1", "10.0.0.1:6443", false),
            ("https://[fd00::1]:6443", "fd00::/8", true),
            ("https://[fd00::1]:6443", "fd00::1", true),
            ("https://[fd00::1]:6443", "[fd00::1]:6443", true),
            ("https://[fd00::1]", "[fd00::1]:6443", false),
            ("https://10.example.com", "10.0.0.0/8", false),
        ] {
            let found = is_direct(&server.parse().unwrap(), except);
            assert_eq!(found, direct, "{server} {except}");
        }
    }

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// The next request to `stream`, without its body.
    async fn head(stream: &mut TcpStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    fn client(server: &str, proxy: &str, patience: Duration) -> kube_client::Client {
        let server: Uri = server.parse().unwrap();
        let proxy = choose(Some(proxy), &server, |_| None).unwrap();
        let mut config = Config::new(server);
        config.connect_timeout = Some(patience);
        config.accept_invalid_certs = true;
        dial::client(&config, proxy, PATIENCE).unwrap()
    }

    /// Upgrades a request through the proxy at `url`, which `serve` makes of the first connection to
    /// it and a server, and has an echo through both.
    async fn echo<F: Future<Output = ()>>(
        url: impl Fn(SocketAddr) -> String,
        serve: impl FnOnce(TcpStream, TcpStream) -> F,
    ) {
        let (proxy, at) = listener().await;
        let (server, behind) = listener().await;
        let proxy = async {
            let (client, _) = proxy.accept().await.unwrap();
            serve(client, TcpStream::connect(behind).await.unwrap()).await;
        };
        let server = async {
            let (mut client, _) = server.accept().await.unwrap();
            assert!(
                head(&mut client)
                    .await
                    .contains("host: cluster.invalid\r\n")
            );
            let answer = b"HTTP/1.1 101 Switching Protocols\r\n\
                           Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            client.write_all(answer).await.unwrap();
            let mut word = [0; 4];
            client.read_exact(&mut word).await.unwrap();
            client.write_all(&word).await.unwrap();
        };
        let client = async {
            let request = Request::get("/")
                .header(CONNECTION, "Upgrade")
                .header(UPGRADE, "websocket")
                .body(Body::empty())
                .unwrap();
            // Only the proxy knows where that is.
            let client = client("http://cluster.invalid", &url(at), MOMENT);
            let answer = client.send(request).await.unwrap();
            let mut stream = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
            stream.write_all(b"echo").await.unwrap();
            let mut word = [0; 4];
            stream.read_exact(&mut word).await.unwrap();
            assert_eq!(&word, b"echo");
        };
        let all = async { tokio::join!(proxy, server, client) };
        timeout(MOMENT, all).await.unwrap();
    }

    #[tokio::test]
    async fn an_upgrade_goes_through_a_tunnel() {
        let url = |at| format!("http://me:w%40rd@{at}");
        echo(url, async |mut client, mut server| {
            let asked = head(&mut client).await;
            assert!(asked.starts_with("CONNECT cluster.invalid:80 HTTP/1.1\r\n"));
            // `me:w@rd`.
            assert!(asked.contains("Proxy-Authorization: Basic bWU6d0ByZA==\r\n"));
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            copy_bidirectional(&mut client, &mut server).await.unwrap();
        })
        .await;
    }

    #[tokio::test]
    async fn an_upgrade_goes_through_socks() {
        let url = |at| format!("socks5://me:w%40rd@{at}");
        echo(url, async |mut client, mut server| {
            // RFC 1929, then RFC 1928's CONNECT to a domain name.
            for (asked, answer) in [
                (&b"\x05\x01\x02"[..], &b"\x05\x02"[..]),
                (b"\x01\x02me\x04w@rd", b"\x01\0"),
                (
                    b"\x05\x01\0\x03\x0fcluster.invalid\0\x50",
                    b"\x05\0\0\x01\0\0\0\0\0\0",
                ),
            ] {
                let mut got = vec![0; asked.len()];
                client.read_exact(&mut got).await.unwrap();
                assert_eq!(got, asked);
                client.write_all(answer).await.unwrap();
            }
            copy_bidirectional(&mut client, &mut server).await.unwrap();
        })
        .await;
    }

    /// The error of a request to an HTTPS server through a proxy that gives `answer`, and does
    /// `last` then.
    async fn failure<F: Future<Output = ()>>(
        answer: &str,
        last: impl FnOnce(TcpStream) -> F,
    ) -> String {
        let (proxy, at) = listener().await;
        let proxy = async {
            let (mut client, _) = proxy.accept().await.unwrap();
            let asked = head(&mut client).await;
            assert!(asked.starts_with("CONNECT cluster.invalid:443 HTTP/1.1\r\n"));
            client.write_all(answer.as_bytes()).await.unwrap();
            last(client).await;
        };
        let client = client(
            "https://cluster.invalid",
            &format!("http://me:word@{at}"),
            MOMENT,
        );
        let asked = client.send(Request::get("/").body(Body::empty()).unwrap());
        let all = async { tokio::join!(asked, proxy) };
        let (answer, ()) = timeout(MOMENT, all).await.unwrap();
        cause(&answer.unwrap_err()).replace(&at.to_string(), "PROXY")
    }

    #[tokio::test]
    async fn a_proxy_that_leads_nowhere_is_named() {
        for (answer, expected) in [
            (
                "HTTP/1.1 407 Who?\r\n\r\n",
                "tunnel error: proxy authorization required",
            ),
            ("HTTP/1.1 403 No\r\n\r\n", "tunnel error: unsuccessful"),
            ("", "tunnel error: unexpected end of file"),
        ] {
            let error = failure(answer, async |client| drop(client)).await;
            let expected = format!("through the proxy http://PROXY of {FIELD}: {expected}");
            assert_eq!(error, expected);
        }
    }

    #[tokio::test]
    async fn a_silent_proxy_ends_in_time() {
        // The kernel accepts for it.
        let (_silent, at) = listener().await;
        let url = format!("http://me:word@{at}");
        let client = client("https://cluster.invalid", &url, Duration::from_millis(100));
        let asked = client.send(Request::get("/").body(Body::empty()).unwrap());
        let error = timeout(MOMENT, asked).await.unwrap().unwrap_err();
        assert_eq!(
            cause(&error),
            format!("through the proxy http://{at} of {FIELD}: deadline has elapsed")
        );
    }

    #[tokio::test]
    async fn tls_is_in_the_tunnel() {
        let tls = async |mut client: TcpStream| {
            // A TLS record of a handshake: RFC 8446, 5.1.
            assert_eq!(client.read_u8().await.unwrap(), 22);
        };
        let error = failure("HTTP/1.1 200 OK\r\n\r\n", tls).await;
        assert!(
            error.starts_with("through the proxy http://PROXY"),
            "{error}"
        );
    }
}
