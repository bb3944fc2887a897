//! A connection to the dashboard of `linkerd-api`, by port-forward. Entry: [`Upstream::ask`].
//! It is kept for the next request, and opened anew, to a pod that is ready then, when it has ended.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header::CONNECTION,
};
use hyper_util::rt::TokioIo;
use linkerd_names::ports;
use tokio_util::task::AbortOnDropHandle;

use super::serve::Shared;
use crate::control_plane::{self, Forward, TIMEOUT, causes};

/// `linkerd-api` has given up a question by then, and has said so.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The connection, when there is one that nobody uses.
#[derive(Default)]
pub(super) struct Upstream(Mutex<Option<Connection>>);

struct Connection {
    sender: SendRequest<Incoming>,
    /// Drives the connection; its value is how that ended.
    driver: AbortOnDropHandle<String>,
    pod: String,
}

impl Upstream {
    /// Passes a request on and returns the answer.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub(super) async fn ask(
        &self,
        mut request: Request<Incoming>,
        shared: &Shared,
    ) -> Result<Response<Incoming>, String> {
        // What it says is about the browser's connection.
        request.headers_mut().remove(CONNECTION);
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let kept = match kept {
            Some(kept) => kept.alive().await,
            None => None,
        };
        let mut connection = match kept {
            Some(alive) => alive,
            None => Connection::open(shared).await?,
        };
        let sent = connection.sender.try_send_request(request);
        let sent = tokio::time::timeout(ANSWER_TIMEOUT, sent).await;
        let answer = match sent.map_err(|_| connection.no_answer())? {
            Ok(answer) => answer,
            Err(mut error) => match error.take_message() {
                // It ended before the request was on its way: the request is as good as new.
                Some(unsent) => {
                    connection = Connection::open(shared).await?;
                    let sent = connection.sender.send_request(unsent);
                    let sent = tokio::time::timeout(ANSWER_TIMEOUT, sent).await;
                    match sent.map_err(|_| connection.no_answer())? {
                        Ok(answer) => answer,
                        Err(error) => return Err(connection.end(&error).await),
                    }
                }
                None => return Err(connection.end(error.error()).await),
            },
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        let (mut head, body) = answer.into_parts();
        head.headers.remove(CONNECTION);
        Ok(Response::from_parts(head, body))
    }
}

impl Connection {
    async fn open(shared: &Shared) -> Result<Self, String> {
        let namespace = &shared.global.linkerd_namespace;
        let forward = control_plane::forward(&shared.kubernetes, namespace, ports::DASHBOARD).await;
        let Forward {
            pod,
            stream,
            problem,
        } = forward.map_err(|error| error.to_string())?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) =
            handshake.map_err(|error| format!("pod {pod}: {}", causes(&error)))?;
        let driver = tokio::spawn(async move {
            tokio::select! {
                biased;
                Some(problem) = problem => problem.trim().to_owned(),
                ended = connection => match ended {
                    Ok(()) => "the connection has ended".to_owned(),
                    Err(error) => causes(&error),
                },
            }
        });
        Ok(Self {
            sender,
            driver: AbortOnDropHandle::new(driver),
            pod,
        })
    }

    /// None when it has ended.
    async fn alive(mut self) -> Option<Self> {
        let ready = tokio::time::timeout(TIMEOUT, self.sender.ready()).await;
        matches!(ready, Ok(Ok(()))).then_some(self)
    }

    fn no_answer(&self) -> String {
        let seconds = ANSWER_TIMEOUT.as_secs();
        format!("pod {}: no answer within {seconds} s", self.pod)
    }

    /// Why the connection has ended: the pod's node knows better than the connection.
    async fn end(self, error: &hyper::Error) -> String {
        let Self {
            sender,
            driver,
            pod,
        } = self;
        drop(sender);
        let ended = tokio::time::timeout(TIMEOUT, driver).await;
        let reason = ended.ok().and_then(Result::ok);
        format!("pod {pod}: {}", reason.unwrap_or_else(|| causes(error)))
    }
}
