//! Event streams on raw sockets, outside of actix.
//!
//! A stream is idle nearly always, and there are very many of them. Kept in actix, each holds a dispatcher and two
//! buffers of 8 KiB, and each frame is copied into one of them. So actix reads its requests through a [`Socket`], and
//! once a handler has answered with a stream, [`carry`] marks the connection. When actix has written the head, the
//! connection is taken out of it: what is left of the stream is its body and a file descriptor, and frames go from the
//! rings to the kernel, all that is ready in one call. Requests that actix has read ahead are dropped with its dispatcher.
//!
//! Over TLS it is the same, with the session between them.
//! Bounded: [`FRAMES_MAX`] frames wait for one socket, and [`BYTES_MAX`] with the last of them begun; the next is not
//! taken from the body until they are written.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Result};
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};

use actix_web::Error;
use actix_web::body::{BodySize, BoxBody, EitherBody, MessageBody};
use actix_web::dev::{Extensions, ServiceRequest, ServiceResponse};
use actix_web::http::ConnectionType;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::middleware::Next;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::task::TaskTracker;

use super::connections::Connection;
use super::transport::Transport;
use crate::http::streams::stream::EVENT_STREAM;

/// Frames handed to the kernel at once, at most.
const FRAMES_MAX: usize = 16;

/// A frame is an HTTP chunk, in three pieces: its length, itself, and a line end.
const PIECES_MAX: usize = 3 * FRAMES_MAX;

/// While this many bytes wait, no frame is added. The kernel is asked for a send buffer of the same size.
const BYTES_MAX: usize = 32 * 1024;

/// A connection, shared between actix and the answer that may take it.
enum Hold {
    /// actix has it.
    Open(Connection),
    /// An answer is a stream. actix has the connection until all it has to say on it is written: the answers to
    /// requests that came before, and the head of the stream.
    Leaving(Connection, Departure),
    /// Taken, or refused when it was accepted.
    Gone,
}

/// What goes with the connection.
struct Departure {
    body: BoxBody,
    tracker: TaskTracker,
    /// Whether actix has written out its head, so that nothing more comes before the body.
    is_last: bool,
}

type SharedConnection = RefCell<Hold>;

/// What actix reads requests from and writes answers to. Once the connection was taken, every read and write fails: an
/// end of file or a successful write would let actix run the requests that it has read ahead, on no connection at all.
pub struct Socket(Rc<SharedConnection>);

impl Socket {
    /// None for a connection that was refused: actix finds it broken.
    pub fn new(connection: Option<Connection>) -> Self {
        Self(Rc::new(RefCell::new(connection.map_or(Hold::Gone, Hold::Open))))
    }

    /// Puts the connection where [`carry`] finds it.
    pub fn tell(&self, extensions: &mut Extensions) {
        extensions.insert(Rc::downgrade(&self.0));
    }

    fn with<T>(&self, then: impl FnOnce(Pin<&mut Transport>) -> Poll<Result<T>>) -> Poll<Result<T>> {
        match &mut *self.0.borrow_mut() {
            Hold::Open(connection) | Hold::Leaving(connection, _) => {
                then(Pin::new(&mut connection.transport))
            }
            Hold::Gone => Poll::Ready(Err(ErrorKind::NotConnected.into())),
        }
    }

