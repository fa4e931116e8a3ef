//! Histories at random: both ends are ours, what goes between them is cut anywhere, and every body arrives whole.

use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::super::state::{State, Taken};
use super::super::streams::Key;
use super::super::{Limits, Side};
use super::noise;
use crate::http::message::{Fields, Length, ResponseHead};

/// A request whose body comes back.
struct Exchange {
    key: Key,
    body: Vec<u8>,
    sent: usize,
    ended: bool,
    got: Vec<u8>,
    head: bool,
    done: bool,
}

/// Its other end.
struct Echo {
    key: Key,
    held: Vec<u8>,
    ended: bool,
    trailers: Option<Fields>,
}

struct World {
    client: State,
    server: State,
    asked: Vec<Exchange>,
    echoed: Vec<Echo>,
}

fn pass(from: &mut State, to: &mut State, n: usize) {
    let n = n.min(from.output().len());
    to.receive(&from.output()[..n]);
    from.wrote(n);
}

impl World {
    fn new(limits: Limits) -> Self {
        let client = State::new(Side::Client { secure: true }, limits, || 0);
        let server = State::new(Side::Server, limits, || 0);
        Self { client, server, asked: Vec::new(), echoed: Vec::new() }
    }

    fn ask(&mut self, len: usize, known: bool) {
        let Ok(key) = self.client.open() else { return };
        let length = if known { Length::Exact(len as u64) } else { Length::Unknown };
        self.client.send_request(key, &super::post("/"), length).unwrap();
        let ended = known && len == 0;
        self.asked.push(Exchange { key, body: noise(len), sent: 0, ended, got: vec![], head: false, done: false });
    }

    fn send(&mut self, nth: usize, most: usize) {
        let cx = Context::from_waker(Waker::noop());
        let count = self.asked.len().max(1);
        let Some(one) = self.asked.get_mut(nth % count).filter(|one| !one.ended) else { return };
        let rest = &one.body[one.sent..];
        let part = &rest[..rest.len().min(most)];
        if !part.is_empty()
            && let Poll::Ready(sent) = self.client.send_data(one.key, part, false, &cx)
        {
            one.sent += sent.unwrap();
        }
        if one.sent == one.body.len() {
            let mut trailers = Fields::default();
            trailers.push(b"x-end", b"1");
            self.client.send_end(one.key, nth.is_multiple_of(2).then_some(&trailers)).unwrap();
            one.ended = true;
        }
    }

    fn echo(&mut self) {
        let cx = Context::from_waker(Waker::noop());
        while let Some((key, _)) = self.server.accept() {
            self.server
                .send_response(key, &ResponseHead { length: Length::Unknown, ..ResponseHead::new(200) })
                .unwrap();
            self.echoed.push(Echo { key, held: vec![], ended: false, trailers: None });
        }
        let server = &mut self.server;
        self.echoed.retain_mut(|echo| {
            let mut buffer = Vec::new();
            while !echo.ended {
                match server.take_body(echo.key, &mut buffer, &cx) {
                    Poll::Ready(Ok(Taken::Bytes(_))) => echo.held.append(&mut buffer),
                    Poll::Ready(Ok(Taken::Trailers(fields))) => (echo.trailers, echo.ended) = (Some(fields), true),
                    Poll::Ready(Ok(Taken::End)) => echo.ended = true,
                    Poll::Ready(Err(why)) => panic!("{why:?}"),
                    Poll::Pending => break,
                }
            }
            if !echo.held.is_empty()
                && let Poll::Ready(n) = server.send_data(echo.key, &echo.held, false, &cx)
            {
                let n = n.unwrap();
                echo.held.drain(..n);
                server.consumed(echo.key, n as u32);
            }
            let done = echo.ended && echo.held.is_empty();
            if done {
                server.send_end(echo.key, echo.trailers.as_ref()).unwrap();
                server.release(echo.key);
            }
            !done
        });
    }

    fn read(&mut self) {
        let cx = Context::from_waker(Waker::noop());
        let client = &mut self.client;
        for one in self.asked.iter_mut().filter(|one| !one.done) {
            if !one.head {
                one.head = matches!(client.take_response(one.key, &cx), Poll::Ready(Ok(_)));
            }
            let mut buffer = Vec::new();
            while one.head && !one.done {
                match client.take_body(one.key, &mut buffer, &cx) {
                    Poll::Ready(Ok(Taken::Bytes(_))) => {
                        client.consumed(one.key, buffer.len() as u32);
                        one.got.append(&mut buffer);
                    }
                    Poll::Ready(Ok(_)) => one.done = true,
                    Poll::Ready(Err(why)) => panic!("{why:?}"),
                    Poll::Pending => break,
                }
            }
        }
    }

    fn step(&mut self, what: u8, n: usize) {
        match what % 7 {
            0 => self.ask(n * 3, n.is_multiple_of(2)),
            1 => self.send(n, 1 + n % 20_000),
            2 => pass(&mut self.client, &mut self.server, 1 + n % 3000),
            3 => pass(&mut self.server, &mut self.client, 1 + n % 3000),
            4 => self.echo(),
            5 => self.read(),
            _ => self.send(n / 7, usize::MAX),
        }
    }

    /// Lets everything happen that can.
    fn settle(&mut self) {
        for _ in 0..20_000 {
            for nth in 0..self.asked.len() {
                self.send(nth, usize::MAX);
            }
            self.echo();
            self.read();
            pass(&mut self.client, &mut self.server, usize::MAX);
            pass(&mut self.server, &mut self.client, usize::MAX);
            if self.asked.iter().all(|one| one.done) {
                return;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bodies_arrive_whole(
        steps in prop::collection::vec((any::<u8>(), 0_usize..40_000), 1..120),
        stream_window in 65_535_u32..300_000,
        connection_window in 65_535_u32..200_000,
        queue in 5_000_usize..100_000,
    ) {
        let mut world = World::new(Limits { stream_window, connection_window, queue, streams: 20, ..Limits::default() });
        for (what, n) in steps {
            world.step(what, n);
        }
        world.settle();
        prop_assert!(world.client.fatal().is_none() && world.server.fatal().is_none());
        for one in &world.asked {
            prop_assert!(one.done && one.got == one.body, "{} of {}", one.got.len(), one.body.len());
            world.client.release(one.key);
        }
        prop_assert_eq!((world.client.active(), world.server.active()), (0, 0));
    }

    #[test]
    fn bytes_at_random_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..600), cut in 1_usize..50) {
        for side in [Side::Server, Side::Client { secure: false }] {
            let mut state = super::wire::begin(side, Limits::default());
            bytes.chunks(cut).for_each(|part| state.receive(part));
            prop_assert!(state.output().len() < 100_000);
        }
    }
}
