//! Text from outside (logs, file names), made safe for the report.
//!
//! Everything from a log, a database or the command line enters the page through [`Shown`], and
//! only as the content of an element: never as an attribute, never as a link.

use maud::{Markup, Render, html};

use crate::{
    detection::time::Micros,
    visible::{escape, is_visible},
};

/// Bytes of one value that are shown, as many as a finding keeps.
const MOST: usize = 1024;

/// A text in which nothing acts and nothing hides: markup and characters that cannot be seen are
/// escaped, and the direction of its letters is its own business.
pub(in crate::cli) struct Shown<'a>(pub(in crate::cli) &'a str);

impl Render for Shown<'_> {
    fn render_to(&self, page: &mut String) {
        page.push_str("<bdi>");
        if self.0.is_empty() {
            marked("\"\"", page);
        }
        let mut rest = self
            .0
            .get(..self.0.floor_char_boundary(MOST))
            .unwrap_or_default();
        while let Some(next) = rest.chars().next() {
            let visible = is_visible(next);
            let end = rest
                .find(|c| is_visible(c) != visible)
                .unwrap_or(rest.len());
            let (run, after) = rest.split_at(end);
            if visible {
                run.render_to(page);
            } else {
                marked(
                    &run.chars()
                        .map(|c| escape(c).to_string())
                        .collect::<String>(),
                    page,
                );
            }
            rest = after;
        }
        if self.0.len() > MOST {
            marked(&format!("… ({} bytes in all)", self.0.len()), page);
        }
        page.push_str("</bdi>");
    }
}

/// What is shown instead of a text, marked.
fn marked(text: &str, page: &mut String) {
    html! { span.mark { (text) } }.render_to(page);
}

/// `2026-11-25 07:17:03Z`, exact in the source of the page.
pub(in crate::cli) fn time(time: Micros) -> Markup {
    let text = crate::cli::table::second(time);
    let (day, second) = text.split_once(' ').unwrap_or((&text, ""));
    // Where there is no room, a line may end between the two and nowhere else.
    html! { time datetime=(time) { span { (day) } " " span { (second) } } }
}

/// `12,345`
pub(in crate::cli) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 row`, `12 rows`
pub(in crate::cli) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acts_and_nothing_hides() {
        for (text, wanted) in [
            (
                "</script><img src=x onerror=\"a\">'&",
                "&lt;/script&gt;&lt;img src=x onerror=&quot;a&quot;&gt;'&amp;",
            ),
            ("", "<span class=\"mark\">&quot;&quot;</span>"),
            (
                "a\u{202e}\0b\u{1b}[2J",
                "a<span class=\"mark\">\\u{202e}\\u{0}</span>b<span class=\"mark\">\\u{1b}</span>[2J",
            ),
            ("é中 א", "é中 א"),
        ] {
            let shown = Shown(text).render().into_string();
            assert_eq!(shown, format!("<bdi>{wanted}</bdi>"), "{text:?}");
        }
        let long = Shown(&"é".repeat(1000)).render().into_string();
        assert!(long.contains("é<span class=\"mark\">… (2000 bytes in all)"));
        assert!(long.len() < 1200, "{}", long.len());
    }

    #[test]
    fn numbers_are_read_by_people() {
        for (value, wanted) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(number(value), wanted);
        }
    }
}
