//! Calls of the subresource API as they are on the wire: HTTP, and WebSockets.

use std::fmt::Write as _;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{Request, Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kube_client::client::Body;
use kube_client::{Client, Error};
use serde_json::Value;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::api::{Api, LIMIT};

/// What every path begins with, but for the version.
pub(super) const GROUP: &str = "/apis/subresources.kubevirt.io";

/// The subprotocol of streams.
pub(super) const PLAIN: &str = "plain.kubevirt.io";

/// Somebody who calls, about what is in one namespace.
pub(super) struct Caller<'a> {
    client: Client,
    namespace: &'a str,
    version: &'static str,
    headers: &'static [(&'static str, &'static str)],
}

impl<'a> Caller<'a> {
    pub(super) fn new(api: &Api, namespace: &'a str) -> Self {
        Self::with_client(api.client(), namespace)
    }

    pub(super) fn with_client(client: Client, namespace: &'a str) -> Self {
        Self {
            client,
            namespace,
            version: "v1",
            headers: &[],
        }
    }

    /// The same, by another version of the API.
    pub(super) fn version(self, version: &'static str) -> Self {
        Self { version, ..self }
    }

    /// The same, with further headers.
    pub(super) fn headers(self, headers: &'static [(&'static str, &'static str)]) -> Self {
        Self { headers, ..self }
    }

    /// Calls `METHOD PATH`, the path being below the namespace unless it begins with a slash.
    pub(super) async fn call(&self, call: &str, body: &Value) -> Result<Answer, Error> {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let request = self.request(call, &[]);
        let request = request.body(Body::from(body.into_bytes()));
        let response = self.send(call, request).await?;
        Answer::read(call, response).await
    }

    /// Makes calls one after the other, each of which has to be answered with its code.
    pub(super) async fn expect(&self, calls: &[(&str, Value, u16)]) {
        for (call, body, code) in calls {
            self.answer(call, body, *code).await;
        }
    }

    /// The answer to a call, with its code.
    pub(super) async fn answer(&self, call: &str, body: &Value, code: u16) -> Answer {
        let answer = self.call(call, body).await;
        let answer = answer.unwrap_or_else(|error| panic!("{call}: {error}"));
        answer.assert(code);
        answer
    }

    /// Opens a stream, offering these subprotocols.
    ///
    /// # Errors
    /// The answer, where that is none.
    pub(super) async fn open(&self, path: &str, offered: &[&str]) -> Result<Stream, Answer> {
        let call = format!("GET {path}");
        let key = generate_key();
        let offered = offered.join(", ");
        let mut headers = vec![
            (CONNECTION, "Upgrade"),
            (UPGRADE, "websocket"),
            (SEC_WEBSOCKET_VERSION, "13"),
            (SEC_WEBSOCKET_KEY, &key),
        ];
        if !offered.is_empty() {
            headers.push((SEC_WEBSOCKET_PROTOCOL, &offered));
        }
        let request = self.request(&call, &headers).body(Body::empty());
        let response = self.send(&call, request).await;
        let response = response.unwrap_or_else(|error| panic!("{call}: {error}"));
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let answer = Answer::read(&call, response).await;
            return Err(answer.unwrap_or_else(|error| panic!("{call}: {error}")));
        }
        let protocol = response.headers().get(SEC_WEBSOCKET_PROTOCOL);
        let protocol = protocol.map(|name| name.to_str().expect("it is a name").to_owned());
        let upgraded = hyper::upgrade::on(response).await;
        let upgraded = upgraded.unwrap_or_else(|error| panic!("{call}: {error}"));
        let upgraded = TokioIo::new(upgraded);
        Ok(Stream {
            socket: WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await,
            protocol,
            unread: vec![],
        })
    }

    /// The code that a stream is refused with.
    pub(super) async fn refused(&self, path: &str, offered: &[&str], code: u16) {
        match self.open(path, offered).await {
            Ok(_) => panic!("{path} is open"),
            Err(answer) => answer.assert(code),
        }
    }

    /// A stream that has to open.
    pub(super) async fn stream(&self, path: &str) -> Stream {
        match self.open(path, &[PLAIN]).await {
            Ok(stream) => {
                assert_eq!(stream.protocol.as_deref(), Some(PLAIN), "{path}");
                stream
            }
            Err(answer) => panic!("{answer:?}"),
        }
    }

    fn request(&self, call: &str, headers: &[(HeaderName, &str)]) -> http::request::Builder {
        let (method, path) = call.split_once(' ').expect("a call is a method and a path");
        let mut uri = String::new();
        if !path.starts_with('/') {
            let (version, namespace) = (self.version, self.namespace);
            write!(uri, "{GROUP}/{version}/namespaces/{namespace}/").expect("memory is there");
        }
        let mut request = Request::builder().method(method).uri(uri + path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        for (name, value) in self.headers {
            request = request.header(*name, *value);
        }
        request
    }

    async fn send(
        &self,
        call: &str,
        request: http::Result<Request<Body>>,
    ) -> Result<Response<Body>, Error> {
        let request = request.unwrap_or_else(|error| panic!("{call}: {error}"));
        let answer = timeout(LIMIT, self.client.send(request)).await;
        answer.unwrap_or_else(|_| panic!("{call}: no answer within {LIMIT:?}"))
    }
}

