//! One keep-alive connection to the order API.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use uuid::Uuid;

use crate::drill::trader::Placed;

/// How long a call may take; only a server that hangs takes so long.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// The largest answer that is read.
const ANSWER_LEN_MAX: usize = 64 * 1024;
const HEAD_END: &[u8] = b"\r\n\r\n";
/// An order's id is the first field of its entity; the fields after it are not looked at.
const ID_FIELD: &str = "\"id\":\"";

/// A connection that is opened again when it breaks.
#[derive(Debug)]
pub(super) struct Connection {
    address: String,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
    filled: usize,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// The system's.
    pub(super) async fn open(address: &str) -> io::Result<Self> {
        let stream = connect(address).await?;
        Ok(Self { address: address.to_owned(), stream: Some(stream), buffer: vec![0; ANSWER_LEN_MAX], filled: 0 })
    }

    /// Posts one request and reads its answer.
    pub(super) async fn post(&mut self, request: &[u8]) -> Placed {
        let answer = timeout(CALL_LIMIT, self.exchange(request)).await;
        match answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(placed) => placed,
            Err(error) => {
                // What is left of a broken exchange must not be taken for the next answer.
                self.stream = None;
                Placed::Unknown(error.to_string())
            }
        }
    }

    async fn exchange(&mut self, request: &[u8]) -> io::Result<Placed> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(&self.address).await?,
        };
        stream.write_all(request).await?;
        self.filled = 0;
        loop {
            let room = self.buffer.get_mut(self.filled..).filter(|room| !room.is_empty());
            let room = room.ok_or_else(|| invalid("the answer is too long"))?;
            let len = stream.read(room).await?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.filled += len;
            let answer = self.buffer.get(..self.filled).unwrap_or_default();
            if let Some(answer) = Answer::parse(answer)? {
                let placed = answer.placed();
                if !answer.closes {
                    self.stream = Some(stream);
                }
                return Ok(placed);
            }
        }
    }
}

async fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// A whole answer.
#[derive(Debug)]
struct Answer<'a> {
    status: u16,
    closes: bool,
    body: &'a str,
}

impl<'a> Answer<'a> {
    /// The answer in these bytes; none while there is more to come.
    fn parse(bytes: &'a [u8]) -> io::Result<Option<Self>> {
        let Some(head_len) = bytes.windows(HEAD_END.len()).position(|window| window == HEAD_END) else {
            return Ok(None);
        };
        let (head, rest) = bytes.split_at(head_len + HEAD_END.len());
        let head = std::str::from_utf8(head).map_err(|_| invalid("the answer's head is no text"))?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| invalid("the answer has no status"))?;
        let (mut len, mut closes) = (None, false);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                len = value.trim().parse::<usize>().ok();
            } else if name.eq_ignore_ascii_case("connection") {
                closes = value.trim().eq_ignore_ascii_case("close");
            }
        }
        let len = len.ok_or_else(|| invalid("the answer does not say how long it is"))?;
        let Some(body) = rest.get(..len) else { return Ok(None) };
        let body = std::str::from_utf8(body).map_err(|_| invalid("the answer is no text"))?;
        Ok(Some(Self { status, closes, body }))
    }

    fn placed(&self) -> Placed {
        if self.status == 200 {
            let id = self.body.split_once(ID_FIELD).and_then(|(_, rest)| rest.split('"').next());
            return match id.and_then(|id| Uuid::try_parse(id).ok()) {
                Some(id) => Placed::Accepted(id),
                None => Placed::Unknown(format!("no id in {}", self.body)),
            };
        }
        let (status, message) = (self.status, self.body.to_owned());
        if matches!(status, 400..500) && !matches!(status, 408 | 429) {
            return Placed::Refused { status, code: 0, message };
        }
        Placed::Unknown(format!("{status}: {message}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(text: &str) -> Option<Placed> {
        Answer::parse(text.as_bytes()).unwrap().map(|answer| answer.placed())
    }

    #[test]
    fn an_answer_counts_when_all_of_it_is_here() {
        let id = "018f0000-0000-7000-8000-000000000001";
        let body = format!("{{\"id\":\"{id}\",\"asset_id\":\"x\"}}");
        let whole = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        for len in 0..whole.len() {
            assert_eq!(placed(whole.get(..len).unwrap()), None, "{len}");
        }
        assert_eq!(placed(&whole), Some(Placed::Accepted(id.parse().unwrap())));
    }

    #[test]
    fn only_a_refusal_for_good_is_one() {
        let answer = |status: u16| placed(&format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\n{{}}")).unwrap();
        assert!(matches!(answer(403), Placed::Refused { status: 403, .. }));
        for status in [200, 302, 408, 429, 500, 503] {
            assert!(matches!(answer(status), Placed::Unknown(_)), "{status}");
        }
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_an_error() {
        for bad in ["HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 x OK\r\nContent-Length: 0\r\n\r\n"] {
            assert!(Answer::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
