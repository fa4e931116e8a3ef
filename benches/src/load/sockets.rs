//! HTTP/1.1 and TCP messages from one thread over `ppoll`: it costs little itself, and its clock is exact.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};

use super::answer::{Answer, look};
use super::{Kind, LOST, Load, Pace, STILL, Seen, TELLS, Tally, WARM};
use crate::bodies;

/// One connection at a time, and its request.
struct Slot {
    stream: Option<TcpStream>,
    /// It is not connected yet; the request waits.
    connecting: bool,
    /// When the request that is out was due.
    waiting: Option<Instant>,
    pace: Pace,
    buffer: Vec<u8>,
    message: [u8; bodies::MESSAGE],
    /// Answers on this connection.
    served: u64,
}

/// What all slots share.
struct Plan {
    kind: Kind,
    target: SocketAddr,
    request: Vec<u8>,
    body: Vec<u8>,
    number: u64,
}

pub(super) fn run(load: Load, target: SocketAddr, span: Duration, tells: bool) -> anyhow::Result<()> {
    let mut slots: Vec<Slot> = (0..load.connections).map(|_| Slot::new()).collect();
    let mut plan = Plan::new(load.kind, target);
    drive(&mut slots, &mut plan, load.rate, WARM, false)?;
    super::told_to_begin()?;
    let seen = drive(&mut slots, &mut plan, load.rate, span, tells)?;
    super::tell(seen)
}

/// A short load from this process.
#[cfg(test)]
pub(super) fn once(load: Load, target: SocketAddr) -> anyhow::Result<Seen> {
    let mut slots: Vec<Slot> = (0..load.connections).map(|_| Slot::new()).collect();
    let span = Duration::from_millis(load.millis.into());
    drive(&mut slots, &mut Plan::new(load.kind, target), load.rate, span, false)
}

fn drive(slots: &mut [Slot], plan: &mut Plan, rate: u32, span: Duration, tells: bool) -> anyhow::Result<Seen> {
    let mut tally = Tally::new();
    let (start, count) = (tally.began, slots.len());
    let end = start + span;
    let mut told = start;
    for (index, slot) in slots.iter_mut().enumerate() {
        slot.pace = Pace::new(start, rate, index, count);
    }
    let mut ready = Vec::with_capacity(count);
    let (mut last, mut still) = (start, Duration::ZERO);
    loop {
        let now = Instant::now();
        let gap = now.saturating_duration_since(last);
        if gap > STILL {
            still += gap;
            tally.seen.still = still.as_secs_f64();
        }
        last = now;
        let (mut next, mut out) = (None::<Instant>, false);
        for slot in slots.iter_mut() {
            // In an open loop what was due is sent, however late.
            if slot.waiting.is_none() && slot.pace.next <= now && slot.pace.next < end {
                slot.send(plan, now, &mut tally);
            }
            match slot.waiting {
                Some(due) if now > due + LOST + still => slot.fail(&mut tally, "no answer in 10 s"),
                Some(_) => out = true,
                None if slot.pace.next < end => next = Some(next.map_or(slot.pace.next, |n| n.min(slot.pace.next))),
                None => {}
            }
        }
        if next.is_none() && !out {
            return Ok(tally.finish());
        }
        if now > end + LOST + still {
            tally.bad("10 s after its end the load still has requests to send");
            return Ok(tally.finish());
        }
        let limit = next.unwrap_or(now + Duration::from_millis(100)).min(now + Duration::from_millis(100));
        wait(slots, &mut ready, limit.saturating_duration_since(Instant::now()))?;
        for index in ready.drain(..) {
            slots[index].receive(plan, &mut tally, end);
        }
        if tells && told.elapsed() >= TELLS {
            told += TELLS;
            super::say(&serde_json::to_string(&tally.so_far())?)?;
        }
    }
}

/// Waits for answers, at most `limit`.
fn wait(slots: &[Slot], ready: &mut Vec<usize>, limit: Duration) -> anyhow::Result<()> {
    let open = || slots.iter().enumerate().filter_map(|(i, s)| Some((i, s.stream.as_ref()?)));
    let flags = |i: usize| if slots[i].connecting { PollFlags::POLLOUT } else { PollFlags::POLLIN };
    let mut polled: Vec<PollFd<'_>> = open().map(|(i, s)| PollFd::new(s.as_fd(), flags(i))).collect();
    match ppoll(&mut polled, Some(limit.into()), None) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let has = |p: &PollFd<'_>| p.revents().is_some_and(|r| !r.is_empty());
    ready.extend(open().zip(&polled).filter(|(_, p)| has(p)).map(|((i, _), _)| i));
    Ok(())
}

