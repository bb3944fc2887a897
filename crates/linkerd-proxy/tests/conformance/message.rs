//! A strict reader of HTTP/1 messages: what is ambiguous to anybody is wrong to it.
//! Entries: [`request`], [`response`]. Pure.

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The request line or the status line.
    pub line: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, Vec<u8>)>,
}

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// More bytes could make them one.
    Incomplete,
    /// Somebody could read them otherwise.
    Wrong(String),
}

/// How the end of a body is found.
enum Framing {
    Chunked,
    Length(usize),
    Absent,
}

/// A request at the beginning of `bytes`, and how many bytes it takes.
pub fn request(bytes: &[u8]) -> Result<(Message, usize), Stop> {
    let (mut message, head) = head(bytes)?;
    let parts: Vec<&str> = message.line.split(' ').collect();
    let [method, target, version] = parts[..] else {
        return wrong(format!("request line {:?}", message.line));
    };
    let is_chunked = message.values("transfer-encoding").count() > 0;
    match version {
        _ if !is_token(method) || target.is_empty() => return wrong("request line"),
        "HTTP/1.1" => {}
        "HTTP/1.0" if !is_chunked => {}
        _ => return wrong(format!("{version}, chunked: {is_chunked}")),
    }
    let length = match framing(&message)? {
        Framing::Absent => 0,
        Framing::Length(n) => counted(bytes, head, n, &mut message)?,
        Framing::Chunked => chunked(bytes, head, &mut message)?,
    };
    Ok((message, head + length))
}

/// A response at the beginning of `bytes`, and how many bytes it takes. `to` is the request's
/// method; a body without framing lasts until the end, which is there when `ended`.
pub fn response(bytes: &[u8], to: &str, ended: bool) -> Result<(Message, usize), Stop> {
    let (mut message, head) = head(bytes)?;
    let status = message.status();
    if !message.line.starts_with("HTTP/1.") || !(100..1000).contains(&status) {
        return wrong(format!("status line {:?}", message.line));
    }
    let bodiless = to == "HEAD" || matches!(status, 100..=199 | 204 | 304);
    let length = match framing(&message)? {
        _ if bodiless || (to == "CONNECT" && status < 300) => 0,
        Framing::Length(n) => counted(bytes, head, n, &mut message)?,
        Framing::Chunked => chunked(bytes, head, &mut message)?,
        Framing::Absent if ended => counted(bytes, head, bytes.len() - head, &mut message)?,
        Framing::Absent => return Err(Stop::Incomplete),
    };
    Ok((message, head + length))
}

impl Message {
    pub fn status(&self) -> u16 {
        let code = self.line.split(' ').nth(1);
        code.and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| &value[..])
    }

    /// The only value of the header `name`.
    pub fn value<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let mut values = self.values(name);
        let value = values.next()?;
        assert!(values.next().is_none(), "one {name}: {self:?}");
        std::str::from_utf8(value).ok()
    }

    /// Whether the sender says that the connection ends with this message.
    pub fn closes(&self) -> bool {
        self.values("connection")
            .any(|value| value.eq_ignore_ascii_case(b"close"))
    }
}

fn head(bytes: &[u8]) -> Result<(Message, usize), Stop> {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return Err(Stop::Incomplete);
    };
    let mut lines = lines(&bytes[..end])?.into_iter();
    let line = lines.next().unwrap_or_default();
    let message = Message {
        line: String::from_utf8_lossy(line).into_owned(),
        headers: lines.map(field).collect::<Result<_, _>>()?,
        ..Message::default()
    };
    Ok((message, end + 4))
}

fn lines(bytes: &[u8]) -> Result<Vec<&[u8]>, Stop> {
    let mut lines = Vec::new();
    let mut rest = bytes;
    while let Some(end) = find(rest, b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    let bad = |byte: &u8| matches!(byte, 0..0x20 | 0x7f) && *byte != b'\t';
    match lines.iter().find(|line| line.iter().any(bad)) {
        Some(line) => wrong(format!("control byte in {}", line.escape_ascii())),
        None => Ok(lines),
    }
}

fn field(line: &[u8]) -> Result<(String, Vec<u8>), Stop> {
    let colon = line.iter().position(|byte| *byte == b':');
    let Some((name, value)) = colon.map(|at| (&line[..at], &line[at + 1..])) else {
        return wrong(format!("no colon in {}", line.escape_ascii()));
    };
    match std::str::from_utf8(name) {
        Ok(name) if is_token(name) => Ok((name.to_owned(), value.trim_ascii().to_vec())),
        _ => wrong(format!("header name {}", name.escape_ascii())),
    }
}

fn framing(message: &Message) -> Result<Framing, Stop> {
    let lengths: Vec<_> = message.values("content-length").collect();
    let codings: Vec<_> = message.values("transfer-encoding").collect();
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(Framing::Absent),
        ([], [codings]) if ends_with_chunked(codings) => Ok(Framing::Chunked),
        ([length], []) if length.iter().all(u8::is_ascii_digit) => {
            match std::str::from_utf8(length).map(str::parse) {
                Ok(Ok(n)) => Ok(Framing::Length(n)),
                _ => wrong("length"),
            }
        }
        _ => wrong(format!("framing of {message:?}")),
    }
}

/// Whether `chunked` comes last, and nowhere else.
fn ends_with_chunked(codings: &[u8]) -> bool {
    let mut codings = codings.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    codings.next().is_some_and(is_chunked)
        && codings.all(|coding| coding.eq_ignore_ascii_case(b"gzip"))
}

fn counted(bytes: &[u8], head: usize, n: usize, message: &mut Message) -> Result<usize, Stop> {
    match bytes.get(head..head.saturating_add(n)) {
        Some(body) => message.body = body.to_vec(),
        None => return Err(Stop::Incomplete),
    }
    Ok(n)
}

fn chunked(bytes: &[u8], head: usize, message: &mut Message) -> Result<usize, Stop> {
    let mut at = head;
    loop {
        let size = chunk_size(take_line(bytes, &mut at)?)?;
        if size == 0 {
            break;
        }
        let Some(data) = bytes.get(at..at.saturating_add(size)) else {
            return Err(Stop::Incomplete);
        };
        message.body.extend_from_slice(data);
        at += size;
        if !take_line(bytes, &mut at)?.is_empty() {
            return wrong("no end of line behind a chunk");
        }
    }
    loop {
        match take_line(bytes, &mut at)? {
            [] => return Ok(at - head),
            line => message.trailers.push(field(line)?),
        }
    }
}

fn chunk_size(line: &[u8]) -> Result<usize, Stop> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let size = std::str::from_utf8(digits).ok();
    let size = size.filter(|size| size.bytes().all(|byte| byte.is_ascii_hexdigit()));
    match size.and_then(|size| usize::from_str_radix(size, 16).ok()) {
        Some(size) => Ok(size),
        None => wrong(format!("chunk size {}", line.escape_ascii())),
    }
}

fn take_line<'a>(bytes: &'a [u8], at: &mut usize) -> Result<&'a [u8], Stop> {
    let end = find(&bytes[*at..], b"\r\n").ok_or(Stop::Incomplete)?;
    let line = &bytes[*at..*at + end];
    lines(line)?;
    *at += end + 2;
    Ok(line)
}

fn is_token(text: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn wrong<T>(what: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Wrong(what.into()))
}
