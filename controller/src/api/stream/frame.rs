//! WebSocket frames (RFC 6455, section 5), for a server: pure, and with no message ever held.
//!
//! Clients decide how long their messages are, and to our streams messages mean nothing: libraries
//! that hand over whole ones would let a client decide how much memory a stream takes. What a
//! message holds is handed on here as it comes in, where it came in.

use std::ops::Range;

/// The longest payload of a control frame, in bytes (section 5.5).
const CONTROL: usize = 125;

/// The length of a mask, in bytes.
const MASK: usize = 4;

/// The longest header of a client's frame, in bytes: with a length of 64 bits, and a mask.
const HEADER: usize = 14;

/// The longest header of a frame of ours, in bytes: with a length of 16 bits, and no mask.
pub(super) const OUR_HEADER: usize = 4;

/// The longest payload of a frame of ours, in bytes. No datagram is longer.
pub(super) const OUR_PAYLOAD: usize = u16::MAX as usize;

/// What a frame of ours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xa,
}

/// Why a stream is closed (section 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseCode {
    /// It is over.
    Normal = 1000,
    /// The process ends.
    GoingAway = 1001,
    /// The client does not speak the protocol.
    Protocol = 1002,
    /// A message is longer than it can be.
    TooBig = 1009,
    /// The other side failed.
    Internal = 1011,
}

/// A client's frame is against the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("bits are set that no extension was agreed on for")]
    Reserved,
    #[error("a frame is of an unknown kind")]
    Opcode,
    #[error("a client's frame is not masked")]
    Unmasked,
    #[error("a control frame is in parts, or too long")]
    Control,
    #[error("a message begins within another, or goes on where none is")]
    Sequence,
    #[error("a frame is too long")]
    Length,
}

/// What a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Some of a message, unmasked.
    Data {
        /// Where in the input it stands.
        place: Range<usize>,
        /// Whether the message ends with it.
        last: bool,
    },
    /// It asks for a pong.
    Ping(Control),
    /// It is there.
    Pong,
    /// It is done.
    Close,
}

/// The payload of a control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Control {
    bytes: [u8; CONTROL],
    length: usize,
}

impl Control {
    pub(super) const EMPTY: Self = Self {
        bytes: [0; CONTROL],
        length: 0,
    };

    /// The payload.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Reads a client's frames.
#[derive(Debug)]
pub(super) struct Decoder {
    state: State,
    /// A message has begun and not ended.
    within: bool,
}

#[derive(Debug)]
enum State {
    /// A header is read, so many bytes of it are.
    Header {
        bytes: [u8; HEADER],
        length: usize,
    },
    Payload(Payload),
}

#[derive(Debug)]
struct Payload {
    kind: Kind,
    mask: [u8; MASK],
    left: u64,
}

#[derive(Debug)]
enum Kind {
    /// Text or binary: its text is not looked at.
    Data {
        last: bool,
    },
    Ping(Control),
    Pong,
    Close,
}

impl Decoder {
    /// At the beginning of a stream.
    pub(super) fn new() -> Self {
        Self {
            state: State::HEADER,
            within: false,
        }
    }

