use super::*;
use rustls::crypto::cipher::{AeadKey, Iv};

/// What a fixed pair agreed on; the n-th secrets of each direction.
struct Fixed {
    is_client: bool,
    tx: u8,
    rx: u8,
    tickets: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

fn secrets(from_client: bool, generation: u8) -> ConnectionTrafficSecrets {
    let seed = generation * 2 + u8::from(from_client);
    ConnectionTrafficSecrets::Aes256Gcm { key: AeadKey::from([seed; 32]), iv: Iv::from([seed; 12]) }
}

impl Renewal for Fixed {
    fn next_tx(&mut self) -> Result<ConnectionTrafficSecrets, rustls::Error> {
        self.tx += 1;
        Ok(secrets(self.is_client, self.tx))
    }

    fn next_rx(&mut self) -> Result<ConnectionTrafficSecrets, rustls::Error> {
        self.rx += 1;
        Ok(secrets(!self.is_client, self.rx))
    }

    fn ticket(&mut self, message: &[u8]) -> Result<bool, rustls::Error> {
        self.tickets.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        match message {
            b"bad" => Err(rustls::Error::DecryptError),
            _ => Ok(self.is_client),
        }
    }
}

fn side(is_client: bool) -> Records {
    let renewal = Box::new(Fixed { is_client, tx: 0, rx: 0, tickets: std::sync::Arc::default() });
    let pair = ExtractedSecrets { tx: (0, secrets(is_client, 0)), rx: (0, secrets(!is_client, 0)) };
    Records::new(pair, renewal).unwrap()
}

/// What the other end of a client would seal with.
fn server_key(generation: u8) -> Key {
    Key::new(0, &secrets(false, generation)).unwrap()
}

fn sealed(key: &mut Key, kind: u8, plain: &[u8]) -> Vec<u8> {
    let mut out = vec![0; plain.len() + OVERHEAD];
    key.seal(kind, plain, &mut out).unwrap();
    out
}

fn seal(records: &mut Records, plain: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 2 * plain.len() + 1000];
    let (taken, written) = records.seal(&[IoSlice::new(plain)], &mut out).unwrap();
    assert_eq!(taken, plain.len());
    out.truncate(written);
    out
}

/// All data of `wire`, which holds whole records.
fn open_all(records: &mut Records, wire: &mut [u8]) -> Result<Vec<u8>, Fault> {
    let (mut at, mut data) = (0, Vec::new());
    while at < wire.len() {
        match records.open(&mut wire[at..])? {
            Opened::Record { whole, data: range } => {
                data.extend_from_slice(&wire[at..][range]);
                at += whole;
            }
            Opened::More => panic!("half a record"),
            Opened::Closed => break,
        }
    }
    Ok(data)
}

#[test]
fn what_one_end_seals_the_other_opens_in_order() {
    let (mut client, mut server) = (side(true), side(false));
    for length in [1, 2, 100, MOST - 1, MOST, MOST + 1, 3 * MOST, 100_000] {
        let plain: Vec<u8> = (0..length).map(|i| (i * 7 % 251) as u8).collect();
        assert_eq!(open_all(&mut server, &mut seal(&mut client, &plain)).unwrap(), plain);
        assert_eq!(open_all(&mut client, &mut seal(&mut server, &plain)).unwrap(), plain);
    }
}

#[test]
fn short_slices_share_a_record_and_no_room_is_overrun() {
    let parts: Vec<Vec<u8>> = [3, 0, 9, 20_000, 1, 17_000, 5].map(|n| vec![n as u8; n]).to_vec();
    let slices: Vec<IoSlice<'_>> = parts.iter().map(|p| IoSlice::new(p)).collect();
    let all = parts.concat();
    for room in (0..120).chain([MOST, MOST + OVERHEAD, MOST + OVERHEAD + 1, 40_000, 60_000]) {
        let (mut client, mut server) = (side(true), side(false));
        let mut out = vec![0; room];
        let (taken, written) = client.seal(&slices, &mut out).unwrap();
        assert_eq!(taken == 0, room <= OVERHEAD, "{room}");
        assert_eq!(open_all(&mut server, &mut out[..written]).unwrap(), all[..taken]);
    }
    let (taken, written) = side(true).seal(&slices, &mut vec![0; 60_000]).unwrap();
    assert_eq!((taken, written), (all.len(), all.len() + 3 * OVERHEAD));
    assert_eq!(side(true).seal(&[], &mut [0; 100]).unwrap(), (0, 0));
}

#[test]
fn a_record_that_was_touched_is_not_opened() {
    let record = seal(&mut side(true), b"some words");
    for at in 0..record.len() {
        for bit in [1, 0x80] {
            let mut touched = record.clone();
            touched[at] ^= bit;
            let opened = side(false).open(&mut touched);
            assert!(matches!(opened, Err(_) | Ok(Opened::More)), "{at}: {opened:?}");
            assert!(opened != Ok(Opened::More) || matches!(at, 3 | 4), "{at}");
        }
    }
}

