//! `linkerd-proxy await`: returns when the proxy of this pod is ready. Run by kubelet before the
//! application starts, in an image that has no other program.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    process::ExitCode,
    time::{Duration, Instant},
};

/// How long to wait unless the command line says otherwise.
pub(crate) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// Between two questions. The proxy answers within microseconds.
const PAUSE: Duration = Duration::from_millis(5);
/// For one question, so that a proxy that hangs cannot hold us beyond the bound.
const QUESTION_TIMEOUT: Duration = Duration::from_millis(500);

/// Asks `/ready` until it says yes. At the bound it warns and lets the pod start: TLS is optional.
pub(crate) fn until_ready(listener: SocketAddr, bound: Duration) -> ExitCode {
    let address = local(listener);
    let started = Instant::now();
    while started.elapsed() < bound {
        if is_ready(address) {
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(PAUSE);
    }
    eprintln!("the proxy was not ready within {bound:?}; going on without");
    ExitCode::SUCCESS
}

/// A listener on all addresses is asked on the loopback one.
fn local(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        ip if !ip.is_unspecified() => ip,
        ip if ip.is_ipv4() => Ipv4Addr::LOCALHOST.into(),
        _ => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listener.port())
}

fn is_ready(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, QUESTION_TIMEOUT)?;
        stream.set_read_timeout(Some(QUESTION_TIMEOUT))?;
        stream.write_all(b"GET /ready HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"HTTP/1.1 200")
    };
    // Every error means "not yet"; the bound ends it.
    ask().unwrap_or(false)
}
