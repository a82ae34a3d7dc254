//! A reply's bytes: which option goes into which area.
//!
//! ```text
//! header .. sname .. file | cookie | options, as far as the client's maximum message size
//!            3rd      2nd             1st
//! ```

use std::ops::Range;

use super::message::{COOKIE, FILE, HEADER, SNAME};
use super::options::code;

/// BOOTP relays and some clients drop shorter messages (RFC 1542 section 2.1).
const BOOTP_SIZE: usize = 300;
/// The longest value that one option holds.
const LONGEST: usize = 255;
/// The bytes of an option before its value: code and length.
const PREFIX: usize = 2;
/// The bytes of the option that tells that `file` and `sname` hold options.
const OVERLOAD: usize = PREFIX + 1;
/// The byte that ends an area.
const END_MARK: usize = 1;

/// Writes options behind a header.
#[derive(Debug)]
pub(super) struct Writer {
    payload: Vec<u8>,
    options: Area,
    file: Area,
    sname: Area,
}

impl Writer {
    /// A writer of at most `room` bytes, which hold header and cookie at least. With `overload`,
    /// what has no room among the options goes into `file` and `sname`.
    pub(super) fn new(header: &[u8; HEADER], room: usize, overload: bool) -> Self {
        let mut payload = vec![0; room];
        put_at(&mut payload, 0, header);
        put_at(&mut payload, HEADER, &COOKIE);
        let options = HEADER + COOKIE.len()..room;
        let (options, file, sname) = if overload {
            (options.start..room - OVERLOAD, FILE, SNAME)
        } else {
            (options, 0..0, 0..0)
        };
        Self {
            payload,
            options: Area::new(options),
            file: Area::new(file),
            sname: Area::new(sname),
        }
    }

    /// Writes an option into the first area that has room for it; false if none has.
    ///
    /// A value that is too long for one option is split over the areas in the order in which
    /// clients join them (RFC 3396 section 5). Others are never split: many a client joins nothing.
    pub(super) fn put(&mut self, code: u8, value: &[u8]) -> bool {
        let mut areas = [&mut self.options, &mut self.file, &mut self.sname];
        if value.len() <= LONGEST {
            let room = areas
                .into_iter()
                .find(|area| area.free() >= PREFIX + value.len());
            return room
                .map(|area| area.put(&mut self.payload, code, value))
                .is_some();
        }
        if areas.iter().map(|area| area.capacity()).sum::<usize>() < value.len() {
            return false;
        }
        let mut rest = value;
        for area in &mut areas {
            let (here, later) = rest.split_at(area.capacity().min(rest.len()));
            for part in here.chunks(LONGEST) {
                area.put(&mut self.payload, code, part);
            }
            rest = later;
        }
        true
    }

    /// The whole message, with one more option, of at most 255 bytes, at its end: `room` does not
    /// count it.
    pub(super) fn finish(mut self, last: Option<(u8, &[u8])>) -> Vec<u8> {
        // RFC 2132 section 9.3.
        let mut overload = 0;
        for (area, bit) in [(&self.file, 1), (&self.sname, 2)] {
            if area.holds_any() {
                put_at(&mut self.payload, area.at, &[code::END]);
                overload |= bit;
            }
        }
        if overload != 0 {
            self.options
                .put(&mut self.payload, code::OVERLOAD, &[overload]);
        }
        self.payload.truncate(self.options.at);
        if let Some((code, value)) = last {
            self.payload.extend([code, value.len() as u8]);
            self.payload.extend_from_slice(value);
        }
        self.payload.push(code::END);
        if self.payload.len() < BOOTP_SIZE {
            self.payload.resize(BOOTP_SIZE, 0);
        }
        self.payload
    }
}

/// A part of the payload that holds options and, behind them, the end mark.
#[derive(Debug)]
struct Area {
    start: usize,
    /// Where the next option goes.
    at: usize,
    end: usize,
}

impl Area {
    fn new(range: Range<usize>) -> Self {
        Self {
            start: range.start,
            at: range.start,
            end: range.end,
        }
    }

    /// Bytes left for options.
    fn free(&self) -> usize {
        (self.end - self.at).saturating_sub(END_MARK)
    }

    /// The longest value that has room in as few parts as can be.
    fn capacity(&self) -> usize {
        let whole = self.free() / (PREFIX + LONGEST);
        let rest = self.free() % (PREFIX + LONGEST);
        whole * LONGEST + rest.saturating_sub(PREFIX)
    }

    fn holds_any(&self) -> bool {
        self.at > self.start
    }

    /// Writes an option for which there is room.
    fn put(&mut self, payload: &mut [u8], code: u8, value: &[u8]) {
        put_at(payload, self.at, &[code, value.len() as u8]);
        put_at(payload, self.at + PREFIX, value);
        self.at += PREFIX + value.len();
    }
}

/// Copies bytes to a place that the areas have kept within the payload.
fn put_at(payload: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = payload.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}
