//! Server-sent events: bytes in any split into whole frames, within limits.
//!
//! Ready-made parsers throw comment lines away, and lost messages are announced in a comment. This
//! one keeps them, never holds more than one frame, and refuses what it does not understand: a line
//! that belongs to no known field may be the torn half of an event, and a torn event is a hole.

use super::comment::Comment;
use thiserror::Error;

/// One thing that came over the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The data of one event, exactly as it came (several data lines are joined by a line feed).
    Data(Vec<u8>),
    /// A comment line.
    Comment(Comment),
}

/// The bytes are no event stream that we may go on reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A line or a frame is longer than the limit.
    #[error("frame is longer than {max} bytes")]
    TooLong {
        /// The limit.
        max: usize,
    },
    /// A line of no known field.
    #[error("line is of no known field")]
    UnknownField,
    /// The parser refused something before, and takes nothing more.
    #[error("parser has stopped")]
    Stopped,
}

/// Cuts a byte stream into frames.
#[derive(Debug)]
pub struct FrameParser {
    frame_bytes_max: usize,
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    skip_line_feed: bool,
    first_line: bool,
    stopped: bool,
}

impl FrameParser {
    /// A parser at the start of a response body.
    #[must_use]
    pub fn new(frame_bytes_max: usize) -> Self {
        Self {
            frame_bytes_max,
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            skip_line_feed: false,
            first_line: true,
            stopped: false,
        }
    }

    /// Takes the next bytes and adds every frame that they complete to `frames`. Frames before an
    /// error are added too.
    ///
    /// # Errors
    /// [`FrameError`] when the bytes cannot be framed; the parser takes nothing after that.
    pub fn push(&mut self, chunk: &[u8], frames: &mut Vec<Frame>) -> Result<(), FrameError> {
        if self.stopped {
            return Err(FrameError::Stopped);
        }
        let pushed = self.push_bytes(chunk, frames);
        self.stopped = pushed.is_err();
        pushed
    }

