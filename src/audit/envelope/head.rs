//! What journald, syslog and klog write before a message.
//!
//! A head is accepted as a whole or not at all, from the first byte of a text to the brace: in the
//! free text of other logs stands what strangers send, such as a user agent, and it must never pass
//! as an audit event.

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Whether this is a head, and nothing more.
pub(super) fn is_head(before: &[u8]) -> bool {
    std::str::from_utf8(before).is_ok_and(|before| {
        is_klog(before).is_some() || is_structured(before).is_some() || is_plain(before).is_some()
    })
}

/// `I1125 10:00:00.123456       1 audit.go:12] `
fn is_klog(before: &str) -> Option<()> {
    let mut words = before.split_ascii_whitespace();
    let (severity, date) = words.next()?.split_at_checked(1)?;
    let is_first = matches!(severity, "I" | "W" | "E" | "F") && before.starts_with(severity);
    when(is_first && date.len() == 4 && is_number(date))?;
    when(is_clock(words.next()?) && is_number(words.next()?))?;
    let (file, line) = words.next()?.strip_suffix(']')?.rsplit_once(':')?;
    when(is_name(file) && is_number(line) && words.next().is_none())
}

/// `<110>1 2026-11-25T10:00:00.123456Z node kube-apiserver 12 - - `, by RFC 5424.
fn is_structured(before: &str) -> Option<()> {
    let mut rest = priority(before)?.strip_prefix("1 ")?;
    let mut word = || {
        let (word, behind) = rest.split_once(' ')?;
        rest = behind;
        Some(word).filter(|word| !word.is_empty())
    };
    let time = word()?;
    when(time == "-" || is_date_time(time))?;
    let _host_application_process_and_message = (word()?, word()?, word()?, word()?);
    let rest = match rest.strip_prefix('-') {
        Some(rest) => rest,
        None => elements(rest)?,
    };
    when(
        rest.trim_start_matches(' ')
            .trim_start_matches('\u{feff}')
            .is_empty(),
    )
}

/// Passes over structured data: `[id name="value"][id]`.
fn elements(mut rest: &str) -> Option<&str> {
    when(rest.starts_with('['))?;
    while let Some(element) = rest.strip_prefix('[') {
        let (mut is_quoted, mut is_escaped) = (false, false);
        let end = element.find(|letter| {
            match letter {
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = true,
                '"' => is_quoted = !is_quoted,
                ']' => return !is_quoted,
                _ => {}
            }
            false
        })?;
        rest = element.get(end + 1..)?;
    }
    Some(rest)
}

/// `Nov 25 10:00:00 node kube-apiserver[12]: ` and the like. The process must be there with its
/// number: a time, a level and a word with a colon begin the free text of many logs.
fn is_plain(before: &str) -> Option<()> {
    let rest = priority(before).unwrap_or(before);
    when(!rest.starts_with(' '))?;
    let mut words = rest.split_ascii_whitespace();
    let first = words.next()?;
    if MONTHS.contains(&first) {
        let day = words.next()?;
        when(day.len() < 3 && is_number(day) && is_clock(words.next()?))?;
    } else if DAYS.contains(&first) {
        let (date, clock, _zone) = (words.next()?, words.next()?, words.next()?);
        when(is_date(date) && is_clock(clock))?;
    } else if is_date(first) {
        when(is_clock(words.next()?))?;
    } else {
        when(is_date_time(first) || is_seconds(first))?;
    }
    let mut process = words.next()?;
    if let Some(next) = words.next() {
        when(is_host(process))?;
        process = next;
    }
    let (name, number) = process.strip_suffix("]:")?.split_once('[')?;
    when(is_name(name) && is_number(number) && words.next().is_none())
}

/// What is behind `<110>`.
fn priority(text: &str) -> Option<&str> {
    let (number, rest) = text.strip_prefix('<')?.split_once('>')?;
    (number.len() < 4 && is_number(number)).then_some(rest)
}

