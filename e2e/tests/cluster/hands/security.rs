//! Who is let in to the subresource API, by the API server and past it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kube_client::api::ListParams;
use kube_client::config::AuthInfo;
use kube_client::{Client, Config};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use serde_json::{Value, json};

use super::call::{Caller, GROUP, PLAIN};
use crate::api::Api;
use crate::vms::guest::{Guest, mini};
use crate::vms::install::{Installation, NAMESPACE};

/// What a caller says who wants to be taken for the aggregator.
const SPOOFED: [(&str, &str); 2] = [
    ("X-Remote-User", "system:admin"),
    ("X-Remote-Group", "system:masters"),
];

/// Paths by which somebody may hope to be taken for one that calls something else.
const TRICKS: [&str; 13] = [
    "virtualmachineinstances/closed%2Fconsole",
    "virtualmachineinstances/closed/%63onsole",
    "virtualmachineinstances/%63losed/console",
    "virtualmachineinstances//closed/console",
    "virtualmachineinstances/closed//console",
    "virtualmachineinstances/closed/console/",
    "virtualmachineinstances/./closed/console",
    "virtualmachineinstances/none/../closed/console",
    "virtualmachineinstances/none/%2e%2e/closed/console",
    "virtualmachineinstances/closed/guestosinfo/../console",
    "virtualmachineinstances/closed/guestosinfo%2f..%2fconsole",
    "virtualmachineinstances/closed/console;guestosinfo",
    "virtualmachineinstances/closed/console%00",
];

/// Users do what their roles let them do.
pub(crate) async fn a_viewer_only_looks(ferrovirt: &Installation<'_>) {
    let api = ferrovirt.api;
    let namespace = &api.namespace("closed").await;
    let guest = Guest::machine(api, namespace, "closed", "Always", mini()).await;
    let viewer = user(ferrovirt, namespace, "view").await;
    let editor = user(ferrovirt, namespace, "edit").await;
    guest.phase("Running").await;

    let viewer = &Caller::new(&viewer, namespace);
    for verb in ["start", "stop", "restart", "migrate", "addvolume"] {
        let call = format!("PUT virtualmachines/closed/{verb}");
        viewer.answer(&call, &json!({}), 403).await;
    }
    for verb in [
        "pause",
        "unpause",
        "softreboot",
        "reset",
        "freeze",
        "unfreeze",
    ] {
        let call = format!("PUT virtualmachineinstances/closed/{verb}");
        viewer.answer(&call, &json!({}), 403).await;
    }
    for stream in ["console", "vnc", "portforward/7", "portforward/7/tcp"] {
        let path = format!("virtualmachineinstances/closed/{stream}");
        viewer.refused(&path, &[PLAIN], 403).await;
    }
    viewer
        .expect(&[
            ("GET virtualmachines/closed/expand-spec", Value::Null, 200),
            // Let in, but there is no agent to ask.
            (
                "GET virtualmachineinstances/closed/guestosinfo",
                Value::Null,
                409,
            ),
            (
                "GET virtualmachineinstances/closed/userlist",
                Value::Null,
                409,
            ),
            (
                "GET virtualmachineinstances/closed/filesystemlist",
                Value::Null,
                409,
            ),
            (
                "GET /apis/subresources.kubevirt.io/v1/version",
                Value::Null,
                200,
            ),
        ])
        .await;
    for trick in TRICKS {
        match viewer.open(trick, &[PLAIN]).await {
            Ok(_) => panic!("{trick} is open to a viewer"),
            // The API server tidies some paths up, and says where to.
            Err(answer) => assert!(
                [301, 400, 403, 404].contains(&answer.code),
                "{trick}: {answer:?}"
            ),
        }
    }

    let console = "virtualmachineinstances/closed/console";
    let mut open = Caller::new(&editor, namespace).stream(console).await;
    open.send(b"\n").await;
    open.expect("mini# ").await;
    open.close().await;

    strangers_are_refused(ferrovirt, namespace).await;
    guest.delete("VirtualMachine").await;
}

/// An account that has a role of the cluster's in the namespace.
async fn user(ferrovirt: &Installation<'_>, namespace: &str, role: &str) -> Api {
    let api = ferrovirt.api;
    api.apply(json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": role, "namespace": namespace},
    }))
    .await;
    api.apply(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": role, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": role, "namespace": namespace}],
    }))
    .await;
    let token = ferrovirt.kubectl(&["create", "token", role, "-n", namespace]);
    api.with_token(token.trim())
}

