//! Bodies that nobody reads to their end.
//!
//! When a handler has answered and dropped a body in chunks, actix goes on reading it, however long that takes, to keep
//! the connection for the next request. Here such a body is kept until its answer is sent: for actix it is then a body
//! that is still unread, and it closes the connection a second after the answer, as it does after one with a length.
//!
//! Bounded: actix stops reading at 32 KiB that wait.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, EitherBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::{InternalError, PayloadError};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage};
use bytes::Bytes;
use futures_util::Stream;

/// A body of a request, held by its handler and by its answer.
#[derive(Clone)]
struct Shared(Rc<RefCell<Payload>>);

impl Stream for Shared {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_next(cx)
    }
}

/// An answer's body, with the request's.
struct Holding {
    body: BoxBody,
    _unread: Shared,
}

impl MessageBody for Holding {
    type Error = Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        Pin::new(&mut self.body)
            .poll_next(cx)
            .map_err(|error| actix_web::error::ErrorInternalServerError(error.to_string()))
    }
}

/// Wraps everything else.
pub async fn hold<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    if !request.chunked().unwrap_or(false) {
        return next.call(request).await.map(ServiceResponse::map_into_left_body);
    }
    let unread = Shared(Rc::new(RefCell::new(request.take_payload())));
    request.set_payload(Payload::Stream { payload: Box::pin(unread.clone()) });
    let holding = |body: BoxBody| Holding { body, _unread: unread }.boxed();
    match next.call(request).await {
        Ok(response) => Ok(response.map_body(|_, body| EitherBody::right(holding(body.boxed())))),
        Err(error) => {
            let response = error.error_response().map_body(|_, body| holding(body));
            Err(InternalError::from_response(error, response).into())
        }
    }
}
