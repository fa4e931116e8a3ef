//! What went over the wire: every packet, recorded by the lab's own sniffer, and questions to it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::{Host, Process};

/// A recording under way.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
}

/// A recording: Ethernet frames as they went by.
#[derive(Debug)]
pub struct Recording {
    frames: Vec<Vec<u8>>,
}

/// What the TCP payloads of a recording hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// ServerHellos that chose TLS 1.3.
    pub server_hellos_13: usize,
    /// Records of encrypted application data.
    pub application_records: usize,
}

impl Capture {
    pub(crate) fn start(wire: &Host, name: &str) -> Result<Self> {
        let file = wire.disk().join(format!("{name}.pcap"));
        let path = file.display().to_string();
        let mut process = wire.spawn(&format!("sniff-{name}"), &["hawser-lab", "sniff", "--file", &path])?;
        process.says("ready", Duration::from_secs(5))?;
        Ok(Self { process, file })
    }

    /// Ends it and reads what was recorded.
    ///
    /// # Errors
    /// If the file is not what it should be.
    pub fn stop(self) -> Result<Recording> {
        self.process.finish(Duration::from_secs(10))?;
        Recording::read(&std::fs::read(&self.file)?)
    }
}

impl Recording {
    /// Reads a pcap file.
    ///
    /// # Errors
    /// If it is not one.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let mut rest = bytes.get(24..).context("a pcap file has a header")?;
        let mut frames = Vec::new();
        while let Some(length) = rest.get(8..12) {
            let length = u32::from_le_bytes(length.try_into()?) as usize;
            let Some(frame) = rest.get(16..16 + length) else { break };
            frames.push(frame.to_vec());
            rest = &rest[16 + length..];
        }
        Ok(Self { frames })
    }

    /// How many frames went by.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether none did.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// In how many frames `needle` stands as it is.
    pub fn frames_with(&self, needle: &str) -> usize {
        self.frames.iter().filter(|f| contains(f, needle.as_bytes())).count()
    }

    /// In how many frames from or to TCP port `port` `needle` stands as it is.
    pub fn frames_with_on(&self, needle: &str, port: u16) -> usize {
        let on = |f: &[u8]| tcp(f).is_some_and(|t| t.source == port || t.destination == port);
        self.frames.iter().filter(|f| on(f) && contains(f, needle.as_bytes())).count()
    }

    /// TLS from or to TCP port `port`.
    pub fn tls_on(&self, port: u16) -> Tls {
        let mut seen = Tls::default();
        for segment in self.frames.iter().filter_map(|f| tcp(f)) {
            if segment.source != port && segment.destination != port {
                continue;
            }
            match segment.payload {
                // Handshake record, ServerHello; the extension supported_versions says 1.3.
                [0x16, 3, _, _, _, 2, rest @ ..] if contains(rest, &[0, 0x2b, 0, 2, 3, 4]) => {
                    seen.server_hellos_13 += 1
                }
                [0x17, 3, 3, ..] => seen.application_records += 1,
                _ => {}
            }
        }
        seen
    }
}

struct Segment<'a> {
    source: u16,
    destination: u16,
    payload: &'a [u8],
}

/// The TCP segment of a frame, over IPv4 or IPv6 without extension headers.
fn tcp(frame: &[u8]) -> Option<Segment<'_>> {
    let (kind, packet) = (frame.get(12..14)?, frame.get(14..)?);
    let segment = match kind {
        [8, 0] if packet.get(9) == Some(&6) => {
            let total = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
            packet.get(usize::from(packet[0] & 15) * 4..total)?
        }
        [0x86, 0xdd] if packet.get(6) == Some(&6) => {
            let length = usize::from(u16::from_be_bytes(packet.get(4..6)?.try_into().ok()?));
            packet.get(40..40 + length)?
        }
        _ => return None,
    };
    let port = |i: usize| Some(u16::from_be_bytes(segment.get(i..i + 2)?.try_into().ok()?));
    let offset = usize::from(segment.get(12)? >> 4) * 4;
    Some(Segment { source: port(0)?, destination: port(2)?, payload: segment.get(offset..)? })
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    !needle.is_empty() && bytes.windows(needle.len()).any(|w| w == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tls_13_server_hello_is_known_by_its_bytes() {
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
        frame.extend([0x23, 0x78, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0]);
        frame.extend([0x16, 3, 3, 0, 9, 2, 0, 0, 0x2b, 0, 2, 3, 4]);
        let total = u16::try_from(frame.len() - 14).unwrap().to_be_bytes();
        frame[16..18].copy_from_slice(&total);
        let recording = Recording { frames: vec![frame] };
        assert_eq!(recording.tls_on(9080), Tls { server_hellos_13: 1, application_records: 0 });
        assert_eq!(recording.tls_on(80), Tls::default());
    }
}
