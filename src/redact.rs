//! Secrets taken out of what a peer says.
//!
//! Our own messages are made without secrets and are never searched. A peer's answer is the only
//! text that may repeat one, for some proxies show the request in their error pages: as it was
//! sent, or percent-encoded, escaped for JSON or HTML, or as the base64 of basic authentication.

use std::ops::Range;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD, prelude::BASE64_STANDARD};
use secrecy::{ExposeSecret as _, SecretString};

/// What stands in the place of a secret.
const REDACTED: &str = "[hidden]";
/// A secret of fewer letters keeps nothing secret, and is part of every text.
const SHORTEST: usize = 4;
/// One of fewer letters is taken out where it is a word of its own, for it may be part of others.
const UNMISTAKABLE: usize = 8;
/// How often a text is decoded: an escaped form may be escaped once more.
const LAYERS: usize = 5;

/// `text` without the secrets in it, whatever form they have.
pub fn hidden(text: &str, secrets: &[SecretString]) -> String {
    let forms = forms(secrets);
    if forms.is_empty() {
        return text.to_owned();
    }
    let mut found = Vec::new();
    for letters in layers(text) {
        find(&letters, &forms, &mut found);
    }
    without(text, found)
}

/// A text as it is written, then with one more layer of escapes undone each time, down to the last.
fn layers(text: &str) -> Vec<Vec<Letter>> {
    let letters = text.char_indices().map(|(at, letter)| Letter {
        letter,
        source: at..at + letter.len_utf8(),
    });
    let mut last: Vec<Letter> = letters.collect();
    let mut layers = Vec::new();
    while layers.len() < LAYERS {
        let next = decoded(&last);
        let is_last = next.len() == last.len();
        layers.push(last);
        if is_last {
            return layers;
        }
        last = next;
    }
    layers.push(last);
    layers
}

/// `text` without these ranges of it.
fn without(text: &str, mut ranges: Vec<Range<usize>>) -> String {
    ranges.sort_by_key(|range| range.start);
    let mut shown = String::with_capacity(text.len());
    let mut at = 0;
    for range in ranges {
        if range.end <= at {
            continue;
        }
        if range.start >= at {
            shown.push_str(text.get(at..range.start).unwrap_or_default());
            shown.push_str(REDACTED);
        }
        at = range.end;
    }
    shown.push_str(text.get(at..).unwrap_or_default());
    shown
}

/// A text to look for.
struct Form {
    letters: Vec<char>,
    /// Only where no letter or digit stands beside it.
    is_word: bool,
}

/// All that may give a secret away: itself, what stands behind the scheme of a header, and what is
/// in the base64 of basic authentication.
fn forms(secrets: &[SecretString]) -> Vec<Form> {
    let mut forms = Vec::new();
    let mut add = |text: &str, weight: usize| {
        // A secret may look like an escape itself, and is undone together with the text then.
        for letters in layers(text) {
            if letters.len() >= SHORTEST {
                forms.push(Form {
                    letters: letters.iter().map(|letter| letter.letter).collect(),
                    is_word: weight < UNMISTAKABLE,
                });
            }
        }
    };
    for secret in secrets.iter().map(|secret| secret.expose_secret().trim()) {
        let credential = secret
            .split_once(' ')
            .map_or(secret, |(_, credential)| credential.trim());
        let weight = credential.chars().count();
        if weight == 0 {
            continue;
        }
        add(secret, weight);
        add(credential, weight);
        // Without its padding, which may be left out or be percent-encoded.
        let encoded = STANDARD_NO_PAD.encode(credential);
        add(&encoded, weight);
        add(&encoded.replace('+', "-").replace('/', "_"), weight);
        let inside = BASE64_STANDARD.decode(credential).ok();
        let inside = inside.and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some((user, password)) = inside.as_deref().and_then(|both| both.split_once(':')) {
            let weight = password.chars().count();
            add(&format!("{user}:{password}"), weight);
            add(password, weight);
        }
    }
    forms
}

/// A letter of a text, and the bytes that it was written with.
struct Letter {
    letter: char,
    source: Range<usize>,
}

fn find(letters: &[Letter], forms: &[Form], found: &mut Vec<Range<usize>>) {
    let beside = |at: Option<usize>| {
        at.and_then(|at| letters.get(at))
            .is_some_and(|beside| beside.letter.is_alphanumeric())
    };
    for Form {
        letters: wanted,
        is_word,
    } in forms
    {
        for (at, window) in letters.windows(wanted.len()).enumerate() {
            let is_here = window
                .iter()
                .zip(wanted)
                .all(|(here, wanted)| here.letter == *wanted);
            if !is_here
                || *is_word && (beside(at.checked_sub(1)) || beside(Some(at + wanted.len())))
            {
                continue;
            }
            if let (Some(first), Some(last)) = (window.first(), window.last()) {
                found.push(first.source.start..last.source.end);
            }
        }
    }
}

