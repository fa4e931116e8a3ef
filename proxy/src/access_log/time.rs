//! Times as text. Dates are in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hawser_api::access_log::{TimeFormat, TimePart};

use super::text::{number, padded};

/// Remembers the last second that was written: most lines of a worker share one.
#[derive(Clone, Debug)]
pub struct Clock {
    date: Date,
    /// `2026-02-03T04:05:06.`
    iso: Vec<u8>,
}

/// A second, taken apart.
#[derive(Clone, Copy, Debug)]
struct Date {
    /// Since 1970.
    second: u64,
    year: u64,
    /// 1 to 12.
    month: u64,
    /// 1 to 31.
    day: u64,
    /// 1 to 366.
    day_of_year: u64,
    /// From Sunday, 0.
    weekday: u64,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl Default for Clock {
    fn default() -> Self {
        let mut clock = Self { date: Date::of(0), iso: Vec::with_capacity(24) };
        clock.set(0);
        clock
    }
}

impl Clock {
    /// Writes a time; without a format as ISO 8601 with milliseconds.
    pub(super) fn write(&mut self, time: SystemTime, format: Option<&TimeFormat>, out: &mut Vec<u8>) {
        // A clock before 1970 is no clock.
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if since.as_secs() != self.date.second {
            self.set(since.as_secs());
        }
        match format {
            None => {
                let millis = since.subsec_millis();
                let digit = |of: u32| b'0' + (millis / of % 10) as u8;
                out.extend_from_slice(&self.iso);
                out.extend_from_slice(&[digit(100), digit(10), digit(1), b'Z']);
            }
            Some(format) => format.parts.iter().for_each(|part| self.date.write(part, since, out)),
        }
    }

    fn set(&mut self, second: u64) {
        let date = Date::of(second);
        self.date = date;
        self.iso.clear();
        let out = &mut self.iso;
        for (value, width, then) in [
            (date.year, 4, b'-'),
            (date.month, 2, b'-'),
            (date.day, 2, b'T'),
            (date.hour(), 2, b':'),
            (date.minute(), 2, b':'),
            (second % 60, 2, b'.'),
        ] {
            padded(value, width, out);
            out.push(then);
        }
    }
}

/// A second since 1970 as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) fn http_date(second: u64) -> [u8; 29] {
    let date = Date::of(second);
    let name = |names: &[&'static str], at: u64| {
        let name = names.get(at as usize).map_or(&b"   "[..], |name| name.as_bytes());
        [name[0], name[1], name[2]]
    };
    let two = |n: u64| [b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8];
    let mut out = *b"Day, 00 Mon 0000 00:00:00 GMT";
    out[..3].copy_from_slice(&name(&WEEKDAYS, date.weekday));
    out[5..7].copy_from_slice(&two(date.day));
    out[8..11].copy_from_slice(&name(&MONTHS, date.month - 1));
    out[12..14].copy_from_slice(&two(date.year / 100));
    out[14..16].copy_from_slice(&two(date.year));
    for (at, n) in [(17, date.hour()), (20, date.minute()), (23, second % 60)] {
        out[at..at + 2].copy_from_slice(&two(n));
    }
    out
}

