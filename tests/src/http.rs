//! As much of an HTTP/1.1 client as programs that know nothing of a mesh have: a socket, a request, an answer.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Where to and what for: `http://host[:port]/path`.
#[derive(Clone, Debug)]
pub struct Url {
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path, with its slash.
    pub path: String,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: String,
}

/// A connection that may carry several requests.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Url {
    /// Reads a URL.
    ///
    /// # Errors
    /// If it is not one of ours.
    pub fn parse(text: &str) -> Result<Self> {
        let rest = text.strip_prefix("http://").with_context(|| format!("{text}: only http:// is known"))?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse()?),
            _ => (authority, 80),
        };
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { host: host.trim_matches(['[', ']']).to_owned(), port, path: path.to_owned() })
    }
}

impl Connection {
    /// Connects to the first address that answers.
    ///
    /// # Errors
    /// If none does in time.
    pub fn open(host: &str, port: u16, limit: Duration) -> Result<Self> {
        let mut last = None;
        for address in (host, port).to_socket_addrs().with_context(|| format!("{host} has no address"))? {
            match TcpStream::connect_timeout(&address, limit) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(limit))?;
                    stream.set_write_timeout(Some(limit))?;
                    return Ok(Self { stream: BufReader::new(stream) });
                }
                Err(error) => last = Some((address, error)),
            }
        }
        match last {
            Some((address, error)) => bail!("{address}: {error}"),
            None => bail!("{host} has no address"),
        }
    }

    /// Sends a GET and reads the whole answer.
    ///
    /// # Errors
    /// If the connection breaks, or the answer is not HTTP.
    pub fn get(&mut self, url: &Url, headers: &[(String, String)]) -> Result<Answer> {
        let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
        let mut request = format!("GET {} HTTP/1.1\r\nhost: {host}:{}\r\naccept: */*\r\n", url.path, url.port);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        self.stream.get_mut().write_all(request.as_bytes()).context("sending")?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Answer> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.with_context(|| format!("{line:?} is not a status line"))?;
        let mut headers = BTreeMap::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let mut body = Vec::new();
        if headers.get("transfer-encoding").is_some_and(|v| v.contains("chunked")) {
            loop {
                let line = self.line()?;
                let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)?;
                self.stream.by_ref().take(size as u64).read_to_end(&mut body)?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = headers.get("content-length") {
            let length: u64 = length.parse()?;
            let read = self.stream.by_ref().take(length).read_to_end(&mut body)?;
            if read as u64 != length {
                bail!("the answer was cut off after {read} of {length} bytes");
            }
        } else if status != 204 && status != 304 {
            self.stream.read_to_end(&mut body)?;
        }
        Ok(Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.stream.by_ref().take(64 << 10).read_line(&mut line)?;
        if read == 0 {
            bail!("the connection ended");
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

/// One GET on a connection of its own.
///
/// # Errors
/// If it does not come to an answer.
pub fn get(url: &str, headers: &[(String, String)], limit: Duration) -> Result<(Answer, Duration)> {
    let url = Url::parse(url)?;
    let start = Instant::now();
    let mut connection = Connection::open(&url.host, url.port, limit)?;
    let answer = connection.get(&url, headers)?;
    Ok((answer, start.elapsed()))
}
