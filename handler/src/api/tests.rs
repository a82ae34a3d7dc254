//! Clients with all kinds of certificates, over real TLS.

mod streams;

use std::path::Path;

use launcher_api::{GuestInfo, GuestOs, GuestUser, Phase, SOCKET, Status};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::launchers::tests::adversary::{Adversary, Server, Sessions};
use crate::launchers::tests::{DEADLINE, Followed, Kubelet};
use crate::status::Stage;

/// An authority, and what it signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// A certificate and its key, as PEM.
    fn signs(&self, common_names: &[&str]) -> (String, String) {
        let mut params = CertificateParams::new(vec!["virt-handler".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in common_names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// Puts a Secret of this authority's in the place of the one before, as the kubelet does.
    fn mount(&self, directory: &Path) {
        let (certificate, key) = self.signs(&["virt-handler"]);
        let files = [
            ("tls.crt", certificate),
            ("tls.key", key),
            ("ca.crt", self.0.pem()),
        ];
        for (name, text) in files {
            let new = directory.join("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(&new, directory.join(name)).unwrap();
        }
    }
}

/// A server with one machine, `default/one`.
struct Node {
    port: u16,
    secret: TempDir,
    task: tokio::task::JoinHandle<()>,
    says: watch::Sender<Status>,
    sessions: watch::Receiver<Sessions>,
    _kubelet: Kubelet,
    followed: Followed,
    launcher: Option<Server>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Node {
    async fn start() -> Self {
        Self::with(CONNECTIONS, |_| {}).await
    }

    /// A server of at most so many connections, whose machine's launcher is like that.
    async fn with(most: usize, like: impl FnOnce(&mut Adversary)) -> Self {
        // The first of the tests' wins; it is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kubelet = Kubelet::new();
        let status = Status {
            phase: Phase::Running.into(),
            ..Status::default()
        };
        let says = watch::Sender::new(status);
        let mut launcher = Adversary::new(&says);
        launcher.guest = || {
            Box::pin(async {
                GuestInfo {
                    hostname: "one\u{1b}[2J".into(),
                    os: Some(GuestOs {
                        id: "debian".into(),
                        ..GuestOs::default()
                    }),
                    users: vec![GuestUser {
                        name: "root".into(),
                        login_time: 1.5,
                        ..GuestUser::default()
                    }],
                    ..GuestInfo::default()
                }
            })
        };
        like(&mut launcher);
        let sessions = launcher.sessions.subscribe();
        let launcher = launcher.listen(&kubelet.pod("one").join(SOCKET));
        let mut followed = Followed::start(&kubelet, "one");
        followed.stands_at(Stage::Running).await;
        let listener = listener::listen(0).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let secret = tempfile::tempdir().unwrap();
        let served = serve_at_most(
            most,
            listener,
            secret.path().to_owned(),
            followed.launchers.clone(),
        );
        Self {
            port,
            secret,
            task: tokio::spawn(served),
            says,
            sessions,
            _kubelet: kubelet,
            followed,
            launcher: Some(launcher),
        }
    }

    /// A connection of that client's; `None` where the server closes it.
    async fn connect(
        &self,
        server: &Authority,
        client: Option<(String, String)>,
    ) -> Option<TlsStream<TcpStream>> {
        let mut trusted = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(server.0.pem().as_bytes()).unwrap();
        trusted.add(authority).unwrap();
        let config = ClientConfig::builder().with_root_certificates(trusted);
        let config = match client {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        let name = ServerName::try_from("virt-handler").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await.ok()
    }

    /// The answer's code and body; `None` where the connection was closed without one.
    async fn ask(
        &self,
        server: &Authority,
        client: Option<(String, String)>,
        call: &str,
        body: &str,
    ) -> Option<(u16, Value)> {
        let asked = async {
            let mut stream = self.connect(server, client).await?;
            // The machine of the tests has no uid.
            let query = if call.contains('?') { "" } else { "?uid=" };
            let request = format!(
                "{call}{query} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut answer = vec![];
            // A close without TLS's goodbye is an error, and the answer is there all the same.
            let _ = stream.read_to_end(&mut answer).await;
            Some(String::from_utf8(answer).unwrap())
        };
        let answer = timeout(DEADLINE, asked).await.expect("in time")?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let code = head.split(' ').nth(1)?.parse().ok()?;
        Some((code, serde_json::from_str(body).unwrap_or(Value::Null)))
    }
}

const ONE: &str = "/v1/namespaces/default/virtualmachineinstances/one";

#[tokio::test]
async fn only_virt_controller_is_served() {
    let node = Node::start().await;
    let (ours, theirs) = (Authority::new(), Authority::new());
    ours.mount(node.secret.path());
    let pause = format!("PUT {ONE}/pause");
    let strangers = [
        ("nobody", None),
        ("another's", Some(theirs.signs(&["virt-controller"]))),
        ("another", Some(ours.signs(&["virt-handler"]))),
        ("nameless", Some(ours.signs(&[]))),
    ];
    for (who, certificate) in strangers {
        let answer = node.ask(&ours, certificate, &pause, "").await;
        assert_eq!(answer, None, "{who}");
    }
    let client = Some(ours.signs(&["virt-controller"]));
    let answer = node.ask(&ours, client, &pause, "").await;
    assert_eq!(answer, Some((202, Value::Null)));
}

#[tokio::test]
async fn the_secret_may_come_late_and_change() {
    let node = Node::start().await;
    let (first, second) = (Authority::new(), Authority::new());
    let pause = format!("PUT {ONE}/pause");
    let of_first = || Some(first.signs(&["virt-controller"]));
    assert_eq!(node.ask(&first, of_first(), &pause, "").await, None);
    first.mount(node.secret.path());
    assert!(node.ask(&first, of_first(), &pause, "").await.is_some());
    second.mount(node.secret.path());
    assert_eq!(node.ask(&second, of_first(), &pause, "").await, None);
    let of_second = Some(second.signs(&["virt-controller"]));
    assert!(node.ask(&second, of_second, &pause, "").await.is_some());
}

#[tokio::test]
async fn calls_have_the_launchers_answer_or_an_error_as_the_api_server_has_them() {
    let node = Node::start().await;
    let ours = Authority::new();
    ours.mount(node.secret.path());
    let other = "/v1/namespaces/default/virtualmachineinstances/other";
    let cases = [
        (format!("PUT {ONE}/pause"), "", 202, ""),
        (format!("PUT {ONE}/unpause"), "", 409, "not  paused"),
        (format!("PUT {ONE}/reset"), "", 501, "cannot do that"),
        (
            format!("PUT {other}/pause"),
            "",
            404,
            "does not run on this node",
        ),
        // Another has its name.
        (
            format!("PUT {ONE}/shutdown?uid=another"),
            "",
            404,
            "does not run on this node",
        ),
        (
            format!("GET {ONE}/userlist?uid=another"),
            "",
            404,
            "not run",
        ),
        (format!("PUT {ONE}/shutdown?for=all"), "", 400, "`uid`"),
        (format!("PUT {ONE}/explode"), "", 404, "no such call"),
        (
            format!("PUT {ONE}/freeze"),
            "{\"forever\": 1}",
            400,
            "forever",
        ),
    ];
    for (call, body, code, message) in cases {
        let client = Some(ours.signs(&["virt-controller"]));
        let (found, answer) = node.ask(&ours, client, &call, body).await.unwrap();
        assert_eq!(found, code, "{call}: {answer}");
        if code != 202 {
            let told = answer["message"].as_str().unwrap();
            assert!(told.contains(message), "{call}: {answer}");
            assert_eq!(
                (&answer["kind"], &answer["code"]),
                (&json!("Status"), &json!(code))
            );
        }
    }
}

#[tokio::test]
async fn a_guests_words_have_kubevirts_form() {
    let node = Node::start().await;
    let ours = Authority::new();
    ours.mount(node.secret.path());
    let user = json!({"userName": "root", "domain": "", "loginTime": 1.5});
    let cases = [
        ("guestosinfo", "/hostname", json!("one [2J")),
        ("guestosinfo", "/os", json!({"id": "debian"})),
        ("guestosinfo", "/userList", json!([user])),
        ("userlist", "/items", json!([user])),
        ("filesystemlist", "/items", json!([])),
    ];
    for (call, place, expected) in cases {
        let client = Some(ours.signs(&["virt-controller"]));
        let call = format!("GET {ONE}/{call}");
        let (code, answer) = node.ask(&ours, client, &call, "").await.unwrap();
        assert_eq!(
            (code, answer.pointer(place)),
            (200, Some(&expected)),
            "{call}: {answer}"
        );
    }
}
