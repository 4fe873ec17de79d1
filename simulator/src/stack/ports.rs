//! Loopback ports that stay ours while their process is dead.
//!
//! A port that is only looked up and released again can be taken by any outgoing connection before the process
//! listens on it, or while it is being restarted. So each port is kept by a bound socket that never listens: with
//! `SO_REUSEADDR` on both sides the process can still bind and listen beside it, while the kernel gives the port to
//! nobody else. A connection to it is refused as long as the process does not listen.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

use super::error::{IoContext, StackError};

/// A loopback port reserved for the life of this value.
#[derive(Debug)]
pub struct ReservedPort {
    address: SocketAddr,
    _socket: TcpSocket,
}

impl ReservedPort {
    /// Reserves a free port.
    ///
    /// # Errors
    /// When the system has none.
    pub fn free() -> Result<Self, StackError> {
        let reserve = || {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
            Ok(Self { address: socket.local_addr()?, _socket: socket })
        };
        reserve().context_io(|| "reserving a loopback port".to_owned())
    }

    /// Its number.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn a_reserved_port_refuses_until_its_process_listens_and_again_after_it() {
        let reserved = ReservedPort::free().unwrap();
        for _ in 0..3 {
            let refused = TcpStream::connect(reserved.address()).await.unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
            let listener = TcpListener::bind(reserved.address()).await.unwrap();
            let client = TcpStream::connect(reserved.address()).await.unwrap();
            let (server, _) = listener.accept().await.unwrap();
            // The server's end closes first, which leaves the port in TIME_WAIT, as a killed process does.
            drop(server);
            drop(client);
        }
    }

    #[test]
    fn reserved_ports_differ() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let ports: Vec<ReservedPort> = (0..64).map(|_| ReservedPort::free().unwrap()).collect();
        let mut numbers: Vec<u16> = ports.iter().map(ReservedPort::port).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 64);
    }
}