    /// Lets the stream go, once all that actix had to write before it is written.
    fn depart(&self) -> bool {
        let mut hold = self.0.borrow_mut();
        match std::mem::replace(&mut *hold, Hold::Gone) {
            Hold::Leaving(connection, Departure { body, tracker, is_last: true }) => {
                let stream = Stream { connection, pending: VecDeque::new(), body: Some(body) };
                actix_web::rt::spawn(tracker.track_future(stream));
                true
            }
            other => {
                *hold = other;
                false
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        self.with(|transport| transport.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.with(|transport| transport.poll_write(cx, bytes))
    }

    /// actix calls this when it has nothing left to write.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.with(|transport| transport.poll_flush(cx)))?;
        if self.depart() {
            cx.waker().wake_by_ref(); // actix must look again, and find that it has no connection
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.with(|transport| transport.poll_shutdown(cx))
    }
}

/// What actix holds in place of the body of a stream. It never has anything to send; that actix asks it means that the
/// head was handed over, and goes out with the next flush.
struct Placeholder(Weak<SharedConnection>);

impl MessageBody for Placeholder {
    type Error = std::io::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let gone = || Poll::Ready(Some(Err(ErrorKind::NotConnected.into())));
        let Some(shared) = self.0.upgrade() else { return gone() };
        match &mut *shared.borrow_mut() {
            Hold::Leaving(_, departure) => departure.is_last = true,
            Hold::Open(_) | Hold::Gone => return gone(),
        }
        Poll::Pending
    }
}

/// The outermost middleware: takes the connection out of actix if the response is a stream.
pub async fn carry<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> std::result::Result<ServiceResponse<EitherBody<B>>, Error> {
    let shared = request.conn_data::<Weak<SharedConnection>>().cloned();
    let mut response = next.call(request).await?;
    let is_stream = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == EVENT_STREAM);
    let Some(shared) = shared.filter(|_| is_stream) else { return Ok(response.map_into_left_body()) };
    let tracker = response.request().app_data::<TaskTracker>().cloned().unwrap_or_default();
    response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    Ok(response.map_body(|_, body| {
        leave(&shared, Departure { body: body.boxed(), tracker, is_last: false });
        EitherBody::right(Placeholder(shared).boxed())
    }))
}

/// On a connection that is gone already the body is dropped, with all that it holds.
fn leave(shared: &Weak<SharedConnection>, departure: Departure) {
    let Some(shared) = shared.upgrade() else { return };
    let mut hold = shared.borrow_mut();
    *hold = match std::mem::replace(&mut *hold, Hold::Gone) {
        Hold::Open(connection) => Hold::Leaving(connection, departure),
        other => other,
    };
}

/// An open stream: a task of its own on the thread that accepted the connection. It ends with its connection, and would
/// need no chunks. But proxies that buffer pass a chunk on when it is whole, and hold back what has none. As actix does,
/// also where the request says HTTP/1.0: that is nginx, which knows chunks.
struct Stream {
    connection: Connection,
    pending: VecDeque<Bytes>,
    /// None when it has ended.
    body: Option<BoxBody>,
}

impl Stream {
    /// Ready when the client is gone. Whatever it sends meanwhile is discarded.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; 256];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = ready!(pin!(&mut self.connection.transport).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }

    /// Takes ready frames from the body, up to the bounds.
    fn fill(&mut self, cx: &mut Context<'_>) {
        let mut waiting: usize = self.pending.iter().map(Bytes::len).sum();
        while self.pending.len() <= PIECES_MAX - 3 && waiting < BYTES_MAX {
            let Some(body) = &mut self.body else { return };
            match pin!(body).poll_next(cx) {
                Poll::Ready(Some(Ok(bytes))) if bytes.is_empty() => {} // an empty chunk would end the response
                Poll::Ready(Some(Ok(bytes))) => {
                    waiting += bytes.len();
                    let length = format!("{:x}\r\n", bytes.len()).into();
                    self.pending.extend([length, bytes, Bytes::from_static(b"\r\n")]);
                }
                Poll::Ready(None) => {
                    self.body = None;
                    self.pending.push_back(Bytes::from_static(b"0\r\n\r\n"));
                }
                Poll::Ready(Some(Err(_))) => self.body = None,
                Poll::Pending => return,
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let mut slices = [IoSlice::new(&[]); PIECES_MAX];
        let count =
            slices.iter_mut().zip(&self.pending).map(|(slice, bytes)| *slice = IoSlice::new(bytes)).count();
        let written = ready!(pin!(&mut self.connection.transport).poll_write_vectored(cx, &slices[..count]))?;
        self.advance(written);
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(bytes) = self.pending.front_mut() {
            if written < bytes.len() {
                return bytes.advance(written);
            }
            written -= bytes.len();
            self.pending.pop_front();
        }
    }
}

impl Future for Stream {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.poll_gone(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            this.fill(cx);
            if this.pending.is_empty() {
                // TLS may hold back what was written.
                if ready!(pin!(&mut this.connection.transport).poll_flush(cx)).is_err() {
                    return Poll::Ready(());
                }
                if this.body.is_some() {
                    return Poll::Pending;
                }
                return pin!(&mut this.connection.transport).poll_shutdown(cx).map(drop);
            }
            if ready!(this.poll_write(cx)).is_err() {
                return Poll::Ready(());
            }
        }
    }
}
