//! gRPC of the proxy itself, over its own HTTP/2: [`Channel`] asks the control plane, [`answer`] answers on
//! the control port. tonic knows the messages.

use std::{
    convert::Infallible,
    fmt::Display,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tonic::body::Body;
use tower::Service;

use crate::http::http2::{Fault, Http2, Sink, Source};

/// Sends requests on one connection.
#[derive(Clone)]
pub(crate) struct Channel(pub(crate) Http2);

impl Service<Request<Body>> for Channel {
    type Response = Response<Source>;
    type Error = Fault;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Fault>> + Send>>;

    /// A connection that has ended says so when it is asked.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let connection = self.0.lend();
        Box::pin(async move {
            let (head, mut body) = request.into_parts();
            let head = Request::from_parts(head, ());
            let (response, mut to, _until_answered) = connection.send(head, false)?;
            // Questions are short, and have no trailers: they do not wait for room.
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| io::Error::other(error.to_string()))?;
                if let Ok(data) = frame.into_data() {
                    to.send_data(data, false)?;
                }
            }
            to.send_data(Bytes::new(), true)?;
            Ok(response.await?.map(Source::Http2))
        })
    }
}

/// Answers a request with what `service` says, until all is said or the client does not listen any more.
///
/// # Errors
/// Why not all of it was said.
pub(crate) async fn answer<S, B>(
    mut service: S,
    request: Request<RecvStream>,
    mut reply: SendResponse<Bytes>,
) -> Result<(), Fault>
where
    S: Service<Request<Source>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Data = Bytes, Error: Display>,
{
    let Ok(response) = service.call(request.map(Source::Http2)).await;
    let (head, body) = response.into_parts();
    let mut body = pin!(body);
    let is_end = body.is_end_stream();
    let to = reply.send_response(Response::from_parts(head, ()), is_end)?;
    if is_end {
        return Ok(());
    }
    let mut to = Sink::Http2(to);
    loop {
        let next = poll_fn(|cx| match body.as_mut().poll_frame(cx) {
            Poll::Pending => to.poll_reset(cx).map(Err),
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
        });
        let Some(frame) = next.await? else {
            return to.end();
        };
        let frame = frame.map_err(|error| io::Error::other(error.to_string()))?;
        match frame.into_data() {
            Ok(data) => {
                poll_fn(|cx| to.poll_room(cx, data.len())).await?;
                to.data(data, false)?;
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                return to.trailers(trailers);
            }
        }
    }
}
