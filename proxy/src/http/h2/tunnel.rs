//! A stream as bytes both ways: what CONNECT makes of it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{ClientStream, ServerStream};
use crate::http::channel::{Broken, Channel, Piece};
use crate::stream::end::{End, Kept};
use crate::upstream::Sender;

/// Reads and writes the bodies of an exchange. The end of writing ends its own direction alone. Trailers are an end.
#[derive(Debug)]
pub struct Tunnel<C>(C);

impl<C: Channel> Tunnel<C> {
    /// Of a stream whose heads are exchanged.
    pub fn new(channel: C) -> Self {
        Self(channel)
    }

    /// The stream.
    pub fn channel(&mut self) -> &mut C {
        &mut self.0
    }
}

impl<C: Channel + Unpin> AsyncRead for Tunnel<C> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let channel = &mut self.get_mut().0;
        let n = match ready!(channel.poll_piece(cx)).map_err(error)? {
            Piece::Data { bytes, .. } => {
                let n = bytes.len().min(buf.remaining());
                buf.put_slice(bytes.get(..n).unwrap_or_default());
                n
            }
            Piece::Trailers(_) | Piece::End => 0,
        };
        if n > 0 {
            channel.consume(n);
        }
        Poll::Ready(Ok(()))
    }
}

impl<C: Channel + Unpin> AsyncWrite for Tunnel<C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().0.poll_data(cx, buf, false).map_err(error)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().0.poll_flush(cx).map_err(error)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let channel = &mut self.get_mut().0;
        channel.finish(None).map_err(error)?;
        channel.poll_flush(cx).map_err(error)
    }
}

/// What came is taken from where it lies.
macro_rules! end {
    ($stream:ty) => {
        impl End for Tunnel<$stream> {
            fn poll_fill(&mut self, cx: &mut Context<'_>, _: &mut Kept) -> Poll<io::Result<()>> {
                ready!(self.0.poll_piece(cx)).map_err(error)?;
                Poll::Ready(Ok(()))
            }

            fn slices<'a>(&'a self, _: &'a Kept, to: &mut [IoSlice<'a>]) -> usize {
                match to.first_mut() {
                    Some(first) if !self.0.held().is_empty() => {
                        *first = IoSlice::new(self.0.held());
                        1
                    }
                    _ => 0,
                }
            }

            fn taken(&mut self, _: &mut Kept, n: usize) {
                self.0.consume(n);
            }

            fn settle(&mut self, _: &mut Kept) {}

            fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
                self.0.poll_room(cx)
            }
        }
    };
}
end!(ClientStream);
end!(ServerStream);

impl<C: Channel> End for Tunnel<&mut C> {}
impl End for Tunnel<Sender> {}

fn error(why: Broken) -> io::Error {
    let kind = match why {
        Broken::Gone => io::ErrorKind::BrokenPipe,
        Broken::Reset => io::ErrorKind::ConnectionReset,
        Broken::Refused => io::ErrorKind::ConnectionRefused,
        Broken::Slow => io::ErrorKind::TimedOut,
        Broken::Malformed(_) | Broken::TooLarge => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, why)
}
