//! Windows of the peer's, by what we send.

use std::task::{Context, Poll, Waker};

use super::super::streams::Key;
use super::super::{Limits, Side, State};
use super::wire::*;
use crate::http::message::{Length, ResponseHead};
use crate::stream::buffer::PIECE;

fn asked(first: &[Vec<u8>]) -> (State, Key) {
    let mut state = begin(Side::Server, Limits::default());
    state.receive(&first.concat());
    state.receive(&headers(1, END, &get(&[])));
    let (key, _) = state.accept().unwrap();
    state.send_response(key, &ResponseHead { length: Length::Unknown, ..ResponseHead::new(200) }).unwrap();
    state.wrote(state.output().len());
    (state, key)
}

/// Sends what the windows allow of so many bytes; how many these were.
fn send(state: &mut State, key: Key, len: usize) -> usize {
    let cx = Context::from_waker(Waker::noop());
    let body = vec![b'x'; len];
    let mut sent = 0;
    while sent < len {
        match state.send_data(key, &body[sent..], true, &cx) {
            Poll::Ready(n) => sent += n.unwrap(),
            Poll::Pending => break,
        }
        state.wrote(state.output().len());
    }
    sent
}

#[test]
fn a_stream_sends_what_its_window_allows() {
    let (mut state, key) = asked(&[settings(&[(4, 3)])]);
    assert_eq!(send(&mut state, key, 5), 3);
    state.receive(&window(1, 1));
    assert_eq!(send(&mut state, key, 2), 1);
    state.receive(&window(1, 1));
    assert_eq!(send(&mut state, key, 1), 1);
}

#[test]
fn a_window_that_was_taken_back_is_paid_first() {
    let (mut state, key) = asked(&[settings(&[(4, 3)])]);
    assert_eq!(send(&mut state, key, 5), 3);
    state.receive(&settings(&[(4, 0)]));
    state.receive(&window(1, 3));
    assert_eq!(send(&mut state, key, 2), 0);
    state.receive(&window(1, 1));
    assert_eq!(send(&mut state, key, 2), 1);
    state.receive(&settings(&[(4, 1)]));
    assert_eq!(send(&mut state, key, 1), 1);
}

#[test]
fn the_window_of_the_connection_holds_for_all_streams() {
    let (mut state, key) = asked(&[settings(&[(4, 1 << 20)])]);
    assert_eq!(send(&mut state, key, 100_000), 65_535);
    state.receive(&headers(3, END, &get(&[])));
    let (other, _) = state.accept().unwrap();
    state.send_response(other, &ResponseHead { length: Length::Unknown, ..ResponseHead::new(200) }).unwrap();
    assert_eq!(send(&mut state, other, 1), 0);
    state.receive(&window(0, 10));
    assert_eq!(send(&mut state, other, 1), 1);
    assert_eq!(send(&mut state, key, 100), 9);
}

#[test]
fn frames_are_no_larger_than_everybody_takes_and_trailers_need_no_window() {
    let (mut state, key) = asked(&[settings(&[(5, 1 << 20)])]);
    let cx = Context::from_waker(Waker::noop());
    assert!(matches!(state.send_data(key, &[0; 40_000], false, &cx), Poll::Ready(Ok(40_000))));
    assert_eq!(said(state.output()), ["data 1 16375", "data 1 16375", "data 1 7250"]);
    let (mut state, key) = asked(&[settings(&[(4, 0)])]);
    assert_eq!(send(&mut state, key, 1), 0);
    state.send_end(key, None).unwrap();
    assert_eq!(said(state.output()), ["data 1 0 end"]);
}

#[test]
fn a_stream_takes_its_share_of_a_turn_and_no_more() {
    let (mut state, key) = asked(&[settings(&[(4, 1 << 20)]), window(0, 1 << 20)]);
    let cx = Context::from_waker(Waker::noop());
    let body = vec![0; 200_000];
    assert!(matches!(state.send_data(key, &body, false, &cx), Poll::Ready(Ok(PIECE))));
    assert!(state.send_data(key, &body, false, &cx).is_pending());
    state.wrote(state.output().len());
    assert!(matches!(state.send_data(key, &body, false, &cx), Poll::Ready(Ok(PIECE))));
}

#[test]
fn a_peer_that_never_quite_catches_up_does_not_let_the_queue_grow() {
    let (mut state, key) = asked(&[settings(&[(4, 0x7fff_ffff)]), window(0, 0x7fff_0000)]);
    let cx = Context::from_waker(Waker::noop());
    for _ in 0..200 {
        let _ = state.send_data(key, &[0; 30_000], false, &cx);
        // A frame is always left, and the turn never ends for those who wait.
        let n = state.output().len().saturating_sub(100);
        state.wrote(n);
        state.receive(&raw(6, 0, 0, b"12345678"));
        state.receive(&raw(6, 0, 0, b"12345678"));
        assert!(state.held() < 500_000);
    }
}

#[test]
fn a_peer_that_opens_its_windows_by_little_is_no_flood() {
    let (mut state, key) = asked(&[]);
    for _ in 0..20_000 {
        assert_eq!(send_part(&mut state, key, 16_384), 16_384);
        for _ in 0..4 {
            state.receive(&[window(0, 4096), window(1, 4096)].concat());
        }
        assert_eq!(state.fatal(), None);
    }
}

fn send_part(state: &mut State, key: Key, len: usize) -> usize {
    let cx = Context::from_waker(Waker::noop());
    let sent = state.send_data(key, &vec![0; len], false, &cx);
    state.wrote(state.output().len());
    match sent {
        Poll::Ready(n) => n.unwrap(),
        Poll::Pending => 0,
    }
}