/// What a call was answered with.
#[derive(Debug)]
pub(super) struct Answer {
    call: String,
    pub(super) code: u16,
    pub(super) body: Vec<u8>,
}

impl Answer {
    async fn read(call: &str, response: Response<Body>) -> Result<Self, Error> {
        let code = response.status().as_u16();
        let body = timeout(LIMIT, response.into_body().collect_bytes()).await;
        let body = body.unwrap_or_else(|_| panic!("{call}: no whole answer within {LIMIT:?}"))?;
        Ok(Self {
            call: call.to_owned(),
            code,
            body: body.to_vec(),
        })
    }

    /// The body; null where it is no JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// It has this code, and an error is a Status that says the same.
    pub(super) fn assert(&self, code: u16) {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.code, code, "{}: {body}", self.call);
        if code >= 400 {
            let status = self.json();
            assert_eq!(status["kind"], "Status", "{}: {body}", self.call);
            assert_eq!(status["code"], code, "{}: {body}", self.call);
            let message = status["message"].as_str().unwrap_or_default();
            assert!(!message.is_empty(), "{}: {body}", self.call);
        }
    }
}

/// An open stream.
#[derive(Debug)]
pub(super) struct Stream {
    socket: WebSocketStream<TokioIo<Upgraded>>,
    /// The subprotocol that was chosen.
    pub(super) protocol: Option<String>,
    unread: Vec<u8>,
}

impl Stream {
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        let message = Message::binary(bytes.to_vec());
        let sent = timeout(LIMIT, self.socket.send(message)).await;
        let sent = sent.unwrap_or_else(|_| panic!("nobody reads for {LIMIT:?}"));
        sent.unwrap_or_else(|error| panic!("the stream has ended: {error}"));
    }

    /// Waits for a text; what came before it is lost.
    pub(super) async fn expect(&mut self, text: &str) {
        self.expect_within(text, LIMIT).await;
    }

    /// The same, within `limit`.
    pub(super) async fn expect_within(&mut self, text: &str, limit: Duration) {
        let found = async {
            loop {
                let mut windows = self.unread.windows(text.len());
                if let Some(at) = windows.position(|window| window == text.as_bytes()) {
                    self.unread.drain(..at + text.len());
                    return;
                }
                match self.socket.next().await {
                    Some(Ok(Message::Binary(bytes))) => self.unread.extend(bytes),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    other => panic!(
                        "not {text:?} but {other:?}, after {}",
                        String::from_utf8_lossy(&self.unread)
                    ),
                }
            }
        };
        if timeout(limit, found).await.is_err() {
            let unread = String::from_utf8_lossy(&self.unread);
            panic!("no {text:?} within {limit:?}: {unread}");
        }
    }

    /// A line there and back.
    pub(super) async fn echo(&mut self, line: &str) {
        self.send(line.as_bytes()).await;
        self.expect(line).await;
    }

    /// Sends, and waits a while for a text; none where it does not come.
    pub(super) async fn try_echo(
        &mut self,
        bytes: &[u8],
        text: &str,
        soon: Duration,
    ) -> Option<()> {
        let message = Message::binary(bytes.to_vec());
        let answer = async {
            self.socket.send(message).await.ok()?;
            while let Message::Binary(bytes) = self.socket.next().await?.ok()? {
                self.unread.extend(bytes);
                if self.unread.ends_with(text.as_bytes()) {
                    self.unread.clear();
                    return Some(());
                }
            }
            None
        };
        timeout(soon, answer).await.ok()?
    }

    /// Waits for its end; the code that it is closed with.
    pub(super) async fn closed(mut self) -> Option<u16> {
        let end = async {
            let mut code = None;
            while let Some(Ok(message)) = self.socket.next().await {
                if let Message::Close(frame) = message {
                    code = frame.map(|frame| frame.code.into());
                }
            }
            code
        };
        let code = timeout(LIMIT, end).await;
        code.unwrap_or_else(|_| panic!("still open after {LIMIT:?}"))
    }

    /// Ends it, and waits until the other side has too.
    pub(super) async fn close(mut self) {
        let _ = self.socket.close(None).await;
        self.closed().await;
    }
}
