//! Finds a peer of HTTP/2 that has vanished without a word. Entry: [`KeepAlive::poll`].

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::debug;

/// Asks a peer now and then whether it is there.
pub(super) struct KeepAlive {
    pings: PingPong,
    interval: Duration,
    timeout: Duration,
    timer: Pin<Box<Sleep>>,
    /// Something has come since this was looked at.
    heard: Arc<AtomicBool>,
    asked: bool,
}

impl KeepAlive {
    /// Asks after an `interval` in which nothing was heard; an answer may take `timeout`, and longer while
    /// something else comes, behind which it may wait.
    pub(super) fn new(
        pings: PingPong,
        interval: Duration,
        timeout: Duration,
        heard: Arc<AtomicBool>,
    ) -> Self {
        Self {
            pings,
            interval,
            timeout,
            timer: Box::pin(sleep_until(Instant::now() + interval)),
            heard,
            asked: false,
        }
    }

    /// Ready once an answer has not come. To be polled with the connection; asks only while `is_needed`.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, is_needed: bool) -> Poll<()> {
        if self.asked && self.pings.poll_pong(cx).is_ready() {
            self.asked = false;
            // The answer itself is no reason to ask less often.
            self.heard.store(false, Relaxed);
            self.wait(self.interval);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            match (self.asked, self.heard.swap(false, Relaxed)) {
                (true, false) => return Poll::Ready(()),
                (true, true) => {
                    self.wait(self.timeout);
                    continue;
                }
                (false, heard) if heard || !is_needed => {
                    self.wait(self.interval);
                    continue;
                }
                (false, _) => {}
            }
            match self.pings.send_ping(Ping::opaque()) {
                Ok(()) => {
                    self.asked = true;
                    // So that the answer wakes this task.
                    if self.pings.poll_pong(cx).is_ready() {
                        self.asked = false;
                    }
                    self.wait(self.timeout);
                }
                // The connection itself tells what is wrong.
                Err(error) => {
                    debug!(%error, "a peer cannot be asked");
                    self.wait(self.interval);
                }
            }
        }
        Poll::Pending
    }

    fn wait(&mut self, period: Duration) {
        self.timer.as_mut().reset(Instant::now() + period);
    }
}
