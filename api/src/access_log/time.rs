//! Formats of times: `strftime`'s, with fractions of seconds. Times are in UTC.

use super::FormatError;

/// How a time is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeFormat {
    /// Piece by piece.
    pub parts: Vec<TimePart>,
}

/// A piece of a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimePart {
    /// Text as it is.
    Text(String),
    /// One conversion of `strftime`, one of [`TimePart::KNOWN`].
    Field(char),
    /// Digits of the fraction of a second, 1 to 9.
    Fraction(u8),
}

impl TimePart {
    /// Conversions that are left once all that are short for others are written out: seconds since 1970, year, its last
    /// two digits, month, day, day without leading zero, day of the year, hour, hour of 12, minute, second, AM or PM,
    /// month and weekday in words, short and long, weekday as a number.
    pub const KNOWN: &'static [char] =
        &['s', 'Y', 'y', 'm', 'd', 'e', 'j', 'H', 'I', 'M', 'S', 'p', 'b', 'B', 'a', 'A', 'u', 'w'];
}

impl TimeFormat {
    pub(super) fn parse(operator: &str, format: &str) -> Result<Self, FormatError> {
        let mut made = Self { parts: Vec::new() };
        made.add(operator, format)?;
        Ok(made)
    }

    fn add(&mut self, operator: &str, format: &str) -> Result<(), FormatError> {
        let mut rest = format.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                self.text(c);
                continue;
            }
            match rest.next() {
                Some('%') => self.text('%'),
                Some('n') => self.text('\n'),
                Some('t') => self.text('\t'),
                Some('z') => self.add(operator, "+0000")?,
                Some('Z') => self.add(operator, "UTC")?,
                Some('F') => self.add(operator, "%Y-%m-%d")?,
                Some('T') => self.add(operator, "%H:%M:%S")?,
                Some('R') => self.add(operator, "%H:%M")?,
                Some('D') => self.add(operator, "%m/%d/%y")?,
                Some('r') => self.add(operator, "%I:%M:%S %p")?,
                Some('c') => self.add(operator, "%a %b %e %H:%M:%S %Y")?,
                Some('h') => self.add(operator, "%b")?,
                Some('f') => self.parts.push(TimePart::Fraction(9)),
                Some(digit @ '1'..='9') if rest.clone().next() == Some('f') => {
                    rest.next();
                    self.parts.push(TimePart::Fraction(digit as u8 - b'0'));
                }
                // `%E3S`: seconds with their fraction.
                Some('E') => {
                    let (digits, second) = (rest.next(), rest.next());
                    match (digits, second) {
                        (Some(digit @ '1'..='9'), Some('S')) => {
                            self.add(operator, "%S.")?;
                            self.parts.push(TimePart::Fraction(digit as u8 - b'0'));
                        }
                        (Some('4'), Some('Y')) => self.add(operator, "%Y")?,
                        _ => return Err(unknown(operator, format)),
                    }
                }
                Some(field) if TimePart::KNOWN.contains(&field) => self.parts.push(TimePart::Field(field)),
                _ => return Err(unknown(operator, format)),
            }
        }
        Ok(())
    }

    fn text(&mut self, c: char) {
        match self.parts.last_mut() {
            Some(TimePart::Text(text)) => text.push(c),
            _ => self.parts.push(TimePart::Text(c.to_string())),
        }
    }
}

fn unknown(operator: &str, format: &str) -> FormatError {
    FormatError::new(format!("%{operator}({format})%: it has a conversion that is not supported"))
}
