//! Bodies: frames of data and trailers, handed on as they come.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::server::InFlight;

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// HTTP/1, or a server's side.
    #[error(transparent)]
    Hyper(#[from] hyper::Error),
    /// HTTP/2.
    #[error(transparent)]
    H2(#[from] h2::Error),
    /// It took longer than its route allows.
    #[error("the response took too long")]
    TooLong,
}

/// A body that comes in.
#[derive(Debug, Default)]
pub enum InBody {
    /// None.
    #[default]
    Empty,
    /// By hyper.
    Hyper(Incoming),
    /// By the h2 crate.
    H2(h2::RecvStream, bool),
}

impl Body for InBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Hyper(incoming) => {
                Poll::Ready(ready!(Pin::new(incoming).poll_frame(cx)).map(|frame| frame.map_err(BodyError::from)))
            }
            Self::H2(stream, data_ended) => {
                while !*data_ended {
                    match ready!(stream.poll_data(cx)) {
                        Some(Ok(data)) if data.is_empty() => {}
                        Some(Ok(data)) => {
                            // Read on when the other end has room: it polls only then.
                            stream.flow_control().release_capacity(data.len())?;
                            return Poll::Ready(Some(Ok(Frame::data(data))));
                        }
                        Some(Err(e)) => return Poll::Ready(Some(Err(e.into()))),
                        None => *data_ended = true,
                    }
                }
                let trailers = ready!(stream.poll_trailers(cx))?;
                Poll::Ready(trailers.map(|t| Ok(Frame::trailers(t))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Hyper(incoming) => incoming.is_end_stream(),
            Self::H2(stream, _) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Hyper(incoming) => incoming.size_hint(),
            Self::H2(stream, _) if stream.is_end_stream() => SizeHint::with_exact(0),
            Self::H2(..) => SizeHint::default(),
        }
    }
}

/// A request's body on its way out. A clone is the same body: what one sent, another can't send again, and
/// [`RequestBody::is_whole`] says whether anything was.
#[derive(Clone, Debug, Default)]
pub struct RequestBody(Option<Rc<Source>>);

#[derive(Debug)]
struct Source {
    body: RefCell<InBody>,
    touched: Cell<bool>,
    ended: Cell<bool>,
}

impl RequestBody {
    /// Of what came in.
    pub fn new(body: InBody) -> Self {
        if body.is_end_stream() {
            return Self(None);
        }
        Self(Some(Rc::new(Source { body: RefCell::new(body), touched: Cell::new(false), ended: Cell::new(false) })))
    }

    /// Whether it can be sent from its start.
    pub fn is_whole(&self) -> bool {
        self.0.as_ref().is_none_or(|s| !s.touched.get())
    }

    /// Whether all of it was sent.
    pub fn is_sent(&self) -> bool {
        self.0.as_ref().is_none_or(|s| s.ended.get())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(source) = &self.0 else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *source.body.borrow_mut()).poll_frame(cx));
        source.touched.set(true);
        if frame.is_none() || source.body.borrow().is_end_stream() {
            source.ended.set(true);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|s| s.ended.get() || s.body.borrow().is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or(SizeHint::with_exact(0), |s| s.body.borrow().size_hint())
    }
}

/// What happens when a response's body ends.
pub trait OnEnd {
    /// Trailers, the last frame there can be.
    fn trailers(&mut self, trailers: &HeaderMap);
    /// It ended well; else the hook is dropped without.
    fn ended(&mut self);
}

/// A response's body on its way out.
pub struct ResponseBody {
    body: Inner,
    hook: Option<Box<dyn OnEnd>>,
    deadline: Option<Pin<Box<tokio::time::Sleep>>>,
    in_flight: Option<InFlight>,
}

enum Inner {
    Own(Bytes),
    In(InBody),
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}

impl ResponseBody {
    /// Of our own.
    pub fn own(bytes: impl Into<Bytes>) -> Self {
        Self { body: Inner::Own(bytes.into()), hook: None, deadline: None, in_flight: None }
    }

    /// Handed on; it must end by `deadline`.
    pub fn handed_on(body: InBody, deadline: Option<tokio::time::Instant>) -> Self {
        let deadline = deadline.filter(|_| !body.is_end_stream());
        let deadline = deadline.map(|d| Box::pin(tokio::time::sleep_until(d)));
        Self { body: Inner::In(body), hook: None, deadline, in_flight: None }
    }

    /// The request is in flight until this body is gone.
    pub(super) fn keep(mut self, in_flight: InFlight) -> Self {
        self.in_flight = Some(in_flight);
        self
    }

    /// Tells `hook` of its end.
    #[must_use]
    pub fn on_end(mut self, mut hook: Box<dyn OnEnd>) -> Self {
        if self.is_end_stream() {
            hook.ended();
        } else {
            self.hook = Some(hook);
        }
        self
    }

    fn end(&mut self) {
        if let Some(mut hook) = self.hook.take() {
            hook.ended();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.deadline.as_mut().is_some_and(|d| d.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Some(Err(BodyError::TooLong)));
        }
        let frame = match &mut this.body {
            Inner::Own(bytes) if bytes.is_empty() => None,
            Inner::Own(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Inner::In(body) => ready!(Pin::new(body).poll_frame(cx)),
        };
        match &frame {
            None => this.end(),
            Some(Ok(frame)) => {
                if let (Some(trailers), Some(hook)) = (frame.trailers_ref(), &mut this.hook) {
                    hook.trailers(trailers);
                }
                if this.is_end_stream() {
                    this.end();
                }
            }
            Some(Err(_)) => drop(this.hook.take()),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Inner::Own(bytes) => bytes.is_empty(),
            Inner::In(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Inner::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::In(body) => body.size_hint(),
        }
    }
}
