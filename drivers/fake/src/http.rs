//! Just enough of HTTP/1.1: requests with a length, answers in JSON, connections that are kept.

use std::io::{self, BufRead, BufReader, Read, Write};

use serde_json::Value;

/// The largest body there is any use for.
const MAX_BODY: u64 = 8 << 20;

/// One request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    /// What comes after "?", as it came.
    pub(crate) query: String,
    pub(crate) content_type: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// A parameter of the query, with %XX resolved.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let pair = self
            .query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        pair.map(unescape)
    }
}

/// One answer: status and either an object or plain text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Json(u16, Value),
    Text(u16, String),
}

/// Answers requests until the other side has enough: with the lines that `watch` gives where it does, and `answer`'s answer else.
pub(crate) fn serve<S: Read + Write, W: Iterator<Item = String>>(
    stream: S,
    mut watch: impl FnMut(&Request) -> Option<W>,
    mut answer: impl FnMut(&Request) -> Answer,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream)? {
        if let Some(lines) = watch(&request) {
            tell(stream.get_mut(), lines)?;
            continue;
        }
        let (status, kind, body) = match answer(&request) {
            Answer::Json(status, value) => (status, "application/json", value.to_string()),
            Answer::Text(status, text) => (status, "text/plain", text),
        };
        let head = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            if status < 400 { "OK" } else { "Error" },
            body.len()
        );
        let out = stream.get_mut();
        out.write_all(head.as_bytes())?;
        out.write_all(body.as_bytes())?;
        out.flush()?;
    }
    Ok(())
}

/// Sends each line when it comes.
fn tell(out: &mut impl Write, lines: impl Iterator<Item = String>) -> io::Result<()> {
    out.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    out.flush()?;
    for line in lines {
        write!(out, "{:x}\r\n{line}\r\n", line.len())?;
        out.flush()?;
    }
    out.write_all(b"0\r\n\r\n")?;
    out.flush()
}

/// The next request; none when the connection was closed.
fn read(stream: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: method.into(),
        path: path.into(),
        query: query.into(),
        ..Request::default()
    };
    let mut length = 0_u64;
    loop {
        let mut header = String::new();
        if stream.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        let Some((name, value)) = header.split_once(':') else {
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().map_err(io::Error::other)?,
            "content-type" => value.trim().clone_into(&mut request.content_type),
            _ => {}
        }
    }
    stream.take(length.min(MAX_BODY)).read_to_end(&mut request.body)?;
    Ok(Some(request))
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_on_one_connection_are_told_apart() {
        let text = "PATCH /a/b?x=1&sel=k%3Dv HTTP/1.1\r\nContent-Length: 2\r\ncontent-type: t\r\n\r\n{}GET /c HTTP/1.1\r\n\r\n";
        let mut stream = BufReader::new(text.as_bytes());
        let first = read(&mut stream).unwrap().unwrap();
        assert_eq!((first.method.as_str(), first.path.as_str()), ("PATCH", "/a/b"));
        assert_eq!(
            (first.body.as_slice(), first.content_type.as_str()),
            (&b"{}"[..], "t")
        );
        assert_eq!(first.parameter("sel").as_deref(), Some("k=v"));
        assert_eq!(read(&mut stream).unwrap().unwrap().path, "/c");
        assert_eq!(read(&mut stream).unwrap(), None);
    }
}