/// Nobody else waits for a connection that does not come.
fn begin_connecting(target: SocketAddr) -> std::io::Result<TcpStream> {
    let family = if target.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(target)) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Plan {
    fn new(kind: Kind, target: SocketAddr) -> Self {
        let path = if kind == Kind::Kilobyte { "/1k" } else { "/" };
        let close = if kind.is_new() { "connection: close\r\n" } else { "" };
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nuser-agent: hawser-bench/1\r\nx-group: none\r\naccept: */*\r\n{close}\r\n",
            crate::mesh::SERVICE
        );
        Self { kind, target, request: request.into_bytes(), body: kind.body(), number: 0 }
    }
}

impl Slot {
    fn new() -> Self {
        let pace = Pace { next: Instant::now(), step: None };
        let message = [0; bodies::MESSAGE];
        Self {
            stream: None,
            connecting: false,
            waiting: None,
            pace,
            buffer: Vec::with_capacity(16 << 10),
            message,
            served: 0,
        }
    }

    fn send(&mut self, plan: &mut Plan, now: Instant, tally: &mut Tally) {
        let due = self.pace.sent(now);
        self.waiting = Some(due);
        self.buffer.clear();
        if let Err(error) = self.write(plan) {
            self.fail(tally, format_args!("sending: {error}"));
        }
    }

    /// Writes the request, or begins to connect.
    fn write(&mut self, plan: &mut Plan) -> std::io::Result<()> {
        let Some(stream) = &mut self.stream else {
            self.stream = Some(begin_connecting(plan.target)?);
            (self.connecting, self.served) = (true, 0);
            return Ok(());
        };
        if plan.kind.is_http() {
            return stream.write_all(&plan.request);
        }
        plan.number += 1;
        self.message = bodies::message(plan.number);
        stream.write_all(&self.message)
    }

    /// The connection stands, or does not.
    fn connected(&mut self, plan: &mut Plan, tally: &mut Tally) {
        self.connecting = false;
        let error = self.stream.as_ref().and_then(|s| s.take_error().unwrap_or_else(Some));
        if let Some(error) = error {
            self.fail(tally, format_args!("connecting: {error}"));
        } else if let Err(error) = self.write(plan) {
            self.fail(tally, format_args!("sending: {error}"));
        }
    }

    fn receive(&mut self, plan: &mut Plan, tally: &mut Tally, end: Instant) {
        if self.connecting {
            return self.connected(plan, tally);
        }
        let Some(stream) = &mut self.stream else { return };
        let mut chunk = [0; 16 << 10];
        match stream.read(&mut chunk) {
            Ok(0) => return self.closed(tally),
            Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
            Err(_) if self.waiting.is_none() => return self.stream = None,
            Err(error) => return self.fail(tally, format_args!("reading: {error}")),
        }
        let Some(due) = self.waiting else { return self.fail(tally, "bytes that nobody asked for") };
        let answer = if plan.kind.is_http() { look(&self.buffer, &plan.body) } else { self.echoed() };
        match answer {
            Answer::Partial => {}
            Answer::Wrong(why) => self.fail(tally, why),
            Answer::Good { close } => {
                let now = Instant::now();
                tally.good(now.saturating_duration_since(due));
                self.waiting = None;
                self.served += 1;
                if close || plan.kind.is_new() {
                    self.stream = None;
                }
                self.pace.answered(now);
                if self.pace.next <= now && self.pace.next < end {
                    self.send(plan, now, tally);
                }
            }
        }
    }

    fn echoed(&self) -> Answer {
        match self.buffer.len().cmp(&self.message.len()) {
            std::cmp::Ordering::Less => Answer::Partial,
            _ if self.buffer == self.message => Answer::Good { close: false },
            _ => Answer::Wrong("another echo".to_owned()),
        }
    }

    /// The other side ended the connection: its right, while no answer is owed.
    fn closed(&mut self, tally: &mut Tally) {
        if self.waiting.is_none() {
            self.stream = None;
        } else {
            let (got, served) = (self.buffer.len(), self.served);
            self.fail(tally, format_args!("closed after {got} bytes of an answer, {served} answers before"));
        }
    }

    fn fail(&mut self, tally: &mut Tally, why: impl std::fmt::Display) {
        tally.bad(why);
        self.stream = None;
        self.connecting = false;
        self.waiting = None;
        self.buffer.clear();
        // Not again at once, for ever.
        self.pace.answered(Instant::now() + Duration::from_millis(1));
    }
}
