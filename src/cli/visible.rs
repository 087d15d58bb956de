//! Text written by whoever made the requests, so that nothing in it acts or hides.

use std::fmt::{self, Write as _};

/// A text with everything escaped that a terminal might obey or that cannot be seen.
pub(super) fn escaped(text: &str) -> impl fmt::Display + '_ {
    struct Escaped<'a>(&'a str);
    impl fmt::Display for Escaped<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for c in self.0.chars() {
                if is_visible(c) {
                    f.write_char(c)?;
                } else {
                    write!(f, "{}", escape(c))?;
                }
            }
            Ok(())
        }
    }
    Escaped(text)
}

/// How a character is written that [`is_visible`] does not let through: `\n`, `\u{202e}`.
pub(super) fn escape(c: char) -> impl fmt::Display {
    // Not escape_debug, which lets some of them through.
    c.escape_default()
}

/// Not a control character, not one that reorders or hides text, not a line end of any kind, no
/// blank but the common one, and nothing that takes no room: two texts that differ look different.
pub(super) fn is_visible(c: char) -> bool {
    !c.is_control()
        && (c == ' ' || !c.is_whitespace())
        && !matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}'
            | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_it_might_obey() {
        let hostile = "a\u{1b}[2J\u{7}\r\n\t\u{9b}31m\u{202e}\u{2028}é\u{200b}";
        let shown = escaped(hostile).to_string();
        assert_eq!(
            shown,
            r"a\u{1b}[2J\u{7}\r\n\t\u{9b}31m\u{202e}\u{2028}é\u{200b}"
        );
    }

    #[test]
    fn what_cannot_be_seen_is_shown() {
        for c in "\0\u{a0}\u{3000}\u{3164}\u{fe0f}\u{e0101}\u{2066}\u{feff}".chars() {
            assert!(!is_visible(c), "{c:?}");
        }
        for c in " azAZ09<>&\"'`éЖ中א\u{301}🦀".chars() {
            assert!(is_visible(c), "{c:?}");
        }
    }
}
