//! Event time: whole microseconds since 1970, read from and written as RFC 3339.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A point in event time, in microseconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Micros(pub i64);

/// Earlier than every event.
pub const BEGINNING: Micros = Micros(i64::MIN);

impl Micros {
    /// Reads an RFC 3339 date-time and cuts it to the microsecond. `None` when it is none.
    ///
    /// A blank is accepted for `T`, and second 60, as the RFC allows; the year 0 is not, because
    /// Kubernetes never means it.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let number = |from: usize, to: usize| -> Option<i16> {
            let digits = bytes.get(from..to)?;
            digits.iter().try_fold(0i16, |sum, digit| {
                digit
                    .is_ascii_digit()
                    .then(|| sum * 10 + i16::from(digit - b'0'))
            })
        };
        let is = |at: usize, any: &[u8]| bytes.get(at).is_some_and(|byte| any.contains(byte));
        if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":")) {
            return None;
        }
        let year = number(0, 4).filter(|year| *year > 0)?;
        let (month, day) = (number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let date = jiff::civil::Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?)
            .ok()?;

        let mut at = 19;
        let mut fraction = 0i64;
        if is(at, b".") {
            let digits = bytes
                .get(at + 1..)?
                .iter()
                .take_while(|byte| byte.is_ascii_digit());
            let mut length = 0;
            let mut unit = 100_000;
            for digit in digits {
                fraction += i64::from(digit - b'0') * unit;
                unit /= 10;
                length += 1;
            }
            if length == 0 {
                return None;
            }
            at += 1 + length;
        }
        let ahead = match bytes.get(at..)? {
            b"Z" | b"z" => 0,
            [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
                let (hours, minutes) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
                if hours > 23 || minutes > 59 {
                    return None;
                }
                let shift = i64::from(hours) * 3600 + i64::from(minutes) * 60;
                if *sign == b'-' { -shift } else { shift }
            }
            _ => return None,
        };
        let days = i64::from((date - jiff::civil::date(1970, 1, 1)).get_days());
        let seconds =
            days * 86_400 + i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second)
                - ahead;
        Some(Self(seconds * 1_000_000 + fraction))
    }

    /// From nanoseconds since 1970 as OTLP carries them; 0 means unknown.
    pub fn from_unix_nanos(nanos: u64) -> Option<Self> {
        (nanos != 0).then(|| Self(i64::try_from(nanos / 1000).unwrap_or(i64::MAX)))
    }

    /// This time plus a number of microseconds, saturating.
    #[must_use]
    pub fn plus(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// This time less a number of microseconds, saturating.
    #[must_use]
    pub fn minus(self, micros: i64) -> Self {
        Self(self.0.saturating_sub(micros))
    }

    /// Of a protobuf timestamp, saturating.
    pub fn from_proto(time: prost_types::Timestamp) -> Self {
        let micros = time.seconds.saturating_mul(1_000_000);
        Self(micros.saturating_add(i64::from(time.nanos) / 1000))
    }

    /// As a protobuf timestamp.
    pub fn to_proto(self) -> prost_types::Timestamp {
        prost_types::Timestamp {
            seconds: self.0.div_euclid(1_000_000),
            nanos: i32::try_from(self.0.rem_euclid(1_000_000) * 1000).unwrap_or(0),
        }
    }
}

impl fmt::Display for Micros {
    /// `2026-11-25T07:17:03.035818Z`: UTC, six fraction digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Beyond the years the calendar knows, the nearest it can name.
        let time = jiff::Timestamp::from_microsecond(self.0).unwrap_or(if self.0 < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        });
        write!(f, "{time:.6}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_rfc_3339_and_nothing_else() {
        for (text, wanted) in [
            ("1970-01-01T00:00:01.5Z", Some(1_500_000)),
            ("1970-01-01T00:00:00-00:01", Some(60_000_000)),
            ("1970-01-01 02:00:00.1234569+02:00", Some(123_456)),
            ("1970-01-01t00:00:60z", Some(60_000_000)),
            ("1969-12-31T23:59:59.999999Z", Some(-1)),
            ("", None),
            ("2026-01-01", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-02-29T00:00:00Z", None),
            ("0000-01-01T00:00:00Z", None),
            ("2026-01-01T24:00:00Z", None),
            ("2026-01-01T00:00:00", None),
            ("2026-01-01T00:00:00.Z", None),
            ("2026-01-01T00:00:00+0200", None),
            ("2026-01-01T00:00:00Zx", None),
            ("２026-01-01T00:00:00Z", None),
        ] {
            assert_eq!(Micros::parse(text), wanted.map(Micros), "{text}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for text in [
            "2026-11-25T07:17:03.035818Z",
            "0001-01-01T00:00:00.000000Z",
            "1969-12-31T23:59:59.999999Z",
        ] {
            assert_eq!(Micros::parse(text).unwrap().to_string(), text);
        }
        assert!(Micros(i64::MAX).to_string().starts_with("9999-12-3"));
        assert!(Micros(i64::MIN).to_string().starts_with("-009999-01-0"));
    }
}
