//! Peers that make work for nothing are cut off; peers that are merely busy are not.

use super::super::streams::Key;
use super::super::{Code, Limits, Side, State};
use super::wire::*;
use crate::http::h2::frame::kind;
use crate::http::message::ResponseHead;

/// How many times `bytes` are taken before the connection ends; all that is said is read.
fn patience(mut bytes: impl FnMut(u32) -> Vec<u8>, reads: bool) -> u32 {
    let mut state = begin(Side::Server, Limits::default());
    for n in 0..100_000 {
        state.receive(&bytes(n));
        if let Some(fatal) = state.fatal() {
            assert_eq!(fatal.code, Code::ENHANCE_YOUR_CALM, "{fatal:?}");
            return n;
        }
        while let Some((key, _)) = state.accept() {
            state.release(key);
        }
        if reads {
            state.wrote(state.output().len());
        }
        assert!(state.output().len() < 100_000);
    }
    panic!("there is no end to it");
}

#[test]
fn frames_for_nothing_end_the_connection() {
    let flood = |bytes: Vec<u8>| patience(|n| if n == 0 { headers(1, 0, &post(&[])) } else { bytes.clone() }, true);
    for (bytes, most) in [
        (raw(kind::PING, 0, 0, b"12345678"), 10_000),
        (raw(kind::PING, 1, 0, b"12345678"), 10_000),
        (settings(&[]), 1_000),
        (settings(&[(4, 100)]), 1_000),
        (settings(&[(4, 100); 2_000]), 5),
        (priority(1, 3), 5_000),
        (window(0, 1), 10_000),
        (window(1, 1), 10_000),
        (raw(99, 0, 0, b""), 10_000),
        (raw(99, 0, 1, &[0; 100]), 10_000),
    ] {
        let n = flood(bytes);
        assert!(n <= most + 1 && n > most / 2, "{n}");
    }
    let mut state = begin(Side::Server, Limits::default());
    state.receive(&headers(1, 0, &post(&[])));
    let kept = state.accept();
    let n = (0..100_000).take_while(|_| {
        state.receive(&data(1, 0, b""));
        state.fatal().is_none()
    });
    assert!(n.count() <= 5_000 && kept.is_some());
}

#[test]
fn answers_that_are_not_read_end_the_connection() {
    assert_eq!(patience(|_| raw(kind::PING, 0, 0, b"12345678"), false), 1000);
    assert!(patience(|_| settings(&[]), false) <= 1000);
    assert!(patience(|n| headers(2 * n + 1, END, &get(&[("A", "b")])), false) <= 1000);
}

#[test]
fn requests_that_are_reset_at_once_end_the_connection() {
    let n = patience(|n| [headers(2 * n + 1, END, &get(&[])), reset(2 * n + 1, 8)].concat(), true);
    assert!(n <= 1000, "{n}");
    // And those that a peer makes us reset.
    let n = patience(|n| [headers(2 * n + 1, 0, &get(&[])), window(2 * n + 1, 0)].concat(), true);
    assert!(n <= 1000, "{n}");
    let n = patience(|n| headers(2 * n + 1, END, &get(&[("A", "b")])), true);
    assert!(n <= 2000, "{n}");
}

#[test]
fn requests_that_nobody_has_ended_work_for_count_although_they_are_reset() {
    let mut state = begin(Side::Server, Limits { streams: 10, ..Limits::default() });
    let mut served = Vec::new();
    for n in 0..500 {
        state.receive(&[headers(2 * n + 1, END, &get(&[]))].concat());
        served.extend(state.accept());
        state.receive(&reset(2 * n + 1, 8));
        state.wrote(state.output().len());
    }
    assert_eq!((served.len(), state.active()), (20, 20));
}

#[test]
fn header_blocks_without_end_end_the_connection() {
    let start = raw(kind::HEADERS, 0, 1, &get(&[]));
    for (part, most) in [(vec![], 17), (block(&[("a", "b")]), 17), (vec![0x40; 16_000], 5)] {
        let n = patience(|n| if n == 0 { start.clone() } else { continuation(1, 0, &part) }, true);
        assert!(n <= most, "{n}");
    }
}

#[test]
fn bodies_that_nobody_takes_fill_the_windows_and_no_more() {
    let limits = Limits { stream_window: 100_000, connection_window: 300_000, ..Limits::default() };
    let mut state = begin(Side::Server, limits);
    let ids = [1, 3, 5, 7, 9];
    for id in ids {
        state.receive(&headers(id, 0, &post(&[])));
    }
    for _ in 0..6 {
        for id in ids {
            state.receive(&data(id, 0, &[0; 10_000]));
        }
    }
    assert_eq!(state.fatal(), None);
    state.receive(&data(1, 0, &[0; 10_000]));
    assert_eq!(state.fatal().map(|f| f.code), Some(Code::FLOW_CONTROL_ERROR));
}

#[test]
fn windows_open_again_for_what_was_padding_consumed_or_dropped() {
    let limits = Limits { stream_window: 100_000, connection_window: 100_000, ..Limits::default() };
    let mut state = begin(Side::Server, limits);
    let mut padded = vec![255];
    padded.extend_from_slice(&[0; 1000 + 255]);
    let mut id = 1;
    for n in 0..2000_u32 {
        state.receive(&[headers(id, 0, &post(&[])), data(id, PADDED, &padded), data(id, 0, &[1; 700])].concat());
        assert_eq!(state.fatal(), None);
        if let Some((key, _)) = state.accept() {
            match n % 3 {
                0 => {}
                1 => state.consumed(key, 1700),
                _ => state.consumed(key, 600),
            }
            respond(&mut state, key);
            state.release(key);
        }
        // What is late counts too, and is given back.
        state.receive(&data(id, END, &[2; 500]));
        state.wrote(state.output().len());
        id += 2;
    }
    assert_eq!(state.fatal(), None);
}

fn respond(state: &mut State, key: Key) {
    state.send_response(key, &ResponseHead::new(204)).unwrap();
}

#[test]
fn a_busy_client_is_no_flood() {
    let mut state = begin(Side::Server, Limits::default());
    for n in 0..50_000_u32 {
        let id = 2 * n + 1;
        let mut bytes = [headers(id, 0, &post(&[])), data(id, END, b"body"), window(0, 100)].concat();
        if n % 10 == 0 {
            bytes.extend_from_slice(&raw(kind::PING, 0, 0, b"12345678"));
        }
        state.receive(&bytes);
        let (key, _) = state.accept().unwrap();
        if n % 3 == 0 {
            state.receive(&reset(id, 8));
            state.release(key);
        } else {
            respond(&mut state, key);
            state.release(key);
        }
        state.wrote(state.output().len());
        assert_eq!(state.fatal(), None, "{n}");
    }
}

#[test]
fn a_peer_that_does_not_read_is_not_read_from() {
    let mut state = begin(Side::Server, Limits { queue: 10_000, ..Limits::default() });
    let mut n = 0;
    while !state.is_full() {
        state.receive(&headers(2 * n + 1, END, &get(&[])));
        let (key, _) = state.accept().unwrap();
        respond(&mut state, key);
        state.release(key);
        n += 1;
        assert!(n < 10_000);
    }
    state.wrote(state.output().len());
    assert!(!state.is_full());
}