/// The same text with one layer of escapes undone. Never longer.
fn decoded(letters: &[Letter]) -> Vec<Letter> {
    let mut plain = Vec::with_capacity(letters.len());
    let mut rest = letters;
    while let Some((first, behind)) = rest.split_first() {
        let (letter, used) = match first.letter {
            '%' => number(behind, 2, 16).map(|letter| (letter, 3)),
            '\\' => backslash(behind),
            '&' => entity(behind),
            _ => None,
        }
        .unwrap_or((first.letter, 1));
        let (taken, after) = rest.split_at(used.min(rest.len()));
        let end = taken
            .last()
            .map_or(first.source.end, |last| last.source.end);
        plain.push(Letter {
            letter,
            source: first.source.start..end,
        });
        rest = after;
    }
    plain
}

/// The character with the number that these many digits write.
fn number(letters: &[Letter], digits: usize, radix: u32) -> Option<char> {
    let mut number: u32 = 0;
    for letter in letters
        .get(..digits)
        .filter(|letters| !letters.is_empty())?
    {
        let digit = letter.letter.to_digit(radix)?;
        number = number.checked_mul(radix)?.checked_add(digit)?;
    }
    char::from_u32(number)
}

/// What a backslash and these letters stand for, and how many letters all that is.
fn backslash(letters: &[Letter]) -> Option<(char, usize)> {
    let (kind, behind) = letters.split_first()?;
    Some(match kind.letter {
        'n' => ('\n', 2),
        'r' => ('\r', 2),
        't' => ('\t', 2),
        '"' | '\\' | '/' | '\'' => (kind.letter, 2),
        'x' => (number(behind, 2, 16)?, 4),
        'u' => match behind.first()?.letter {
            '{' => {
                let digits = until(behind.get(1..)?, '}')?;
                (number(behind.get(1..)?, digits, 16)?, digits + 4)
            }
            _ => (number(behind, 4, 16)?, 6),
        },
        _ => return None,
    })
}

/// What an ampersand and these letters stand for, and how many letters all that is.
fn entity(letters: &[Letter]) -> Option<(char, usize)> {
    let length = until(letters, ';')?;
    let name = letters.get(..length)?;
    let text: String = name.iter().map(|letter| letter.letter).collect();
    let letter = match text.as_str() {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        _ if text.starts_with("#x") || text.starts_with("#X") => {
            number(name.get(2..)?, length - 2, 16)?
        }
        _ if text.starts_with('#') => number(name.get(1..)?, length - 1, 10)?,
        _ => return None,
    };
    Some((letter, length + 2))
}

/// How many letters stand before this one, if it comes soon.
fn until(letters: &[Letter], end: char) -> Option<usize> {
    letters
        .iter()
        .take(10)
        .position(|letter| letter.letter == end)
}

