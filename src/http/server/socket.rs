//! Event streams on raw sockets, outside of actix.
//!
//! There are very many streams, and nearly all of them are idle. In actix, each would hold a dispatcher and
//! two buffers of 8 KiB, and each frame would be copied into one of these. So actix reads its requests
//! through a [`Socket`], and once a handler has answered with a stream, [`carry`] takes the connection out of
//! it. What is left of the stream is its body and a file descriptor. Frames go from the rings to the kernel,
//! up to [`FRAMES_MAX`] in one call.
//!
//! Over TLS and HTTP/2 the connection is not plain, so nothing is taken: there a stream is a body like any
//! other. Bounded by back-pressure: at most [`FRAMES_MAX`] frames wait for a socket, and no frame is taken
//! from the body while [`BYTES_MAX`] bytes wait.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Write;
use std::io::{IoSlice, Result};
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use actix_web::Error;
use actix_web::HttpResponse;
use actix_web::body::{BoxBody, EitherBody, MessageBody};
use actix_web::dev::{Extensions, ServiceRequest, ServiceResponse};
use actix_web::http::ConnectionType;
use actix_web::http::header::{CONTENT_TYPE, HttpDate};
use actix_web::middleware::Next;
use actix_web::rt::net::TcpStream;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::task::TaskTracker;

use super::connections::Connection;
use crate::http::streams::stream::EVENT_STREAM;

/// Frames handed to the kernel at once, at most.
const FRAMES_MAX: usize = 16;

/// A frame is an HTTP chunk, in three pieces: its length, itself, and a line end.
const PIECES_MAX: usize = 3 * FRAMES_MAX;

/// While this many bytes wait, no frame is added. The kernel is asked for a send buffer of the same size.
const BYTES_MAX: usize = 32 * 1024;

type SharedConnection = RefCell<Option<Connection>>;

/// The connection as actix sees it. Once the connection is taken, reads find its end, and writes are
/// discarded.
pub struct Socket(Rc<SharedConnection>);

impl Socket {
    /// None for a connection that was refused: actix finds it closed.
    pub fn new(connection: Option<Connection>) -> Self {
        Self(Rc::new(RefCell::new(connection)))
    }

    /// Puts the connection where [`carry`] finds it.
    pub fn tell(&self, extensions: &mut Extensions) {
        extensions.insert(Rc::downgrade(&self.0));
    }

    fn with<T>(&self, gone: T, then: impl FnOnce(Pin<&mut TcpStream>) -> T) -> T {
        match self.0.borrow_mut().as_mut() {
            Some(connection) => then(Pin::new(&mut connection.tcp)),
            None => gone,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        self.with(Poll::Ready(Ok(())), |tcp| tcp.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.with(Poll::Ready(Ok(bytes.len())), |tcp| tcp.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.with(Poll::Ready(Ok(())), |tcp| tcp.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.with(Poll::Ready(Ok(())), |tcp| tcp.poll_shutdown(cx))
    }
}

/// The outermost middleware: takes the connection out of actix if the response is a stream.
pub async fn carry<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> std::result::Result<ServiceResponse<EitherBody<B>>, Error> {
    let shared = request.conn_data::<Weak<SharedConnection>>().cloned();
    let response = next.call(request).await?;
    let is_stream = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == EVENT_STREAM);
    let taken = shared.filter(|_| is_stream).and_then(|shared| shared.upgrade()?.take());
    let Some(connection) = taken else { return Ok(response.map_into_left_body()) };
    let (request, response) = response.into_parts();
    let pending = VecDeque::from([head(&response)]);
    let tracker = request.app_data::<TaskTracker>().cloned().unwrap_or_default();
    let stream = Stream { connection, pending, body: Some(response.into_body().boxed()) };
    actix_web::rt::spawn(tracker.track_future(stream));
    let mut nothing = HttpResponse::new(actix_web::http::StatusCode::OK);
    nothing.head_mut().set_connection_type(ConnectionType::Close);
    Ok(ServiceResponse::new(request, nothing).map_into_right_body())
}

/// The head of the response. A stream ends with its connection, so it would need no chunked encoding. But a
/// proxy that buffers forwards a chunk when it is complete, and holds back a body without chunks. Chunked
/// also if the request says HTTP/1.0, as in actix: that is nginx, which understands chunks.
fn head<B>(response: &HttpResponse<B>) -> Bytes {
    let mut head = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
    for (name, value) in response.headers() {
        head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    let mut last = String::from("transfer-encoding: chunked\r\n");
    let _ = write!(last, "connection: close\r\ndate: {}\r\n\r\n", HttpDate::from(SystemTime::now()));
    head.extend(last.into_bytes());
    head.into()
}

/// An open stream: a task of its own on the thread that accepted the connection.
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
            let read = ready!(pin!(&mut self.connection.tcp).poll_read(cx, &mut buffer));
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
        let written = ready!(pin!(&mut self.connection.tcp).poll_write_vectored(cx, &slices[..count]))?;
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
                if this.body.is_some() {
                    return Poll::Pending;
                }
                return pin!(&mut this.connection.tcp).poll_shutdown(cx).map(drop);
            }
            if ready!(this.poll_write(cx)).is_err() {
                return Poll::Ready(());
            }
        }
    }
}