#[test]
fn a_record_that_comes_twice_or_too_early_is_not_opened() {
    let mut client = side(true);
    let (first, second) = (seal(&mut client, b"one"), seal(&mut client, b"two"));
    let mut server = side(false);
    open_all(&mut server, &mut first.clone()).unwrap();
    assert_eq!(open_all(&mut server, &mut first.clone()), Err(Fault::NotAuthentic));
    assert_eq!(open_all(&mut side(false), &mut second.clone()), Err(Fault::NotAuthentic));
}

#[test]
fn half_a_record_waits() {
    let mut record = seal(&mut side(true), b"some words");
    let mut server = side(false);
    let whole = record.len();
    for end in 0..whole {
        assert_eq!(server.open(&mut record[..end]).unwrap(), Opened::More);
    }
    assert_eq!(open_all(&mut server, &mut record).unwrap(), b"some words");
}

#[test]
fn what_is_too_long_is_refused_before_it_is_there() {
    let mut server = side(false);
    assert_eq!(server.open(&mut [23, 3, 3, 0x41, 0x00]).unwrap(), Opened::More);
    assert_eq!(server.open(&mut [23, 3, 3, 0x41, 0x01]), Err(Fault::TooLong));
    // Sealed within the limit, but the data is not.
    let mut record = sealed(&mut server_key(0), DATA, &[1; MOST + 1]);
    assert_eq!(side(true).open(&mut record), Err(Fault::TooLong));
}

#[test]
fn what_is_not_sealed_is_refused() {
    for (kind, fault) in [
        (CHANGE_CIPHER_SPEC, Fault::Unexpected),
        (ALERT, Fault::Unexpected),
        (HANDSHAKE, Fault::Unexpected),
        (99, Fault::Malformed),
    ] {
        assert_eq!(side(true).open(&mut [kind, 3, 3, 0, 2, 1, 0]), Err(fault));
    }
    assert_eq!(side(true).open(&mut [23, 3, 3, 0, 0]), Err(Fault::NotAuthentic));
}

#[test]
fn padding_goes_and_a_record_of_padding_alone_is_refused() {
    // The kind comes after the data: zeros behind it.
    let mut padded = sealed(&mut server_key(0), 0, b"words\x17\0\0\0");
    assert_eq!(open_all(&mut side(true), &mut padded).unwrap(), b"words");
    assert_eq!(side(true).open(&mut sealed(&mut server_key(0), 0, &[0; 40])), Err(Fault::Unexpected));
}

#[test]
fn records_that_bring_nothing_are_counted_until_data_comes() {
    let (mut client, mut server) = (side(true), server_key(0));
    for _ in 0..3 {
        for _ in 0..MOST_FRUITLESS {
            assert_eq!(open_all(&mut client, &mut sealed(&mut server, DATA, b"")).unwrap(), b"");
        }
        assert_eq!(open_all(&mut client, &mut sealed(&mut server, DATA, b"x")).unwrap(), b"x");
    }
    for _ in 0..MOST_FRUITLESS {
        open_all(&mut client, &mut sealed(&mut server, ALERT, &[1, USER_CANCELED])).unwrap();
    }
    assert_eq!(client.open(&mut sealed(&mut server, DATA, b"")), Err(Fault::Unexpected));
}

#[test]
fn keys_are_renewed_and_ours_too_if_asked_before_our_next_data() {
    for asked in [0, 1] {
        let (mut client, mut server) = (side(true), server_key(0));
        open_all(&mut client, &mut sealed(&mut server, HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, asked])).unwrap();
        // What comes now is sealed anew, from number 0 on.
        let mut server = server_key(1);
        assert_eq!(open_all(&mut client, &mut sealed(&mut server, DATA, b"new")).unwrap(), b"new");
        let mut said = seal(&mut client, b"answer");
        assert_eq!(said.len(), OVERHEAD + 6 + usize::from(asked) * (OVERHEAD + 5));
        assert_eq!(open_all(&mut side(false), &mut said).unwrap(), b"answer");
        // Once.
        assert_eq!(seal(&mut client, b"more").len(), OVERHEAD + 4);
    }
}

#[test]
fn a_worn_key_is_renewed_by_itself() {
    let (mut client, mut server) = (side(true), side(false));
    client.tx.wears_after(3);
    for round in 0..10 {
        let mut said = seal(&mut client, b"words");
        client.tx.wears_after(3);
        assert_eq!(said.len() > OVERHEAD + 5, matches!(round, 3 | 6 | 9), "{round}");
        assert_eq!(open_all(&mut server, &mut said).unwrap(), b"words");
    }
}