    fn push_bytes(&mut self, chunk: &[u8], frames: &mut Vec<Frame>) -> Result<(), FrameError> {
        let mut rest = chunk;
        if self.skip_line_feed && !rest.is_empty() {
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            self.skip_line_feed = false;
        }
        while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (part, tail) = rest.split_at(at);
            self.extend_line(part)?;
            self.end_line(frames)?;
            rest = match tail {
                [b'\r', b'\n', after @ ..] => after,
                [b'\r'] => {
                    // The line feed of this pair may open the next chunk.
                    self.skip_line_feed = true;
                    &[]
                }
                [_, after @ ..] => after,
                [] => &[],
            };
        }
        self.extend_line(rest)
    }

    fn extend_line(&mut self, part: &[u8]) -> Result<(), FrameError> {
        if self.line.len() + part.len() > self.frame_bytes_max {
            return Err(FrameError::TooLong { max: self.frame_bytes_max });
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn end_line(&mut self, frames: &mut Vec<Frame>) -> Result<(), FrameError> {
        let mut line = std::mem::take(&mut self.line);
        let text = if std::mem::take(&mut self.first_line) {
            line.strip_prefix(b"\xef\xbb\xbf".as_slice()).unwrap_or(&line)
        } else {
            &line
        };
        let ended = self.take_line(text, frames);
        line.clear();
        self.line = line;
        ended
    }

    fn take_line(&mut self, line: &[u8], frames: &mut Vec<Frame>) -> Result<(), FrameError> {
        match line {
            [] => {
                if std::mem::take(&mut self.has_data) && !self.data.is_empty() {
                    frames.push(Frame::Data(std::mem::take(&mut self.data)));
                }
                Ok(())
            }
            [b':', comment @ ..] => {
                frames.push(Frame::Comment(Comment::parse(comment)));
                Ok(())
            }
            line => {
                let mut parts = line.splitn(2, |byte| *byte == b':');
                let name = parts.next().unwrap_or_default();
                let value = parts.next().unwrap_or_default();
                match name {
                    b"data" => self.extend_data(value.strip_prefix(b" ").unwrap_or(value)),
                    b"event" | b"id" | b"retry" => Ok(()),
                    _ => Err(FrameError::UnknownField),
                }
            }
        }
    }

    fn extend_data(&mut self, value: &[u8]) -> Result<(), FrameError> {
        if self.data.len() + value.len() + 1 > self.frame_bytes_max {
            return Err(FrameError::TooLong { max: self.frame_bytes_max });
        }
        if std::mem::replace(&mut self.has_data, true) {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames_of(bytes: &[u8]) -> (Vec<Frame>, Result<(), FrameError>) {
        let mut frames = Vec::new();
        let ended = FrameParser::new(64).push(bytes, &mut frames);
        (frames, ended)
    }

    fn data(text: &str) -> Frame {
        Frame::Data(text.as_bytes().to_vec())
    }

    #[test]
    fn every_line_end_and_field_form_is_read() {
        let (frames, ended) =
            frames_of(b"\xef\xbb\xbfdata: a\n\ndata:b\r\n\r\nevent: x\rid: 7\rdata: c\rdata: d\r\r:heartbeat\n");
        assert_eq!(ended, Ok(()));
        assert_eq!(frames, [data("a"), data("b"), data("c\nd"), Frame::Comment(Comment::Heartbeat)]);
    }

    #[test]
    fn an_unfinished_frame_is_not_handed_out() {
        assert_eq!(frames_of(b"data: half").0, []);
        assert_eq!(frames_of(b"data: whole line, no blank one\n").0, []);
        assert_eq!(frames_of(b"data:\n\n").0, []);
    }

    #[test]
    fn an_oversize_frame_is_refused_and_ends_the_reading() {
        let mut parser = FrameParser::new(64);
        let mut frames = Vec::new();
        let long = format!("data: ok\n\ndata: {}", "x".repeat(80));
        assert_eq!(parser.push(long.as_bytes(), &mut frames), Err(FrameError::TooLong { max: 64 }));
        assert_eq!(frames, [data("ok")]);
        assert_eq!(parser.push(b"data: later\n\n", &mut frames), Err(FrameError::Stopped));
        assert_eq!(frames.len(), 1);
    }

    #[test]
    fn many_short_data_lines_do_not_grow_past_the_limit() {
        let (frames, ended) = frames_of("data: 0123456789\n".repeat(10).as_bytes());
        assert_eq!((frames, ended), (vec![], Err(FrameError::TooLong { max: 64 })));
    }

    #[test]
    fn a_torn_line_is_refused_not_skipped() {
        assert_eq!(frames_of(b"\"event\":\"fill\"}\n\n").1, Err(FrameError::UnknownField));
        assert_eq!(frames_of(b"<html>\n").1, Err(FrameError::UnknownField));
    }

    fn line() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[a-z {}]{0,20}".prop_map(|text| format!("data: {text}")),
            2 => Just(String::new()),
            1 => Just(":heartbeat".to_owned()),
            1 => Just(": you are reading too slowly, dropped 3 messages".to_owned()),
            1 => Just("event: trade".to_owned()),
            1 => "data: [x]{50,90}",
        ]
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_frames(
            lines in prop::collection::vec((line(), prop_oneof![Just("\n"), Just("\r\n"), Just("\r")]), 0..20),
            cuts in prop::collection::vec(0usize..600, 0..12),
        ) {
            let bytes: Vec<u8> = lines.iter().flat_map(|(line, end)| [line.as_str(), end]).collect::<String>().into_bytes();
            let whole = frames_of(&bytes);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (bytes.len() + 1)).collect();
            cuts.sort_unstable();
            cuts.push(bytes.len());
            let mut parser = FrameParser::new(64);
            let (mut frames, mut ended, mut from) = (Vec::new(), Ok(()), 0);
            for cut in cuts {
                if ended.is_ok() {
                    ended = parser.push(&bytes[from..cut], &mut frames);
                    from = cut;
                }
            }
            prop_assert_eq!((frames, ended), whole);
        }

        #[test]
        fn any_bytes_are_framed_or_refused_within_the_limit(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let (frames, _) = frames_of(&bytes);
            for frame in frames {
                if let Frame::Data(data) = frame {
                    prop_assert!(data.len() <= 64);
                }
            }
        }
    }
}
