//! The guest's screen.

use futures::SinkExt;
use futures::channel::mpsc;
use launcher_api::{ScreenshotRequest, VncBytes};
use tokio::time::timeout;
use tonic::{Code, Streaming};

use super::{Client, MOMENT, Refusal, code};

/// The guest's screen, as VNC and as a picture.
pub(super) async fn seen(client: &mut Client) {
    let mut first = Screen::open(client, false).await.unwrap();
    let size = first.shake_hands().await;
    for move_cursor in [false, true] {
        assert_eq!(picture(client, move_cursor).await, size);
    }
    let refused = Screen::open(client, true).await;
    assert_eq!(code(refused), Code::Unavailable);
    let mut second = Screen::open(client, false).await.unwrap();
    assert_eq!(second.shake_hands().await, size);
    let ended = async { while let Ok(Some(_)) = first.output.message().await {} };
    timeout(MOMENT, ended)
        .await
        .expect("the first session ends");
}

/// One VNC session.
struct Screen {
    input: mpsc::Sender<VncBytes>,
    output: Streaming<VncBytes>,
    /// Come, and not taken yet.
    bytes: Vec<u8>,
}

impl Screen {
    async fn open(client: &mut Client, preserve: bool) -> Result<Self, Refusal> {
        let (mut input, stream) = mpsc::channel(1);
        input.send(VncBytes::first(preserve)).await.unwrap();
        let output = client.vnc(stream).await?.into_inner();
        Ok(Self {
            input,
            output,
            bytes: vec![],
        })
    }

    async fn take(&mut self, count: usize) -> Vec<u8> {
        let come = async {
            while self.bytes.len() < count {
                let bytes = self.output.message().await.unwrap().expect("it is open");
                self.bytes.extend(bytes.data);
            }
        };
        timeout(MOMENT, come).await.expect("the server answers");
        self.bytes.drain(..count).collect()
    }

    async fn send(&mut self, data: &[u8]) {
        self.input.send(VncBytes::of(data.to_vec())).await.unwrap();
    }

    /// RFC 6143, section 7.1 to 7.3; returns width and height.
    async fn shake_hands(&mut self) -> (u32, u32) {
        const VERSION: &[u8] = b"RFB 003.008\n";
        const NO_SECURITY: u8 = 1;
        assert_eq!(self.take(VERSION.len()).await, VERSION);
        self.send(VERSION).await;
        assert_eq!(self.take(2).await, [1, NO_SECURITY]);
        self.send(&[NO_SECURITY]).await;
        assert_eq!(self.take(4).await, [0; 4]);
        let shared = 1;
        self.send(&[shared]).await;
        let size = self.take(4).await;
        let number = |at: usize| u16::from_be_bytes([size[at], size[at + 1]]).into();
        (number(0), number(2))
    }
}

/// Takes a screenshot; returns its width and height.
async fn picture(client: &mut Client, move_cursor: bool) -> (u32, u32) {
    let request = ScreenshotRequest { move_cursor };
    let mut pieces = client.screenshot(request).await.unwrap().into_inner();
    let mut png = vec![];
    while let Some(piece) = pieces.message().await.unwrap() {
        assert!((1..=64 * 1024).contains(&piece.data.len()));
        png.extend(piece.data);
    }
    // https://www.w3.org/TR/png-3/#11IHDR
    assert_eq!(&png[..16], b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR");
    assert_eq!(&png[png.len() - 8..png.len() - 4], b"IEND");
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}