#[test]
fn messages_that_are_no_renewal_and_no_ticket_end_the_connection() {
    for (message, fault) in [
        (&[KEY_UPDATE, 0, 0, 1, 2][..], Fault::Illegal),
        (&[KEY_UPDATE, 0, 0, 0], Fault::Malformed),
        (&[KEY_UPDATE, 0, 0, 2, 0, 0], Fault::Malformed),
        // New keys, and then something under the old ones.
        (&[KEY_UPDATE, 0, 0, 1, 0, KEY_UPDATE], Fault::Unexpected),
        (&[], Fault::Unexpected),
        (&[1, 0, 0, 0], Fault::Unexpected),
        (&[13, 0xff, 0xff, 0xff], Fault::Unexpected),
        (&[NEW_SESSION_TICKET, 0xff, 0, 0], Fault::TooLong),
        (&[NEW_SESSION_TICKET, 0, 0, 3, b'b', b'a', b'd'], Fault::Malformed),
    ] {
        let mut record = sealed(&mut server_key(0), HANDSHAKE, message);
        assert_eq!(side(true).open(&mut record), Err(fault), "{message:?}");
    }
    let mut ticket = sealed(&mut Key::new(0, &secrets(true, 0)).unwrap(), HANDSHAKE, &[NEW_SESSION_TICKET, 0, 0, 0]);
    assert_eq!(side(false).open(&mut ticket), Err(Fault::Unexpected), "a server is sent no ticket");
    assert_eq!(side(true).open(&mut sealed(&mut server_key(0), 99, b"x")), Err(Fault::Unexpected));
}

#[test]
fn a_message_may_go_on_in_the_next_record_and_nowhere_else() {
    let whole = [NEW_SESSION_TICKET, 0, 0, 3, 1, 2, 3, KEY_UPDATE, 0, 0, 1, 0];
    for cut in 1..whole.len() {
        let (mut client, mut server) = (side(true), server_key(0));
        open_all(&mut client, &mut sealed(&mut server, HANDSHAKE, &whole[..cut])).unwrap();
        open_all(&mut client, &mut sealed(&mut server, HANDSHAKE, &whole[cut..])).unwrap();
        let mut server = server_key(1);
        assert_eq!(open_all(&mut client, &mut sealed(&mut server, DATA, b"x")).unwrap(), b"x", "{cut}");
    }
    for kind in [DATA, ALERT] {
        let (mut client, mut server) = (side(true), server_key(0));
        open_all(&mut client, &mut sealed(&mut server, HANDSHAKE, &whole[..3])).unwrap();
        assert_eq!(client.open(&mut sealed(&mut server, kind, &[1, 0])), Err(Fault::Unexpected));
    }
    // Not without end.
    let (mut client, mut server) = (side(true), server_key(0));
    let mut fault = open_all(&mut client, &mut sealed(&mut server, HANDSHAKE, &[NEW_SESSION_TICKET, 0, 0xff, 0xfc]));
    for _ in 0..4 {
        fault = fault.and_then(|_| open_all(&mut client, &mut sealed(&mut server, HANDSHAKE, &[0; MOST])));
    }
    assert_eq!(fault, Err(Fault::TooLong));
}

#[test]
fn tickets_beyond_some_are_passed_over() {
    let tickets = std::sync::Arc::default();
    let renewal = Box::new(Fixed { is_client: true, tx: 0, rx: 0, tickets: std::sync::Arc::clone(&tickets) });
    let pair = ExtractedSecrets { tx: (0, secrets(true, 0)), rx: (0, secrets(false, 0)) };
    let mut client = Records::new(pair, renewal).unwrap();
    let mut server = server_key(0);
    for _ in 0..3 {
        let mut record = sealed(&mut server, HANDSHAKE, &[NEW_SESSION_TICKET, 0, 0, 1, 9].repeat(7));
        open_all(&mut client, &mut record).unwrap();
    }
    assert_eq!(tickets.load(std::sync::atomic::Ordering::Relaxed), usize::from(MOST_TICKETS));
}

#[test]
fn a_good_bye_ends_and_an_alert_breaks() {
    let (mut client, mut server) = (side(true), side(false));
    let mut out = [0; 100];
    let n = server.close(&mut out).unwrap();
    assert_eq!(client.open(&mut out[..n]).unwrap(), Opened::Closed);
    for (alert, fault) in [
        (&[2, 42][..], Fault::Alert(42)),
        (&[1, 42], Fault::Alert(42)),
        (&[2], Fault::Malformed),
        (&[], Fault::Malformed),
    ] {
        assert_eq!(side(true).open(&mut sealed(&mut server_key(0), ALERT, alert)), Err(fault));
    }
}

#[test]
fn after_a_fault_there_is_one_complaint_and_nothing_else() {
    let (mut client, mut server) = (side(true), side(false));
    let mut good = seal(&mut client, b"good");
    let fault = server.open(&mut [23, 3, 3, 0xff, 0xff]).unwrap_err();
    assert_eq!(server.open(&mut good), Err(Fault::Broken));
    assert_eq!(server.seal(&[IoSlice::new(b"x")], &mut [0; 100]), Err(Fault::Broken));
    assert_eq!(server.close(&mut [0; 100]), Err(Fault::Broken));
    let mut out = [0; 100];
    let n = server.complain(&fault, &mut out);
    assert_eq!(client.open(&mut out[..n]), Err(Fault::Alert(22)));
}
