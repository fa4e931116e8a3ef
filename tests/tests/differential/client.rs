//! The client of HTTP/1: it sends what a case says, and tells every answer and what became of the connection.

use hawser_tests::wait;

use crate::message::{Body, Head};
use crate::seen::{Seen, fields};
use crate::stream::{Ended, Stream};
use crate::text::{self, Lines, Step};
use crate::{PAUSE, PROBE};

/// Plays a case on a connection; `slow` leaves the proxy time before the connection is tried again.
pub(crate) fn play(mut stream: Stream, send: &str, name: &str, answers: usize, slow: bool) -> Seen {
    let mut seen = Seen::default();
    let head_only = send.starts_with("HEAD ");
    let mut finals = 0;
    let mut half_closed = false;
    let mut over = false;
    for step in text::steps(send, name, Lines::Http1) {
        match step {
            Step::Bytes(bytes) => stream.write(&bytes),
            Step::Read => match answer(&mut stream, &mut seen, head_only) {
                Ok(status) => finals += usize::from(status >= 200 || status == 101),
                Err(ended) => {
                    end(&mut seen, ended);
                    over = true;
                    break;
                }
            },
            Step::ReadBytes(n) => match stream.exactly(n) {
                Ok(bytes) => seen.client(format!("  {:?}", crate::seen::text(&bytes))),
                Err(ended) => {
                    end(&mut seen, ended);
                    over = true;
                    break;
                }
            },
            Step::Eof => {
                stream.eof();
                half_closed = true;
            }
            Step::Pause => wait::between_looks(PAUSE),
            Step::Close => return seen,
            Step::Reset => {
                stream.reset();
                return seen;
            }
            other => panic!("{other:?} is nothing that a client of HTTP/1 does"),
        }
    }
    while !over && finals < answers {
        match answer(&mut stream, &mut seen, head_only) {
            Ok(status) => finals += usize::from(status >= 200 || status == 101),
            Err(ended) => {
                end(&mut seen, ended);
                over = true;
            }
        }
    }
    if !over {
        if slow {
            wait::between_looks(PAUSE);
        }
        last(&mut stream, &mut seen, name, half_closed);
    }
    seen
}

/// One answer; its status.
fn answer(stream: &mut Stream, seen: &mut Seen, head_only: bool) -> Result<u16, Ended> {
    let head = Head::read(stream)?;
    let status = head.status();
    seen.client(head.first.clone());
    fields(&head.fields).for_each(|line| seen.client(format!("  {line}")));
    if status == 101 || (100..200).contains(&status) {
        return Ok(status);
    }
    let bodiless = head_only || status == 204 || status == 304;
    if !bodiless {
        let body = Body::read(stream, &head, true);
        seen.client_body(&body);
    }
    Ok(status)
}

/// Whether the connection goes on is found by using it.
fn last(stream: &mut Stream, seen: &mut Seen, name: &str, half_closed: bool) {
    if half_closed {
        let (rest, ended) = stream.rest();
        if !rest.is_empty() {
            seen.client(format!("  then {:?}", crate::seen::text(&rest)));
        }
        end(seen, ended);
        return;
    }
    stream.write(format!("GET {PROBE} HTTP/1.1\r\nhost: {}\r\n\r\n", text::host(name)).as_bytes());
    match Head::read(stream) {
        Ok(head) => {
            let status = head.status();
            seen.client(format!("the connection goes on: {status}"));
        }
        Err(ended) => end(seen, ended),
    }
}

fn end(seen: &mut Seen, ended: Ended) {
    seen.client(match ended {
        Ended::Closed => "the connection is closed".to_owned(),
        Ended::Silent => "nothing more comes".to_owned(),
    });
}
