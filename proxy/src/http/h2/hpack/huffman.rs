//! Huffman coding of header text (RFC 7541, appendix B): decoding. We never send it.
//!
//! In: coded bytes. Out: text. The code is canonical: lengths of the codes are all there is to know. Eight bits are looked
//! up at once, which is enough for whatever is common in headers; longer codes are found by their length.

use super::Bad;

/// Bits of the code of each byte, and of the end of text.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26, 30,
];
const END: u16 = 256;
const LONGEST: usize = 30;

/// What the code's lengths imply.
struct Tables {
    /// Symbol and length by the next eight bits; length 0 if the code is longer.
    short: [(u8, u8); 256],
    /// Symbols by length, then by value.
    sorted: [u16; 257],
    /// By length: the first code, in the upper bits of 32.
    first: [u32; LONGEST + 1],
    /// By length: what is beyond its last code, in the upper bits of 32.
    beyond: [u64; LONGEST + 1],
    /// By length: where its symbols begin in `sorted`.
    start: [u16; LONGEST + 1],
}

static TABLES: Tables = tables();

const fn tables() -> Tables {
    let mut t = Tables {
        short: [(0, 0); 256],
        sorted: [0; 257],
        first: [0; LONGEST + 1],
        beyond: [0; LONGEST + 1],
        start: [0; LONGEST + 1],
    };
    let (mut code, mut placed, mut length) = (0_u64, 0_usize, 1_usize);
    while length <= LONGEST {
        code <<= 1;
        t.first[length] = (code << (32 - length)) as u32;
        t.start[length] = placed as u16;
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == length {
                t.sorted[placed] = symbol as u16;
                placed += 1;
                if length <= 8 {
                    let mut at = (code << (8 - length)) as usize;
                    let end = ((code + 1) << (8 - length)) as usize;
                    while at < end {
                        t.short[at] = (symbol as u8, length as u8);
                        at += 1;
                    }
                }
                code += 1;
            }
            symbol += 1;
        }
        t.beyond[length] = code << (32 - length);
        length += 1;
    }
    t
}

/// The symbol that begins `bits`, and its length.
#[inline]
fn symbol(bits: u32) -> (u16, u32) {
    let (symbol, length) = TABLES.short[(bits >> 24) as usize];
    if length > 0 {
        return (u16::from(symbol), u32::from(length));
    }
    let length = (9..LONGEST).find(|l| u64::from(bits) < TABLES.beyond[*l]).unwrap_or(LONGEST);
    let nth = (bits - TABLES.first[length]) >> (32 - length);
    let at = usize::from(TABLES.start[length]) + nth as usize;
    (TABLES.sorted.get(at).copied().unwrap_or(END), length as u32)
}

/// Appends the text that `coded` stands for.
pub(super) fn decode(coded: &[u8], text: &mut Vec<u8>) -> Result<(), Bad> {
    // The shortest code has five bits.
    text.reserve(coded.len() * 8 / 5 + 1);
    let mut coded = coded.iter();
    // The bits to come are the upper `held` ones.
    let (mut bits, mut held) = (0_u64, 0_u32);
    loop {
        while held <= 48 {
            let Some(byte) = coded.next() else { break };
            bits |= u64::from(*byte) << (56 - held);
            held += 8;
        }
        if held == 0 {
            return Ok(());
        }
        // Text is filled up with the first bits of its end, which are ones.
        let filled = bits | (u64::MAX >> held);
        let (symbol, length) = symbol((filled >> 32) as u32);
        if length > held {
            return if held < 8 && filled == u64::MAX { Ok(()) } else { Err(Bad::Huffman) };
        }
        let Ok(byte) = u8::try_from(symbol) else { return Err(Bad::Huffman) };
        text.push(byte);
        bits <<= length;
        held -= length;
    }
}

/// Codes text.
#[cfg(test)]
pub(super) fn encode(text: &[u8], coded: &mut Vec<u8>) {
    let code = |symbol: usize| {
        let length = usize::from(LENGTHS[symbol]);
        let same = LENGTHS[..symbol].iter().filter(|l| usize::from(**l) == length).count() as u32;
        (u64::from(TABLES.first[length] >> (32 - length)) + u64::from(same), length as u32)
    };
    let (mut bits, mut held) = (0_u64, 0);
    for byte in text {
        let (code, length) = code(usize::from(*byte));
        bits = bits << length | code;
        held += length;
        while held >= 8 {
            held -= 8;
            coded.push((bits >> held) as u8);
        }
    }
    if held > 0 {
        coded.push((bits << (8 - held)) as u8 | (0xff_u8 >> held));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, Bad> {
        let mut text = Vec::new();
        decode(coded, &mut text).map(|()| text)
    }

    #[test]
    fn every_byte_survives_coding_alone_and_among_others() {
        for byte in 0..=255_u8 {
            for text in [vec![byte], vec![byte, b'a'], vec![b'0', byte, byte, b'z'], vec![byte; 9]] {
                let mut coded = Vec::new();
                encode(&text, &mut coded);
                assert_eq!(decoded(&coded).as_deref(), Ok(&text[..]), "{byte}");
            }
        }
    }

    #[test]
    fn text_is_decoded_as_the_standard_shows() {
        assert_eq!(
            decoded(&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff]).unwrap(),
            b"www.example.com"
        );
        assert_eq!(decoded(&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf]).unwrap(), b"custom-value");
        assert_eq!(decoded(&[]).unwrap(), b"");
    }

    #[test]
    fn padding_that_is_long_or_no_ones_and_the_end_of_text_are_refused() {
        // 'a' is 00011.
        assert_eq!(decoded(&[0b0001_1111]).unwrap(), b"a");
        assert_eq!(decoded(&[0b0001_1111, 0xff]), Err(Bad::Huffman));
        assert_eq!(decoded(&[0b0001_1000]), Err(Bad::Huffman));
        assert_eq!(decoded(&[0xff]), Err(Bad::Huffman));
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), Err(Bad::Huffman));
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xfc]), Err(Bad::Huffman));
    }
}
