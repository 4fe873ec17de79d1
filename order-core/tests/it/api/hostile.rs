//! Clients that break the rules of HTTP, written to the socket byte by byte.

mod framing;
mod limits;
mod noise;
mod paths;

use super::{ApiWorld, Customer};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Longest wait for what must come.
const WAIT: Duration = Duration::from_secs(20);

/// Most bytes that one read takes.
const PART_LEN: usize = 4096;

/// A connection.
struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug)]
struct Raw {
    status: u16,
    head: String,
    body: String,
}

impl Raw {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn ends_the_connection(&self) -> bool {
        self.head.to_ascii_lowercase().contains("\r\nconnection: close")
    }
}

impl Wire {
    async fn to(addr: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(addr).await.unwrap(), unread: Vec::new() }
    }

    /// From another address of this machine.
    async fn from(source: &str, addr: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(source.parse().unwrap()).unwrap();
        Self { stream: socket.connect(addr).await.unwrap(), unread: Vec::new() }
    }

    /// Sends; the other side may have hung up already.
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _hung_up = self.stream.write_all(bytes.as_ref()).await;
    }

    async fn read_more(&mut self) -> bool {
        let mut part = [0; PART_LEN];
        let read = tokio::time::timeout(WAIT, self.stream.read(&mut part))
            .await
            .unwrap_or_else(|_| panic!("neither an answer nor the end"));
        let len = read.unwrap_or(0);
        self.unread.extend_from_slice(&part[..len]);
        len > 0
    }

    /// The next answer, or none when the other side hung up before one was whole.
    async fn answer(&mut self) -> Option<Raw> {
        let head_len = loop {
            match self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None if !self.read_more().await => return None,
                None => {}
            }
        };
        let head = String::from_utf8(self.unread.drain(..head_len).collect()).unwrap();
        let length = head
            .to_ascii_lowercase()
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ").map(|length| length.parse::<usize>().unwrap()));
        let length = length.unwrap_or(0);
        while self.unread.len() < length {
            if !self.read_more().await {
                return None;
            }
        }
        let body = String::from_utf8(self.unread.drain(..length).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Some(Raw { status, head, body })
    }

    /// Every answer until the other side hangs up.
    async fn all_answers(mut self) -> Vec<Raw> {
        let mut answers = Vec::new();
        while let Some(answer) = self.answer().await {
            answers.push(answer);
        }
        answers
    }
}

/// Sends once and reads until the end.
async fn exchange(addr: SocketAddr, bytes: impl AsRef<[u8]>) -> Vec<Raw> {
    let mut wire = Wire::to(addr).await;
    wire.send(bytes).await;
    wire.all_answers().await
}

/// A request with the customer's key. `lines` end in CRLF each.
fn request(customer: &Customer, line: &str, lines: &str, body: &str) -> String {
    format!("{line}\r\nhost: api\r\n{}{lines}\r\n{body}", customer.head_lines())
}

/// A customer with one open order, and the order's id.
async fn customer_with_order(world: &ApiWorld) -> (Customer, String) {
    let customer = world.customer("1000").await;
    let placed = customer.post(&super::buy("mine", "1", "1")).await;
    let id = placed.id().to_owned();
    (customer, id)
}

/// No cancel was asked for, and there is still the one order.
async fn nothing_changed(world: &ApiWorld) {
    assert_eq!(world.count("select count(*) from orders").await, 1);
    assert_eq!(world.count("select count(*) from orders where cancel_requests > 0").await, 0);
    world.audit().await;
}
