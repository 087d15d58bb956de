//! Lengths of time in rules: `10s`, `5m`, `1h30m`, `1d`, `1w`.

use crate::rules::settings::SECOND;

/// Event times and windows are added without overflow up to here, as for the flags of `scan`.
const MOST: i64 = i64::MAX / 4;

/// Reads a length, in microseconds.
///
/// # Errors
/// What is wrong, and what to write instead.
pub(super) fn read(text: &str) -> Result<i64, String> {
    let mut rest = text.trim();
    let mut total: i64 = 0;
    if rest.is_empty() {
        return Err("expected a length of time such as 1h".to_owned());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, behind) = rest.split_at_checked(digits).unwrap_or((rest, ""));
        let letters = behind
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(behind.len());
        let (unit, behind) = behind.split_at_checked(letters).unwrap_or((behind, ""));
        let micros = match unit.trim() {
            "us" => 1,
            "ms" => 1000,
            "s" | "sec" => SECOND,
            "m" | "min" => 60 * SECOND,
            "h" => 3600 * SECOND,
            "d" => 86_400 * SECOND,
            "w" => 7 * 86_400 * SECOND,
            "M" | "y" => {
                return Err(format!(
                    "{text}: months and years have no fixed length, write days, such as 30d"
                ));
            }
            "" => {
                return Err(format!(
                    "{text} has no unit: write s, m, h, d or w behind it"
                ));
            }
            _ => {
                return Err(format!(
                    "{text} is no length of time: write a number and s, m, h, d or w, such as 1h"
                ));
            }
        };
        total = number
            .parse::<i64>()
            .ok()
            .and_then(|number| number.checked_mul(micros)?.checked_add(total))
            .filter(|total| *total <= MOST)
            .ok_or_else(|| format!("{text} is too long to be counted"))?;
        rest = behind;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        for (text, wanted) in [
            ("10s", 10),
            ("5m", 300),
            ("1h30m", 5400),
            ("1d", 86_400),
            ("2w", 14 * 86_400),
        ] {
            assert_eq!(read(text), Ok(wanted * SECOND), "{text}");
        }
        assert_eq!(read("1500ms"), Ok(1_500_000));
        for text in ["", "h", "1", "1M", "1x", "-1h", "99999999999999999999h"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
