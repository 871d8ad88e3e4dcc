//! Just as much of HTTP/1.1 as a server of files needs.

use std::io::{self, Read, Write};

/// A connection, encrypted or not.
pub(crate) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// The head of a request.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `HEAD`, `CONNECT`.
    pub method: String,
    /// What is asked for: a path, or a whole address where a proxy is asked.
    pub target: String,
    headers: Vec<(String, String)>,
    pub(crate) raw: Vec<u8>,
}

impl Request {
    /// The next request; `left` is what was read beyond the one before. Nothing when the client has ended.
    pub(crate) fn read(stream: &mut dyn Stream, left: &mut Vec<u8>) -> io::Result<Option<Self>> {
        let end = loop {
            if let Some(at) = left.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            let mut piece = [0; 4096];
            match stream.read(&mut piece)? {
                0 => return Ok(None),
                count => left.extend_from_slice(&piece[..count]),
            }
        };
        let rest = left.split_off(end);
        let raw = std::mem::replace(left, rest);
        let text = String::from_utf8_lossy(&raw).into_owned();
        let mut lines = text.lines();
        let mut first = lines.next().unwrap_or_default().split(' ');
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        Ok(Some(Self {
            method: first.next().unwrap_or_default().to_owned(),
            target: first.next().unwrap_or_default().to_owned(),
            headers,
            raw,
        }))
    }

    /// A header line, by its name in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        let line = self.headers.iter().find(|(key, _)| key == name)?;
        Some(&line.1)
    }

    /// The path in the tree: `/HOST/PATH`.
    pub(crate) fn path(&self) -> String {
        let (host, path) = match self.target.split_once("://") {
            Some((_, rest)) => rest.split_once('/').unwrap_or((rest, "")),
            None => (
                self.header("host").unwrap_or_default(),
                self.target.trim_start_matches('/'),
            ),
        };
        let path = path.split('?').next().unwrap_or_default();
        let name = host.split(':').next().unwrap_or_default();
        if name == "localhost" || name.starts_with("127.") {
            format!("/{path}")
        } else {
            format!("/{name}/{path}")
        }
    }

    /// `bytes=FIRST-` or `bytes=FIRST-LAST` of a file of this size, as (first, end).
    pub(crate) fn range(&self, size: u64) -> Option<(u64, u64)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        let end = match last {
            "" => size,
            last => (last.parse::<u64>().ok()? + 1).min(size),
        };
        Some((first.parse().ok()?, end))
    }
}

/// The head of an answer.
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
        }
    }

    /// Sets a line; an empty value takes it away.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        if !value.is_empty() {
            self.headers.push((name.to_owned(), value));
        }
    }

    pub(crate) fn write(&self, stream: &mut dyn Stream) -> io::Result<()> {
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        stream.write_all(text.as_bytes())
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        302 => "Found",
        403 => "Forbidden",
        404 => "Not Found",
        407 => "Proxy Authentication Required",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
