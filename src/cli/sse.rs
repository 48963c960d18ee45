//! Reads an event stream, as the standard says: a line ends with CR, LF or both, an empty one ends an event.

/// Bytes of one event, at most: the whole list of a thousand members with all they may have is 3 MB.
const EVENT_MAX: usize = 16 * 1024 * 1024;

/// An event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// Its name.
    pub name: String,
    /// Its data; several lines are joined by line ends.
    pub data: String,
    /// Its id, if it has one: a place to resume from.
    pub id: Option<String>,
    /// How long to wait before opening the stream again, in milliseconds. An event may be nothing but this.
    pub retry_ms: Option<u64>,
}

/// An event exceeds [`EVENT_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge;

/// The bytes of an event that is not complete yet.
#[derive(Default)]
pub struct Parser {
    line: Vec<u8>,
    event: SseEvent,
    size: usize,
    after_cr: bool,
}

impl Parser {
    /// Takes bytes, and returns the events that they complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<SseEvent>, TooLarge> {
        let mut events = Vec::new();
        for byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, *byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => events.extend(self.end_line()),
                byte => self.line.push(*byte),
            }
            self.size += 1;
            if self.size > EVENT_MAX {
                return Err(TooLarge);
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Option<SseEvent> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            self.size = 0;
            let event = std::mem::take(&mut self.event);
            return (event != SseEvent::default()).then_some(event);
        }
        let line = String::from_utf8_lossy(&line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        self.field(field, value.strip_prefix(' ').unwrap_or(value));
        None
    }

    fn field(&mut self, field: &str, value: &str) {
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "data" if self.event.data.is_empty() => value.clone_into(&mut self.event.data),
            "data" => self.event.data = format!("{}\n{value}", self.event.data),
            "id" => self.event.id = Some(value.to_owned()),
            "retry" => self.event.retry_ms = value.parse().ok().or(self.event.retry_ms),
            _ => {} // a comment, or of a newer service
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "retry: 1500\n\n: a comment\nevent: diff\ndata: {\"a\":1}\nid: 1.2\n\nevent:bye\r\ndata: x\r\ndata: y\r\n\r\nevent: half";

    fn wanted() -> Vec<SseEvent> {
        let event =
            |name: &str, data: &str| SseEvent { name: name.into(), data: data.into(), ..SseEvent::default() };
        vec![
            SseEvent { retry_ms: Some(1500), ..SseEvent::default() },
            SseEvent { id: Some("1.2".into()), ..event("diff", "{\"a\":1}") },
            event("bye", "x\ny"),
        ]
    }

    #[test]
    fn events_are_the_same_however_the_bytes_come() {
        for size in 1..STREAM.len() {
            let mut parser = Parser::default();
            let chunks = STREAM.as_bytes().chunks(size);
            let events: Vec<SseEvent> = chunks.flat_map(|chunk| parser.feed(chunk).unwrap()).collect();
            assert_eq!(events, wanted(), "in pieces of {size}");
        }
    }

    #[test]
    fn an_event_that_does_not_end_is_given_up() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; EVENT_MAX];
        assert_eq!(parser.feed(&piece), Ok(Vec::new()));
        assert_eq!(parser.feed(b"x"), Err(TooLarge));
    }
}
