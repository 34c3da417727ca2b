//! HTTP/1.1, one request to a connection.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use spot_world::wire::ApiAnswer;

/// A client that sends nothing for so long has gone.
const PATIENCE: Duration = Duration::from_secs(5);
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// A request.
pub(crate) struct Request {
    /// The path with its query.
    pub(crate) path: String,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// Reads a request; `None` if the client sends none.
    pub(crate) fn read(stream: &mut TcpStream) -> io::Result<Option<Self>> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let (mut bytes, mut chunk) = (Vec::new(), [0_u8; 4096]);
        loop {
            if let Some(request) = Self::parse(&bytes) {
                return Ok(Some(request));
            }
            match stream.read(&mut chunk)? {
                0 => return Ok(None),
                length => bytes.extend_from_slice(&chunk[..length]),
            }
        }
    }

    /// Parses a request; `None` if it is not complete.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(END_OF_HEAD.len()).position(|window| window == END_OF_HEAD)?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut request = Self { path, head, body: Vec::new() };
        let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let body = &bytes[end + END_OF_HEAD.len()..];
        request.body = body.get(..length)?.to_vec();
        Some(request)
    }

    /// Returns a header by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &&str| line.split(':').next().is_some_and(|it| it.eq_ignore_ascii_case(name));
        self.head.lines().skip(1).find(named)?.split_once(':').map(|(_, value)| value.trim())
    }
}

/// Writes an answer, the last of its connection.
pub(crate) fn write(stream: &mut TcpStream, answer: &ApiAnswer) -> io::Result<()> {
    let ApiAnswer { status, body } = answer;
    let kind = if body.starts_with('{') { "application/x-amz-json-1.0" } else { "text/xml" };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} World\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}