fn when(is_so: bool) -> Option<()> {
    is_so.then_some(())
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// The name of a process or of a file.
fn is_name(word: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._/@()+-".contains(&byte);
    !word.is_empty() && word.bytes().all(is_letter)
}

fn is_host(word: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    word.bytes().all(is_letter) && !word.ends_with(':')
}

/// Whether the digits of a word stand where those of a pattern do, and all else is the same.
fn is_like(word: &str, pattern: &str) -> bool {
    word.len() == pattern.len()
        && word
            .bytes()
            .zip(pattern.bytes())
            .all(|(byte, wanted)| match wanted {
                b'0' => byte.is_ascii_digit(),
                wanted => byte == wanted,
            })
}

fn is_date(word: &str) -> bool {
    is_like(word, "0000-00-00")
}

/// `10:00:00`, with a fraction or without.
fn is_clock(word: &str) -> bool {
    let (clock, fraction) = word.split_once('.').unwrap_or((word, "0"));
    is_like(clock, "00:00:00") && is_number(fraction)
}

/// `2026-11-25T10:00:00.123+0000`
fn is_date_time(word: &str) -> bool {
    let is_rest = |byte: u8| byte.is_ascii_digit() || b".,:+-Z".contains(&byte);
    word.split_once('T').is_some_and(|(date, time)| {
        let clock = time.split_at_checked(8);
        is_date(date)
            && clock.is_some_and(|(clock, rest)| is_clock(clock) && rest.bytes().all(is_rest))
    })
}

/// Seconds since 1970: `1795600800.123456`
fn is_seconds(word: &str) -> bool {
    let (seconds, fraction) = word.split_once('.').unwrap_or((word, "0"));
    seconds.len() >= 9 && is_number(seconds) && is_number(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_accepted_as_a_whole_or_not_at_all() {
        for head in [
            "Nov 25 10:00:00 node kube-apiserver[12]: ",
            "Nov  5 10:00:00.123456 node kube-apiserver[12]: ",
            "Nov 25 10:00:00 kube-apiserver[12]:",
            "<110>Nov 25 10:00:00 node kube-apiserver[12]: ",
            "Wed 2026-11-25 10:00:00 UTC node k3s[1]: ",
            "2026-11-25 10:00:00.123 node k3s[1]: ",
            "2026-11-25T10:00:00+0000 node unit[1]: ",
            "2026-11-25T10:00:00.123456+00:00 fe80::1 (unit)[1]: ",
            "1795600800.123456 node unit[1]: ",
            "<110>1 2026-11-25T10:00:00.003Z node kube-apiserver 12 - - ",
            "<110>1 - - - - - [a b=\"]\\\"\"][c] \u{feff}",
            "I1125 10:00:00.123456       1 audit.go:12] ",
            "E1125 10:00:00.123456 1 audit/log.go:12]",
        ] {
            assert!(is_head(head.as_bytes()), "{head}");
            for free in [
                "x",
                "agent=",
                "user agent: ",
                "[12]: ",
                "x[12]: ",
                "x.go:1] ",
            ] {
                assert!(!is_head(format!("{head}{free}").as_bytes()), "{head}{free}");
                assert!(
                    !is_head(format!("{head} {free}").as_bytes()),
                    "{head} {free}"
                );
            }
            assert!(!is_head(format!("x {head}").as_bytes()), "x {head}");
            assert!(!is_head(format!(" {head}").as_bytes()), " {head}");
        }
        for other in [
            "",
            " ",
            "2026-11-25T10:00:00Z ",
            "2026-11-25T10:00:00Z INFO agent: ",
            "Nov 25 10:00:00 node nginx: ",
            "Nov 25 10:00:00 nginx: agent[1]: ",
            "192.0.2.1 - - [25/Nov/2026:10:00:00 +0000] \"GET ",
            "<110>1 - - - - - [a] [b] ",
            "é[1]: ",
        ] {
            assert!(!is_head(other.as_bytes()), "{other}");
        }
    }
}
