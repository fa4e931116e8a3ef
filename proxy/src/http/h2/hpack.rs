//! HPACK (RFC 7541): compressed heads.
//!
//! In: a header block. Out: its fields, one after the other, without a copy of those that were not compressed; and back.
//! Decoding is complete. Encoding uses the fixed table and plain text, nothing that is remembered: copying a kilobyte
//! costs less than finding it in a table, and no state means nothing to bound. Invariant: a block that cannot be decoded ends
//! the connection, because what is remembered is then unknown.

mod encode;
mod huffman;
mod table;

pub(crate) use encode::{request, response, trailers};

use table::{Entry, STATIC, Table, fixed};

use super::valid;
use crate::http::message::Known;

/// The largest table that a peer may fill: what everybody has without being asked.
pub(crate) const TABLE: usize = 4096;

/// What a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// `:authority`
    Authority,
    /// `:method`
    Method,
    /// `:path`
    Path,
    /// `:protocol`
    Protocol,
    /// `:scheme`
    Scheme,
    /// `:status`
    Status,
    /// Any other that begins with a colon.
    Pseudo,
    /// A field.
    Field(Known),
}

impl Name {
    pub(crate) fn of(name: &[u8]) -> Self {
        if name.first() != Some(&b':') {
            return Self::Field(Known::of(name));
        }
        match name {
            b":authority" => Self::Authority,
            b":method" => Self::Method,
            b":path" => Self::Path,
            b":protocol" => Self::Protocol,
            b":scheme" => Self::Scheme,
            b":status" => Self::Status,
            _ => Self::Pseudo,
        }
    }
}

/// Why a block cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// It ends within a field.
    #[error("a header block ends within a field")]
    Short,
    /// A number that is too large.
    #[error("a number in a header block is too large")]
    Number,
    /// An index that stands for nothing.
    #[error("an index in a header block stands for nothing")]
    Index,
    /// Text that is not coded as Huffman has it.
    #[error("text in a header block is not Huffman code")]
    Huffman,
    /// A table that is larger than allowed, or resized late.
    #[error("a header table is resized wrongly")]
    Size,
}

/// Counts the fields of blocks that one peer sent one after the other.
///
/// # Errors
/// At the first block that cannot be decoded.
pub fn count_fields(blocks: &[&[u8]]) -> Result<usize, Bad> {
    let (mut decoder, mut count) = (Decoder::default(), 0);
    for block in blocks {
        decoder.decode(block, |_| count += 1)?;
    }
    Ok(count)
}

/// A name and its value.
pub type Field = (Vec<u8>, Vec<u8>);

/// Reads the fields of the last of the blocks that one peer sent one after the other.
///
/// # Errors
/// At the first block that cannot be decoded.
pub fn fields(blocks: &[&[u8]]) -> Result<Vec<Field>, Bad> {
    let (mut decoder, mut last) = (Decoder::default(), Vec::new());
    for block in blocks {
        last.clear();
        decoder.decode(block, |item| last.push((item.name.to_vec(), item.value.to_vec())))?;
    }
    Ok(last)
}

/// A field as it was decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item<'b> {
    pub(crate) tag: Name,
    pub(crate) name: &'b [u8],
    pub(crate) value: &'b [u8],
    /// Name and value are such as a field may have. Values of pseudo headers are for their reader to check.
    pub(crate) valid: bool,
}

/// Decodes what one peer sends.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: Table,
    /// Text that was Huffman code.
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { table: Table::new(TABLE), name: Vec::new(), value: Vec::new() }
    }
}

impl Decoder {
    /// Tells `each` of the fields of a whole block.
    pub(crate) fn decode(&mut self, block: &[u8], mut each: impl FnMut(Item<'_>)) -> Result<(), Bad> {
        let mut block = Block(block);
        let mut begun = false;
        while let Some(&first) = block.0.first() {
            if first & 0x80 != 0 {
                match block.number(7)? {
                    0 => return Err(Bad::Index),
                    index @ 1..=STATIC => {
                        let (name, value, tag) = fixed(index).ok_or(Bad::Index)?;
                        each(Item { tag, name, value, valid: true });
                    }
                    index => {
                        let (name, value, Entry { tag, valid, .. }) =
                            self.table.get(index - STATIC - 1).ok_or(Bad::Index)?;
                        each(Item { tag, name, value, valid });
                    }
                }
            } else if first & 0xe0 == 0x20 {
                // Only what comes first in a block may resize.
                let size = block.number(5)?;
                if begun || size > TABLE {
                    return Err(Bad::Size);
                }
                self.table.resize(size);
                continue;
            } else {
                let remember = first & 0x40 != 0;
                let index = block.number(if remember { 6 } else { 4 })?;
                self.literal(&mut block, index, remember, &mut each)?;
            }
            begun = true;
        }
        // What was long once is not held for ever.
        for text in [&mut self.name, &mut self.value] {
            if text.capacity() > 1024 {
                *text = Vec::new();
            }
        }
        Ok(())
    }

    fn literal(
        &mut self,
        block: &mut Block<'_>,
        index: usize,
        remember: bool,
        each: &mut impl FnMut(Item<'_>),
    ) -> Result<(), Bad> {
        let Self { table, name: name_text, value: value_text } = self;
        // An entry of the table may leave it when another one is added: its name is copied.
        let (tag, name, named): (Name, &[u8], bool) = match index {
            0 => {
                let name = block.text(name_text)?;
                (Name::of(name), name, valid::name(name))
            }
            1..=STATIC => {
                let (name, _, tag) = fixed(index).ok_or(Bad::Index)?;
                (tag, name, true)
            }
            index => {
                let (name, _, Entry { tag, .. }) = table.get(index - STATIC - 1).ok_or(Bad::Index)?;
                name_text.clear();
                name_text.extend_from_slice(name);
                (tag, name_text, valid::name(name_text))
            }
        };
        let value = block.text(value_text)?;
        let valid = named && valid::value(value);
        each(Item { tag, name, value, valid });
        if remember {
            table.add(name, value, tag, valid);
        }
        Ok(())
    }
}

/// What is left of a block.
struct Block<'b>(&'b [u8]);

impl<'b> Block<'b> {
    fn byte(&mut self) -> Result<u8, Bad> {
        let (first, rest) = self.0.split_first().ok_or(Bad::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    /// A number that begins in the lower `bits` of a byte (RFC 7541, 5.1).
    fn number(&mut self, bits: u32) -> Result<usize, Bad> {
        let mask = (1_usize << bits) - 1;
        let first = usize::from(self.byte()?) & mask;
        if first < mask {
            return Ok(first);
        }
        let (mut number, mut shift) = (mask, 0);
        loop {
            let byte = self.byte()?;
            // Nothing in a header block is near 2^28: no overflow, no endless zeros.
            if shift > 21 {
                return Err(Bad::Number);
            }
            number += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
            shift += 7;
        }
    }

    /// Text: as it stands in the block, or in `scratch` if it was coded.
    fn text<'t>(&mut self, scratch: &'t mut Vec<u8>) -> Result<&'t [u8], Bad>
    where
        'b: 't,
    {
        let coded = self.0.first().ok_or(Bad::Short)? & 0x80 != 0;
        let len = self.number(7)?;
        let (text, rest) = self.0.split_at_checked(len).ok_or(Bad::Short)?;
        self.0 = rest;
        if !coded {
            return Ok(text);
        }
        scratch.clear();
        huffman::decode(text, scratch)?;
        Ok(scratch)
    }
}

#[cfg(test)]
mod tests;