/// The scheme, host, port and path of a URL. What else it may have can be a secret.
pub fn url(text: &str) -> String {
    let (text, cut) = match text.find(['?', '#']) {
        Some(end) => (text.get(..end).unwrap_or_default(), "?..."),
        None => (text, ""),
    };
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let authority = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(authority).unwrap_or((rest, ""));
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let colon = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{colon}{host}{path}{cut}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str, secret: &str) -> String {
        hidden(text, &[secret.into()])
    }

    #[test]
    fn a_secret_is_found_in_every_form() {
        let secret = "s3/cr\"et+<7>";
        for form in [
            "s3/cr\"et+<7>",
            "s3%2Fcr%22et%2b%3c7%3E",
            r#"s3/cr\"et+<7>"#,
            r#"s3\/cr\"et+<7>"#,
            r"s3\u002fcr\u0022et\u002b\u003c7>",
            r"s3\u{2f}cr\x22et+<7>",
            "s3/cr&quot;et+&lt;7&gt;",
            "s3&#47;cr&#x22;et+&lt;7&gt;",
            "s3%252Fcr%2522et%252b%253c7%253E",
            r#"s3/cr\\\"et+<7>"#,
            "&quot;s3/cr&quot;et+&lt;7&gt;&quot;",
            "czMvY3IiZXQrPDc+",
            "czMvY3IiZXQrPDc-",
        ] {
            for (before, after) in [("", ""), ("x: ", "\r\n"), ("token", "token")] {
                let shown_text = shown(&format!("{before}{form}{after}"), secret);
                assert!(
                    shown_text.replace("&quot;", "") == format!("{before}{REDACTED}{after}"),
                    "{form}: {shown_text}"
                );
            }
        }
    }

    #[test]
    fn what_is_inside_a_header_is_hidden_too() {
        let basic = format!("Basic {}", BASE64_STANDARD.encode("admin:pa55word"));
        for (text, wanted) in [
            (format!("with {basic}."), "with [hidden]."),
            ("user admin:pa55word".to_owned(), "user [hidden]"),
            (
                "password pa55word, user admin".to_owned(),
                "password [hidden], user admin",
            ),
        ] {
            assert_eq!(shown(&text, &basic), wanted);
        }
        assert_eq!(
            shown("no Splunk t, no Splunk token, not t", "Splunk t"),
            "no [hidden], no Splunk token, not t"
        );
    }

    #[test]
    fn short_secrets_spoil_no_words() {
        let text = "HTTP 503: the request timed out, try the test again";
        for secret in ["t", "e", " ", "", "the", "ques", "reque", "test-", "gai"] {
            assert_eq!(shown(text, secret), text, "{secret:?}");
        }
        assert_eq!(
            shown("a test, Test, latest", "test"),
            "a [hidden], Test, latest"
        );
        assert_eq!(shown("xx5ecre7-tokenxx", "5ecre7-token"), "xx[hidden]xx");
    }

    #[test]
    fn urls_show_no_more_than_where() {
        for (url_, wanted) in [
            ("http://a:1/b", "http://a:1/b"),
            ("https://u:p@a:1/b?c=d#e", "https://a:1/b?..."),
            ("https://a:1?c=d", "https://a:1?..."),
            ("u@a:1", "a:1"),
        ] {
            assert_eq!(url(url_), wanted);
        }
    }

    /// What proxies make of a request that they show.
    fn echo(secret: &str, how: usize) -> String {
        let percent = |text: &str| -> String {
            let bytes: Vec<String> = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            bytes.concat()
        };
        let html = |text: &str| {
            text.replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;")
                .replace('"', "&quot;")
        };
        let json = |text: &str| serde_json::to_string(text).unwrap();
        match how {
            0 => format!("Authorization: Splunk {secret}\r\n"),
            1 => format!("<pre>authorization: {}</pre>", html(secret)),
            2 => format!("{{\"headers\":{{\"authorization\":{}}}}}", json(secret)),
            3 => format!("/login?next={}&x=y", percent(secret)),
            4 => format!("Basic {}", BASE64_STANDARD.encode(secret)),
            5 => json(&json(secret)),
            6 => percent(&json(secret)),
            7 => format!("{:?}", html(&json(secret))),
            _ => format!("{secret} {secret}"),
        }
    }

    proptest! {
        #[test]
        fn no_echo_of_a_request_shows_a_secret(
            secret in "[!-~]{4,40}",
            how in proptest::collection::vec(0usize..9, 1..4),
            noise in "[a-z <>%&;\\\\\"]{0,20}",
        ) {
            // A text that holds it anyway shows nothing.
            prop_assume!(!noise.contains(&secret));
            let all: Vec<String> = how.iter().map(|how| echo(&secret, *how)).collect();
            let shown_text = shown(&all.join(&format!(" {noise} ")), &secret);
            let bare = ["[hidden]", "Authorization: Splunk", "{\"headers\":{\"authorization\":", "/login?next="];
            // What is left of the frame may be like the secret by chance.
            prop_assume!(!bare.iter().any(|frame| frame.contains(&secret)));
            prop_assume!(!["<pre>authorization: </pre>", "&x=y", "Basic "].iter().any(|frame| frame.contains(&secret)));
            for (at, _) in shown_text.match_indices(&secret) {
                let (before, rest) = shown_text.split_at(at);
                let (_, after) = rest.split_at(secret.len());
                let before = before.chars().next_back().is_some_and(char::is_alphanumeric);
                let after = after.chars().next().is_some_and(char::is_alphanumeric);
                prop_assert!(secret.len() < UNMISTAKABLE && (before || after), "{}", shown_text);
            }
            prop_assert!(!shown_text.contains(&BASE64_STANDARD.encode(&secret)), "{}", shown_text);
        }

        #[test]
        fn hostile_texts_are_survived_and_others_left_alone(
            text in ".{0,200}", secret in ".{0,12}",
        ) {
            let _shown = shown(&text, &secret);
            for secret in ["t", "e", " "] {
                prop_assert_eq!(&shown(&text, secret), &text);
            }
        }
    }
}
