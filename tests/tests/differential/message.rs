//! Messages of HTTP/1 from bytes, as they are: nothing is cleaned, for every byte is judged.

use crate::seen::text;
use crate::stream::{Ended, Stream};

/// A head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    /// The first line.
    pub(crate) first: String,
    /// The others, as they came.
    pub(crate) fields: Vec<(String, String)>,
}

/// What follows a head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    /// Its bytes, without framing.
    pub(crate) bytes: Vec<u8>,
    /// Trailers.
    pub(crate) trailers: Vec<(String, String)>,
    /// It broke off.
    pub(crate) broken: bool,
}

impl Head {
    /// Reads one.
    pub(crate) fn read(stream: &mut Stream) -> Result<Self, Ended> {
        let first = text(&stream.line()?);
        Ok(Self { first, fields: fields(stream)? })
    }

    /// Values of a field, with commas between.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let values: Vec<&str> =
            self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect();
        (!values.is_empty()).then(|| values.join(","))
    }

    /// The status of a response.
    pub(crate) fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
    }
}

fn fields(stream: &mut Stream) -> Result<Vec<(String, String)>, Ended> {
    let mut all = Vec::new();
    loop {
        let line = text(&stream.line()?);
        if line.is_empty() {
            return Ok(all);
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, "(no colon)"));
        all.push((name.to_owned(), value.trim_matches(' ').to_owned()));
    }
}

impl Body {
    /// Reads the body that follows `head`; without a length it lasts to the end if `to_end`.
    pub(crate) fn read(stream: &mut Stream, head: &Head, to_end: bool) -> Self {
        let chunked = head.get("transfer-encoding").is_some_and(|v| v.to_ascii_lowercase().contains("chunked"));
        let length = head.get("content-length").and_then(|v| v.parse::<usize>().ok());
        let mut body = Self::default();
        if chunked {
            body.broken = body.chunks(stream).is_err();
        } else if let Some(length) = length {
            while stream.ahead().len() < length {
                if stream.fill().is_err() {
                    body.broken = true;
                    break;
                }
            }
            body.bytes = stream.take(length.min(stream.ahead().len()));
        } else if to_end {
            let (bytes, ended) = stream.rest();
            body.bytes = bytes;
            body.broken = ended == Ended::Silent;
        }
        body
    }

    fn chunks(&mut self, stream: &mut Stream) -> Result<(), Ended> {
        loop {
            let line = text(&stream.line()?);
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16);
            let Ok(size) = size else { return Err(Ended::Closed) };
            if size == 0 {
                self.trailers = fields(stream)?;
                return Ok(());
            }
            self.bytes.extend(stream.exactly(size)?);
            stream.line()?;
        }
    }
}