    /// Reads on in `input`, which follows what was read before. Returns how much of it is read now,
    /// and what that is; none where it takes more input.
    ///
    /// # Errors
    /// [`Violation`]. Nothing that follows can be read.
    pub(super) fn read(&mut self, input: &mut [u8]) -> Result<(usize, Option<Piece>), Violation> {
        let mut at = 0;
        loop {
            match &mut self.state {
                State::Header { bytes, length } => {
                    if let Some(payload) =
                        head(bytes.get(..*length).unwrap_or_default(), self.within)?
                    {
                        self.state = State::Payload(payload);
                        continue;
                    }
                    let (Some(byte), Some(place)) = (input.get(at), bytes.get_mut(*length)) else {
                        return Ok((at, None));
                    };
                    *place = *byte;
                    *length += 1;
                    at += 1;
                }
                State::Payload(payload) => {
                    let rest = input.get_mut(at..).unwrap_or_default();
                    let here = usize::try_from(payload.left)
                        .unwrap_or(usize::MAX)
                        .min(rest.len());
                    if here == 0 && payload.left > 0 {
                        return Ok((at, None));
                    }
                    let piece = payload.take(rest.get_mut(..here).unwrap_or_default(), at);
                    at += here;
                    if payload.left == 0 {
                        if let Kind::Data { last } = payload.kind {
                            self.within = !last;
                        }
                        self.state = State::HEADER;
                    }
                    if piece.is_some() {
                        return Ok((at, piece));
                    }
                }
            }
        }
    }
}

impl State {
    const HEADER: Self = Self::Header {
        bytes: [0; HEADER],
        length: 0,
    };
}

impl Payload {
    /// Unmasks what comes next of it, which stands `at` there. Returns what there is to tell.
    fn take(&mut self, bytes: &mut [u8], at: usize) -> Option<Piece> {
        for part in bytes.chunks_mut(MASK) {
            for (byte, mask) in part.iter_mut().zip(self.mask) {
                *byte ^= mask;
            }
        }
        // The next byte is masked with what follows the last one's mask.
        self.mask.rotate_left(bytes.len() % MASK);
        self.left -= bytes.len() as u64;
        let over = self.left == 0;
        match &mut self.kind {
            Kind::Data { last } => Some(Piece::Data {
                place: at..at + bytes.len(),
                last: *last && over,
            }),
            Kind::Ping(said) => {
                let room = said.bytes.iter_mut().skip(said.length);
                room.zip(bytes.iter())
                    .for_each(|(room, byte)| *room = *byte);
                said.length += bytes.len();
                over.then_some(Piece::Ping(*said))
            }
            Kind::Pong => over.then_some(Piece::Pong),
            Kind::Close => over.then_some(Piece::Close),
        }
    }
}

/// Reads the header of a frame (section 5.2) of a client that is `within` a message. None where it
/// takes more bytes.
fn head(bytes: &[u8], within: bool) -> Result<Option<Payload>, Violation> {
    let &[first, second, ref rest @ ..] = bytes else {
        return Ok(None);
    };
    let (is_final, opcode) = (first & 0x80 != 0, first & 0x0f);
    if first & 0x70 != 0 {
        return Err(Violation::Reserved);
    }
    if second & 0x80 == 0 {
        return Err(Violation::Unmasked);
    }
    let short = second & 0x7f;
    let kind = match opcode {
        0x0 if within => Kind::Data { last: is_final },
        0x1 | 0x2 if !within => Kind::Data { last: is_final },
        0x0..=0x2 => return Err(Violation::Sequence),
        0x8..=0xa if !is_final || usize::from(short) > CONTROL => return Err(Violation::Control),
        0x8 => Kind::Close,
        0x9 => Kind::Ping(Control::EMPTY),
        0xa => Kind::Pong,
        _ => return Err(Violation::Opcode),
    };
    let (left, mask) = match (short, rest) {
        (126, [a, b, mask @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), mask),
        (126, _) => return Ok(None),
        (127, [a, b, c, d, e, f, g, h, mask @ ..]) => {
            let length = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            if length >> 63 != 0 {
                return Err(Violation::Length);
            }
            (length, mask)
        }
        (127, _) => return Ok(None),
        (short, mask) => (u64::from(short), mask),
    };
    let mask = <[u8; MASK]>::try_from(mask).ok();
    Ok(mask.map(|mask| Payload { kind, mask, left }))
}

/// The header of a whole frame of ours with a payload of so many bytes, at most [`OUR_PAYLOAD`]: so
/// many bytes at the end of these.
pub(super) fn header(opcode: Opcode, payload: usize) -> ([u8; OUR_HEADER], usize) {
    let first = 0x80 | opcode as u8;
    match u8::try_from(payload) {
        Ok(short) if usize::from(short) <= CONTROL => ([0, 0, first, short], 2),
        _ => {
            let length = u16::try_from(payload).unwrap_or(u16::MAX).to_be_bytes();
            ([first, 126, length[0], length[1]], 4)
        }
    }
}