/// Whoever goes past the API server is not believed, whatever they say.
async fn strangers_are_refused(ferrovirt: &Installation<'_>, namespace: &str) {
    let Some(pki) = ferrovirt.cluster.pki() else {
        println!("skipped: another's cluster does not give its keys away");
        return;
    };
    let work = tempfile::tempdir().expect("there is a place for files");
    let address = controller(ferrovirt.api).await;
    let direct = |identity: Option<&(PathBuf, PathBuf)>| client(&address, identity);
    let genuine = (pki.join("front-proxy.crt"), pki.join("front-proxy.key"));
    let trusted = authority(&pki, "front-proxy-ca");
    let version = format!("GET {GROUP}/v1/version");

    // Else every refusal below could have another reason.
    let aggregator = Caller::with_client(direct(Some(&genuine)), namespace).headers(&SPOOFED);
    aggregator.answer(&version, &Value::Null, 200).await;
    let console = "virtualmachineinstances/closed/console";
    aggregator.stream(console).await.close().await;
    for trick in TRICKS {
        match aggregator.open(trick, &[PLAIN]).await {
            Ok(_) => panic!("{trick} is open"),
            Err(answer) => assert!([400, 404].contains(&answer.code), "{trick}: {answer:?}"),
        }
    }
    // It speaks for nobody.
    let nobody = Caller::with_client(direct(Some(&genuine)), namespace);
    nobody.answer(&version, &Value::Null, 401).await;

    let other = issue(work.path(), "other", &trusted, "front-proxy-client");
    for identity in [None, Some(&other)] {
        let stranger = Caller::with_client(direct(identity), namespace).headers(&SPOOFED);
        stranger.answer(&version, &Value::Null, 401).await;
        stranger.refused(console, &[PLAIN], 401).await;
    }

    let forged = issue(work.path(), "forged", &forger(), "front-proxy");
    let users = (pki.join("admin.crt"), pki.join("admin.key"));
    for identity in [forged, users] {
        let stranger = Caller::with_client(direct(Some(&identity)), namespace).headers(&SPOOFED);
        let answer = stranger.call(&version, &Value::Null).await;
        let error = answer.expect_err("no other authority is trusted");
        assert!(!matches!(error, kube_client::Error::Api(_)), "{error}");
    }

    // By the API server it is the user that counts, whatever its headers say.
    let viewer = user(ferrovirt, namespace, "view").await;
    let viewer = Caller::new(&viewer, namespace).headers(&SPOOFED);
    viewer.refused(console, &[PLAIN], 403).await;
}

/// The address of a controller's listener.
async fn controller(api: &Api) -> String {
    let params = ListParams::default().labels("app.kubernetes.io/name=virt-controller");
    let pods = api.pods(NAMESPACE).list(&params).await;
    let pods = pods.expect("pods can be listed").items.into_iter();
    let mut addresses = pods.filter_map(|pod| pod.status?.pod_ip);
    addresses.next().expect("a controller runs")
}

/// A client that goes there directly, with a certificate or without.
fn client(address: &str, identity: Option<&(PathBuf, PathBuf)>) -> Client {
    let url = format!("https://{address}:8444").parse();
    let mut config = Config::new(url.expect("it is a URL"));
    config.accept_invalid_certs = true;
    config.default_retry = false;
    if let Some((certificate, key)) = identity {
        config.auth_info = AuthInfo {
            client_certificate: Some(certificate.display().to_string()),
            client_key: Some(key.display().to_string()),
            ..AuthInfo::default()
        };
    }
    Client::try_from(config).expect("a client can be made")
}

/// An authority whose key lies in a directory.
fn authority(directory: &Path, name: &str) -> Issuer<'static, KeyPair> {
    let file = |ending| directory.join(format!("{name}.{ending}"));
    // rcgen wants it as PKCS #8.
    let mut openssl = Command::new("openssl");
    openssl.args(["pkcs8", "-topk8", "-nocrypt", "-in"]);
    let key = openssl.arg(file("key")).output().expect("openssl starts");
    let key = KeyPair::from_pem(&String::from_utf8_lossy(&key.stdout));
    let key = key.expect("the cluster keeps its keys");
    let certificate = fs::read_to_string(file("crt")).expect("and its certificates");
    Issuer::from_ca_cert_pem(&certificate, key).expect("it is an authority")
}

/// One that calls itself what the cluster's is called.
fn forger() -> Issuer<'static, KeyPair> {
    let key = KeyPair::generate().expect("keys can be made");
    let mut params = params("front-proxy-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Issuer::new(params, key)
}

/// Files of a client's certificate and its key.
fn issue(
    directory: &Path,
    name: &str,
    issuer: &Issuer<'_, KeyPair>,
    subject: &str,
) -> (PathBuf, PathBuf) {
    let key = KeyPair::generate().expect("keys can be made");
    let mut params = params(subject);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, issuer);
    let certificate = certificate.expect("it can be signed");
    let file = |ending, text: String| {
        let path = directory.join(format!("{name}.{ending}"));
        fs::write(&path, text).expect("there is room");
        path
    };
    (
        file("crt", certificate.pem()),
        file("key", key.serialize_pem()),
    )
}

fn params(subject: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, subject);
    params
}
