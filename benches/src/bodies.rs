//! What the server answers and the loader expects: fixed bytes in which a lost, doubled or swapped part shows.

/// Of `GET /`.
pub(crate) const TINY: &[u8] = b"ok\n";
/// Of a message there and back.
pub(crate) const MESSAGE: usize = 64;
/// The pattern of bulk data repeats after as many bytes.
pub(crate) const BLOCK: usize = 256 * 1024;

/// Of `GET /1k`.
pub(crate) fn kilobyte() -> Vec<u8> {
    let mut bytes = noise(1024, 1);
    // Printable, and no line ends.
    bytes.iter_mut().for_each(|b| *b = b'!' + *b % 94);
    bytes
}

/// Of bulk data. Its first byte tells the server that nothing is to be sent back.
pub(crate) fn block() -> Vec<u8> {
    let mut bytes = noise(BLOCK, 2);
    bytes[0] = b'D';
    bytes
}

/// The message with a number.
pub(crate) fn message(number: u64) -> [u8; MESSAGE] {
    let mut bytes = [b'm'; MESSAGE];
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    bytes[MESSAGE - 8..].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// A message of gRPC: five bytes of framing, then `length` bytes.
pub(crate) fn grpc(length: u8) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 0, length];
    bytes.extend(noise(usize::from(length), 3));
    bytes
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ seed;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}