impl Date {
    /// Days become a date by counting from March, so that the leap day is the last of its year.
    fn of(second: u64) -> Self {
        const YEARS_400: u64 = 146_097;
        let days = second / 86_400;
        let shifted = days + 719_468;
        let (era, day) = (shifted / YEARS_400, shifted % YEARS_400);
        let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let from_march = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * from_march + 2) / 153;
        let day = from_march - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
        let before = if month > 2 { 59 + u64::from(leap) } else { 0 };
        let day_of_year = if month > 2 { before + from_march + 1 } else { from_march + 1 - 306 };
        Self { second, year, month, day, day_of_year, weekday: (days + 4) % 7 }
    }

    fn hour(&self) -> u64 {
        self.second % 86_400 / 3600
    }

    fn minute(&self) -> u64 {
        self.second % 3600 / 60
    }

    fn write(&self, part: &TimePart, since: Duration, out: &mut Vec<u8>) {
        let name = |names: &[&'static str], at: u64| names.get(at as usize).copied().unwrap_or_default();
        let field = match part {
            TimePart::Text(text) => return out.extend_from_slice(text.as_bytes()),
            TimePart::Fraction(digits) => {
                let digits = (*digits).clamp(1, 9);
                let value = u64::from(since.subsec_nanos()) / 10u64.pow(9 - u32::from(digits));
                return padded(value, digits.into(), out);
            }
            TimePart::Field(field) => field,
        };
        match field {
            's' => number(self.second, out),
            'Y' => number(self.year, out),
            'y' => padded(self.year, 2, out),
            'm' => padded(self.month, 2, out),
            'd' => padded(self.day, 2, out),
            'e' => {
                if self.day < 10 {
                    out.push(b' ');
                }
                number(self.day, out);
            }
            'j' => padded(self.day_of_year, 3, out),
            'H' => padded(self.hour(), 2, out),
            'I' => padded((self.hour() + 11) % 12 + 1, 2, out),
            'M' => padded(self.minute(), 2, out),
            'S' => padded(self.second % 60, 2, out),
            'p' => out.extend_from_slice(if self.hour() < 12 { b"AM" } else { b"PM" }),
            'B' => out.extend_from_slice(name(&MONTHS, self.month - 1).as_bytes()),
            'b' => out.extend_from_slice(&name(&MONTHS, self.month - 1).as_bytes()[..3]),
            'A' => out.extend_from_slice(name(&WEEKDAYS, self.weekday).as_bytes()),
            'a' => out.extend_from_slice(&name(&WEEKDAYS, self.weekday).as_bytes()[..3]),
            'u' => number((self.weekday + 6) % 7 + 1, out),
            'w' => number(self.weekday, out),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use hawser_api::access_log::{Operator, Part, parse};

    use super::*;

    fn written(seconds: u64, nanos: u32, format: &str) -> String {
        let parts = parse(&format!("%START_TIME({format})%")).unwrap();
        let [Part::Operator(Operator::StartTime(format))] = parts.as_slice() else { panic!("{parts:?}") };
        let mut out = Vec::new();
        Clock::default().write(UNIX_EPOCH + Duration::new(seconds, nanos), format.as_ref(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_written_as_the_format_says() {
        for (seconds, format, text) in [
            (0, "", "1970-01-01T00:00:00.123Z"),
            (951_782_399, "", "2000-02-28T23:59:59.123Z"),
            (951_782_400, "%F %j %a", "2000-02-29 060 Tue"),
            (951_868_800, "%F %j", "2000-03-01 061"),
            (1_767_225_599, "%F %T %j %A %B", "2025-12-31 23:59:59 365 Wednesday December"),
            (4_107_542_400, "%F %j", "2100-03-01 060"),
            (1_527_590_590, "%s.%3f", "1527590590.123"),
            (1_527_590_590, "%Y/%m/%dT%H:%M:%S%z %s", "2018/05/29T10:43:10+0000 1527590590"),
            (1_527_590_590, "%E6S %f %e %y %I %p %Z %%", "10.123456 123456789 29 18 10 AM UTC %"),
            (1_527_552_000, "%I %p %u %w %D %R", "12 AM 2 2 05/29/18 00:00"),
        ] {
            assert_eq!(written(seconds, 123_456_789, format), text, "{format}");
        }
    }

    #[test]
    fn a_clock_notices_another_second() {
        let mut clock = Clock::default();
        let mut at = |seconds| {
            let mut out = Vec::new();
            clock.write(UNIX_EPOCH + Duration::from_secs(seconds), None, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(at(59), "1970-01-01T00:00:59.000Z");
        assert_eq!(at(60), "1970-01-01T00:01:00.000Z");
        assert_eq!(at(59), "1970-01-01T00:00:59.000Z");
    }
}
