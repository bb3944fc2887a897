//! The body of a request on its way to its endpoint, and the client behind it. Entry: [`Upload`].

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::AsyncWrite;
use tracing::debug;

use super::pump::{Broken, Pump};
use crate::io::Socket;

/// The body on its way to the endpoint.
pub(super) struct Upload {
    pub(super) pump: Pump,
    /// The endpoint takes no more of it; it may still answer.
    pub(super) refused: bool,
    /// The client has ended its side.
    client_ended: bool,
    /// The endpoint was told so.
    pub(super) end_told: bool,
}

impl Upload {
    pub(super) fn new(pump: Pump) -> Self {
        Self {
            pump,
            refused: false,
            client_ended: false,
            end_told: false,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.refused || self.pump.is_done()
    }

    pub(super) fn is_whole(&self) -> bool {
        !self.refused && self.pump.is_done()
    }

    /// Goes on with it; fails when the client breaks off or talks nonsense.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Socket,
        server: &mut Socket,
    ) -> Result<(), Broken> {
        if self.is_over() {
            return Ok(());
        }
        match self.pump.poll(cx, client, server) {
            Poll::Ready(Err(Broken::Receiver(error))) => {
                debug!(%error, "an endpoint takes no more of a request");
                self.refused = true;
                Ok(())
            }
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    /// Once it is over: keeps up to `ahead_bytes_max` of what the client says next, and tells the endpoint when
    /// that is nothing. What then becomes of the answer is for the endpoint to decide, as without a proxy.
    ///
    /// # Errors
    /// The client has broken off.
    pub(super) fn poll_client(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Socket,
        server: &mut Socket,
        ahead_bytes_max: usize,
    ) -> io::Result<()> {
        if !self.is_over() {
            return Ok(());
        }
        while !self.client_ended
            && client.seen().len() < ahead_bytes_max
            && let Poll::Ready(read) = client.poll_fill(cx)
        {
            self.client_ended = read? == 0;
        }
        if self.is_last(client)
            && !self.end_told
            && let Poll::Ready(told) = Pin::new(server).poll_shutdown(cx)
        {
            self.end_told = true;
            if let Err(error) = told {
                debug!(%error, "an endpoint takes no more of a request");
            }
        }
        Ok(())
    }

    /// Whether the client has nothing more to say.
    pub(super) fn is_last(&self, client: &Socket) -> bool {
        self.client_ended && client.seen().is_empty()
    }
}
