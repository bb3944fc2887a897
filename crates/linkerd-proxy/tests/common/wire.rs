//! A piece of wire that remembers what went over it.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

#[derive(Clone)]
pub struct Wire {
    pub address: SocketAddr,
    seen: Arc<parking_lot::Mutex<Vec<u8>>>,
    connections: Arc<parking_lot::Mutex<usize>>,
    /// What goes over it now.
    open: Arc<parking_lot::Mutex<CancellationToken>>,
}

/// Leads to `to`.
pub async fn to(to: SocketAddr) -> Wire {
    at("127.0.0.3", to).await
}

/// Leads from the address `ip` to `to`.
pub async fn at(ip: &str, to: SocketAddr) -> Wire {
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let wire = Wire {
        address: listener.local_addr().unwrap(),
        seen: Arc::default(),
        connections: Arc::default(),
        open: Arc::default(),
    };
    let taps = wire.clone();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            *taps.connections.lock() += 1;
            let server = TcpStream::connect(to).await.unwrap();
            let (client_read, client_write) = client.into_split();
            let (server_read, server_write) = server.into_split();
            let open = taps.open.lock().clone();
            let there = carry(client_read, server_write, taps.seen.clone());
            let back = carry(server_read, client_write, taps.seen.clone());
            tokio::spawn(open.clone().run_until_cancelled_owned(there));
            tokio::spawn(open.run_until_cancelled_owned(back));
        }
    });
    wire
}

impl Wire {
    pub fn carried(&self, text: &str) -> bool {
        self.seen
            .lock()
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    }

    pub fn bytes(&self) -> usize {
        self.seen.lock().len()
    }

    /// Breaks every connection that goes over it.
    pub fn cut(&self) {
        std::mem::take(&mut *self.open.lock()).cancel();
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock()
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    seen: Arc<parking_lot::Mutex<Vec<u8>>>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        seen.lock().extend_from_slice(&buffer[..n]);
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// Leads to `to`, and delivers the first 4 kB one byte at a time.
pub async fn slow_to(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.4:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(to).await.unwrap();
            server.set_nodelay(true).unwrap();
            let (mut client_read, client_write) = client.into_split();
            let (server_read, mut server_write) = server.into_split();
            tokio::spawn(carry(server_read, client_write, Arc::default()));
            tokio::spawn(async move {
                for _ in 0..4096 {
                    let Ok(byte) = client_read.read_u8().await else {
                        break;
                    };
                    if server_write.write_all(&[byte]).await.is_err() {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
                carry(client_read, server_write, Arc::default()).await;
            });
        }
    });
    address
}
