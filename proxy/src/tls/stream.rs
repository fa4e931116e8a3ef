//! A stream within TLS: what is read is opened where it was read to, what is written is sealed and written at once.
//!
//! In: a connection without TLS, a record layer. Out: bytes. Invariant: an idle connection holds no buffer; what waits to
//! be written is at most one buffer, and what waits to be taken is at most one.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use super::record::legacy::Legacy;
use super::record::{Fault, MOST, OVERHEAD, Opened, Records};
use crate::stream::Plain;
use crate::stream::buffer::{Buffer, WIRE};

/// Slices of data that can wait at a time.
pub(crate) const SLICES: usize = 8;
/// Data so short is put behind what waits before it.
const SHORT: usize = 2048;

/// A connection within TLS.
#[derive(Debug)]
pub(crate) struct TlsStream {
    io: Plain,
    layer: Layer,
    /// From the wire. What is passed of it may hold opened data.
    wire: Buffer,
    data: Data,
    /// For the wire.
    sealed: Buffer,
    /// What is sealed may go with the first words of ours: nobody waits for it.
    lazy: bool,
    /// How the other end's words ended.
    heard: End,
    /// How ours did.
    said: End,
}

/// Who opens and seals.
pub(crate) enum Layer {
    /// We.
    Own(Box<Records>),
    /// rustls.
    Legacy(Box<dyn Legacy>),
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Own(_) => "Own",
            Self::Legacy(_) => "Legacy",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Open,
    Closed,
    Broken(Fault),
}

/// Opened data, as places in the buffer.
#[derive(Debug, Default)]
struct Data {
    places: [(u32, u32); SLICES],
    first: u8,
    end: u8,
}

impl TlsStream {
    /// After the handshake: what was read behind it and what is to be said yet, and whether the other end is done.
    pub(super) fn new(io: Plain, layer: Layer, wire: Buffer, words: Vec<u8>, closed: bool) -> Self {
        let heard = if closed { End::Closed } else { End::Open };
        let (data, lazy) = (Data::default(), !words.is_empty());
        Self { io, layer, wire, data, sealed: Buffer::of(words, 0), lazy, heard, said: End::Open }
    }

    /// Ready when there is data, or none to come. `most`: read no more than holds so much of it.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<()>> {
        loop {
            if !self.data.is_empty() {
                return Poll::Ready(Ok(()));
            }
            match self.heard {
                End::Open => {}
                End::Closed => return Poll::Ready(Ok(())),
                End::Broken(fault) => return Poll::Ready(Err(fault.into())),
            }
            if !self.wire.is_empty() {
                self.open();
                if !self.data.is_empty() || self.heard != End::Open {
                    if let End::Broken(fault) = self.heard {
                        self.complain(cx, fault);
                    }
                    continue;
                }
            }
            // No further than whole records are likely to reach: the rest of one would have to be moved.
            let usual = WIRE.saturating_sub(self.wire.filled().len()).max(1);
            let room = self.wire.room();
            let most = most.saturating_add((most / MOST + 1) * OVERHEAD).min(usual).min(room.len());
            let mut buf = ReadBuf::new(&mut room[..most]);
            let polled = Pin::new(&mut self.io).poll_read(cx, &mut buf);
            let n = buf.filled().len();
            match polled {
                Poll::Pending => {
                    self.wire.settle();
                    // A writer that does not flush is helped along.
                    if !self.lazy {
                        let _ = self.poll_drain(cx);
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Err(e)) => {
                    self.wire.settle();
                    return Poll::Ready(Err(e));
                }
                // Somebody else may have cut it off: only the other end's good-bye is an end.
                Poll::Ready(Ok(())) if n == 0 => {
                    self.wire.settle();
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Poll::Ready(Ok(())) => self.wire.advance(n),
            }
        }
    }

    /// Opens what is there.
    fn open(&mut self) {
        while self.data.has_place() && self.heard == End::Open {
            let start = self.wire.start();
            let wire = self.wire.filled_mut();
            let opened = match &mut self.layer {
                Layer::Own(records) => records.open(wire),
                Layer::Legacy(legacy) => legacy.open(wire),
            };
            match opened {
                Ok(Opened::More) => break,
                Ok(Opened::Record { whole, data }) => {
                    self.wire.pass(whole);
                    if !data.is_empty() {
                        self.data.push(start + data.start, start + data.end, self.wire.bytes());
                    }
                }
                Ok(Opened::Closed) => self.heard = End::Closed,
                Err(fault) => self.heard = End::Broken(fault),
            }
        }
        self.tidy();
    }

    /// What carries it.
    pub(crate) fn plain(&self) -> &Plain {
        &self.io
    }

    /// Tells the other end why it is over, if it listens.
    fn complain(&mut self, cx: &mut Context<'_>, fault: Fault) {
        if self.said == End::Open {
            // If there is no room, so much waits that nobody listens.
            let room = self.sealed.room();
            let n = match &mut self.layer {
                Layer::Own(records) => records.complain(&fault, room),
                Layer::Legacy(legacy) => legacy.complain(room),
            };
            self.sealed.advance(n);
            let _ = self.poll_drain(cx);
        }
        self.said = End::Broken(Fault::Broken);
    }

    /// What can be taken: slices in order, put at the front of `to`; how many.
    pub(crate) fn slices<'a>(&'a self, to: &mut [IoSlice<'a>]) -> usize {
        let places = &self.data.places[usize::from(self.data.first)..usize::from(self.data.end)];
        for (slot, (start, end)) in to.iter_mut().zip(places) {
            *slot = IoSlice::new(&self.wire.passed()[*start as usize..*end as usize]);
        }
        places.len().min(to.len())
    }

    /// The first of them.
    pub(crate) fn first(&self) -> &[u8] {
        match self.data.places[usize::from(self.data.first)..usize::from(self.data.end)].first() {
            Some((start, end)) => &self.wire.passed()[*start as usize..*end as usize],
            None => &[],
        }
    }

    /// `n` bytes were taken.
    pub(crate) fn consume(&mut self, n: usize) {
        self.data.consume(n);
        self.tidy();
    }

    /// Reads into `buf` what there is.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_fill(cx, buf.remaining().max(MOST)))?;
        while buf.remaining() > 0 {
            let first = self.first();
            let n = first.len().min(buf.remaining());
            if n == 0 {
                break;
            }
            buf.put_slice(&first[..n]);
            self.consume(n);
        }
        Poll::Ready(Ok(()))
    }

