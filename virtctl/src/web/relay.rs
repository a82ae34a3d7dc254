//! One WebSocket of the page, and the machine's stream behind it.
//!
//! Binary messages are the machine's bytes. Text is ours, to the page: empty once the stream is
//! open, else for people: why it is not, or no longer. After that the socket is closed.

use std::error::Error;
use std::io;
use std::time::Duration;

use futures::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::stream::{ByteStream, PIECE};

/// What the page says of a session that the machine's side ended.
const ENDED: &str = "The session has ended: another one was opened, or the machine has stopped.";

/// How long either side may take to hear of the other's end.
const FAREWELL: Duration = Duration::from_secs(1);

/// How one direction ended.
enum End {
    /// The machine's side did; in words.
    Machine(String),
    /// The page was left.
    Page,
}

/// Passes on until either side ends.
pub(super) async fn relay<T, E>(socket: WebSocketStream<T>, opened: Result<ByteStream, E>)
where
    T: AsyncRead + AsyncWrite + Unpin,
    E: Error + Send + Sync + 'static,
{
    let (mut page, mut typed) = socket.split();
    let end = match opened {
        Ok(stream) => {
            let (mut output, mut input) = tokio::io::split(stream);
            let end = tokio::select! {
                end = shown(&mut output, &mut page) => end,
                end = entered(&mut typed, &mut input) => end,
            };
            let _ = timeout(FAREWELL, input.shutdown()).await;
            end
        }
        Err(error) => End::Machine(format!("{:#}", anyhow::Error::from(error))),
    };
    if let End::Machine(words) = end
        && page.send(Message::text(words)).await.is_ok()
    {
        let _ = page.close().await;
        // Bytes that nobody read would make the kernel take back what was sent.
        let rest = async { while let Some(Ok(_)) = typed.next().await {} };
        let _ = timeout(FAREWELL, rest).await;
    }
}

/// What the machine says, to the page.
async fn shown<S>(output: &mut (impl AsyncRead + Unpin), page: &mut S) -> End
where
    S: Sink<Message> + Unpin,
{
    let mut next = Message::text("");
    let mut piece = vec![0; PIECE];
    while page.send(next).await.is_ok() {
        next = match output.read(&mut piece).await {
            Ok(0) => return End::Machine(ENDED.to_owned()),
            Ok(count) => Message::binary(piece[..count].to_vec()),
            Err(error) => return End::Machine(broken(&error)),
        };
    }
    End::Page
}

/// What the page's user enters, to the machine.
async fn entered<S>(typed: &mut S, input: &mut (impl AsyncWrite + Unpin)) -> End
where
    S: Stream<Item = tungstenite::Result<Message>> + Unpin,
{
    while let Some(Ok(message)) = typed.next().await {
        // Pings are answered beneath, and so is the end.
        if let Message::Binary(bytes) = message {
            let written = match input.write_all(&bytes).await {
                Ok(()) => input.flush().await,
                failed => failed,
            };
            if let Err(error) = written {
                return End::Machine(broken(&error));
            }
        }
    }
    End::Page
}

fn broken(error: &io::Error) -> String {
    format!("The connection to the machine broke: {error}.")
}
