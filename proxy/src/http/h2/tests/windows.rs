//! Windows of the peer's, by what we send.

use std::task::{Context, Poll, Waker};

use super::super::streams::Key;
use super::super::{Limits, Side, State};
use super::wire::*;
use crate::http::message::{Length, ResponseHead};

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
    assert_eq!(said(state.output()), ["data 1 16384", "data 1 16384", "data 1 7232"]);
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
    assert!(matches!(state.send_data(key, &body, false, &cx), Poll::Ready(Ok(65_536))));
    assert!(state.send_data(key, &body, false, &cx).is_pending());
    state.wrote(state.output().len());
    assert!(matches!(state.send_data(key, &body, false, &cx), Poll::Ready(Ok(65_536))));
}