    /// Seals what it can and writes it.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.said {
            End::Open => {}
            End::Closed => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            End::Broken(fault) => return Poll::Ready(Err(fault.into())),
        }
        if !std::mem::take(&mut self.lazy) {
            ready!(self.poll_drain(cx))?;
        }
        let room = self.sealed.room();
        let done = match &mut self.layer {
            Layer::Own(records) => records.seal(bufs, room),
            Layer::Legacy(legacy) => {
                let first = bufs.iter().find(|b| !b.is_empty());
                legacy.seal(first.map_or(&[][..], |b| b), room)
            }
        };
        match done {
            Ok((taken, written)) => {
                self.sealed.advance(written);
                // What does not go now goes with the next write, or flush.
                if let Poll::Ready(Err(e)) = self.poll_drain(cx) {
                    return Poll::Ready(Err(e));
                }
                Poll::Ready(Ok(taken))
            }
            Err(fault) => {
                self.said = End::Broken(fault);
                Poll::Ready(Err(fault.into()))
            }
        }
    }

    /// Writes what is sealed.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.sealed.is_empty() {
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, self.sealed.filled()))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sealed.consume(n);
        }
        Poll::Ready(Ok(()))
    }

    /// Says good-bye, once, and ends the wire's direction.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.said == End::Open {
            let room = self.sealed.room();
            let closed = match &mut self.layer {
                Layer::Own(records) => records.close(room),
                Layer::Legacy(legacy) => legacy.close(room),
            };
            self.sealed.advance(closed.unwrap_or(0));
            self.said = End::Closed;
        }
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// Holds no more memory than it must, because its reader waits.
    pub(crate) fn settle(&mut self) {
        if self.data.is_empty() {
            return self.wire.settle();
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = self.slices(&mut slices);
        let waiting = slices[..count].iter().map(|s| s.len()).sum::<usize>();
        if self.wire.is_worth(waiting + self.wire.filled().len()) {
            return;
        }
        let mut kept = Vec::with_capacity(waiting + self.wire.filled().len());
        for slice in &slices[..count] {
            kept.extend_from_slice(slice);
        }
        kept.extend_from_slice(self.wire.filled());
        self.wire = Buffer::of(kept, waiting);
        self.data = Data::default();
        self.data.push(0, waiting, &mut []);
    }

    /// Gives memory back that is not needed any more.
    fn tidy(&mut self) {
        if self.data.is_empty() && (self.wire.is_empty() || self.heard != End::Open) {
            self.wire.clear();
        }
    }
}

impl Data {
    fn is_empty(&self) -> bool {
        self.first == self.end
    }

    fn has_place(&self) -> bool {
        usize::from(self.end) < SLICES
    }

    /// Adds bytes; short ones are moved behind what is there, so that it stays one slice.
    fn push(&mut self, start: usize, end: usize, bytes: &mut [u8]) {
        // A buffer is far smaller than that.
        let (from, to) = (u32::try_from(start).unwrap_or(0), u32::try_from(end).unwrap_or(0));
        if self.first < self.end && end - start <= SHORT {
            let last = &mut self.places[usize::from(self.end) - 1];
            bytes.copy_within(start..end, last.1 as usize);
            last.1 += to - from;
        } else if let Some(place) = self.places.get_mut(usize::from(self.end)) {
            *place = (from, to);
            self.end += 1;
        }
    }

    fn consume(&mut self, mut n: usize) {
        while self.first < self.end {
            let place = &mut self.places[usize::from(self.first)];
            let length = (place.1 - place.0) as usize;
            if n < length {
                place.0 += u32::try_from(n).unwrap_or(0);
                return;
            }
            n -= length;
            self.first += 1;
        }
        (self.first, self.end) = (0, 0);
    }
}
