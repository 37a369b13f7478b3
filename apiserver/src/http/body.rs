//! Request and response bodies.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;

use api::{Reason, Status};

/// Any error of a transport.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The largest request body that is read, in bytes (upstream's `MaxRequestBodyBytes`).
pub const MAX_REQUEST_BODY: usize = 3 * 1024 * 1024;

/// A body must have come by then (upstream's `--request-timeout`).
const BODY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

/// A request's body, whichever transport it came over.
pub enum ReqBody {
    Empty,
    Stream(UnsyncBoxBody<Bytes, BoxError>),
}

impl ReqBody {
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() { Self::Empty } else { Self::Stream(body.map_err(Into::into).boxed_unsync()) }
    }

    /// The whole body, refused with 413 when it is larger than [`MAX_REQUEST_BODY`], with 504 when it takes too long.
    pub async fn collect(self) -> Result<Bytes, Status> {
        match self {
            Self::Empty => Ok(Bytes::new()),
            body => tokio::time::timeout(BODY_TIMEOUT, body.read()).await.unwrap_or_else(|_| {
                let text = "Timeout: request did not complete within the allotted timeout";
                Err(Status::failure(Reason::Timeout, text))
            }),
        }
    }

    async fn read(self) -> Result<Bytes, Status> {
        let Self::Stream(mut body) = self else { return Ok(Bytes::new()) };
        if body.size_hint().lower() > MAX_REQUEST_BODY as u64 {
            return Err(too_large());
        }
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| Status::bad_request(format!("error reading the request body: {e}")))?;
            let Ok(data) = frame.into_data() else { continue };
            if first.len() + rest.len() + data.len() > MAX_REQUEST_BODY {
                return Err(too_large());
            }
            if first.is_empty() && rest.is_empty() {
                first = data;
            } else {
                if rest.is_empty() {
                    rest.extend_from_slice(&first);
                    first = Bytes::new();
                }
                rest.extend_from_slice(&data);
            }
        }
        Ok(if rest.is_empty() { first } else { rest.freeze() })
    }
}

impl http_body::Body for ReqBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream(body) => body.size_hint(),
        }
    }
}

fn too_large() -> Status {
    let message = format!("Request entity too large: limit is {MAX_REQUEST_BODY}");
    Status::failure(Reason::RequestEntityTooLarge, message)
}

/// A response's body.
pub enum Body {
    /// One piece, or nothing when it was taken.
    Full(Bytes),
    /// Anything that is made while it is sent.
    Stream(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError> + Send>>),
}

impl Body {
    pub fn empty() -> Self {
        Self::Full(Bytes::new())
    }

    pub fn stream<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error = BoxError> + Send + 'static,
    {
        Self::Stream(Box::pin(body))
    }
}

/// Bodies larger than this are not written at once, in bytes.
const AT_ONCE: usize = 64 * 1024;

impl Body {
    /// The body, which keeps `guard` until it was written, or for small ones at least until it is taken.
    pub fn with<G: Send + Unpin + 'static>(self, guard: G) -> Self {
        match self {
            Self::Full(bytes) if bytes.len() <= AT_ONCE => Self::Full(bytes),
            body => Self::stream(Guarded { body, _guard: guard }),
        }
    }
}

/// A body that keeps something as long as it lives.
struct Guarded<G> {
    body: Body,
    _guard: G,
}

impl<G: Unpin> http_body::Body for Guarded<G> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(body) => body.size_hint(),
        }
    }
}

/// Pieces sent one after the other, small ones joined into chunks of up to 64 KiB as they are asked for, so that a
/// large list costs a slow reader's connection one chunk at a time.
pub struct Pieces {
    pieces: std::vec::IntoIter<Bytes>,
    left: u64,
}

const CHUNK: usize = 64 * 1024;

impl Pieces {
    pub fn new(pieces: Vec<Bytes>) -> Self {
        let left = pieces.iter().map(|p| p.len() as u64).sum();
        Self { pieces: pieces.into_iter(), left }
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Some(first) = this.pieces.next() else { return Poll::Ready(None) };
        let next_fits = |pieces: &std::vec::IntoIter<Bytes>, size: usize| {
            pieces.as_slice().first().is_some_and(|p| p.len() + size <= CHUNK)
        };
        let chunk = if first.len() >= CHUNK / 2 || !next_fits(&this.pieces, first.len()) {
            first
        } else {
            let mut chunk = Vec::with_capacity(CHUNK.min(this.left as usize));
            chunk.extend_from_slice(&first);
            while next_fits(&this.pieces, chunk.len()) {
                if let Some(piece) = this.pieces.next() {
                    chunk.extend_from_slice(&piece);
                }
            }
            Bytes::from(chunk)
        };
        this.left -= chunk.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
