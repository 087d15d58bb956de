//! The end of our log that others may read on a terminal: nothing in a line acts there or hides.
//!
//! The formatter of tracing escapes sequences for terminals in messages alone, and never what
//! reorders or hides text, nor line ends. Here each value is escaped where it is formatted, so that
//! the only sequences in a line are our colours, and each line is looked at again as it leaves.

use std::{
    borrow::Cow,
    fmt,
    io::{self, Write},
};

use tracing::{Metadata, field::Field};
use tracing_subscriber::{
    field::MakeExt as _,
    fmt::{
        FormatFields, MakeWriter,
        format::{Writer, debug_fn},
    },
};

use crate::visible;

/// The target of the one part whose messages have several lines, each of them escaped already.
const LINES: &str = "auditwatch::debug";

/// How fields are written for people: as tracing does it, with every value escaped.
pub(super) fn fields() -> impl for<'a> FormatFields<'a> + Send + Sync + 'static {
    let field = |to: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        let value = format!("{value:?}");
        let value = visible::lines(&value);
        match (field.name(), to.has_ansi_escapes()) {
            ("message", _) => write!(to, "{value}"),
            (name, true) => write!(to, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value}"),
            (name, false) => write!(to, "{name}={value}"),
        }
    };
    debug_fn(field).delimited(" ")
}

/// Writes lines to where `inner` writes them, escaped.
pub(super) struct Escaped<M> {
    pub(super) inner: M,
    pub(super) form: Form,
}

/// What a line is.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// For people, without colours.
    Console,
    /// For people, with colours: [`fields`] has escaped those of others.
    Colours,
    /// A JSON object.
    Json,
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Escaped<M> {
    type Writer = Line<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Line {
            inner: self.inner.make_writer(),
            form: self.form,
            lines: false,
        }
    }

    fn make_writer_for(&'a self, about: &Metadata<'_>) -> Self::Writer {
        Line {
            inner: self.inner.make_writer_for(about),
            form: self.form,
            lines: about.target() == LINES,
        }
    }
}

/// Writes one event, which the formatter hands over as a whole.
pub(super) struct Line<W> {
    inner: W,
    form: Form,
    /// Whether its message may have several lines.
    lines: bool,
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        self.inner
            .write_all(shown(&text, self.form, self.lines).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn shown(event: &str, form: Form, lines: bool) -> Cow<'_, str> {
    let is_colour = |c| c == '\x1b' && matches!(form, Form::Colours);
    if matches!(form, Form::Json) {
        return visible::escaped_json(event);
    }
    if lines {
        return visible::kept(event, |c| c == '\n' || is_colour(c));
    }
    let (line, end) = match event.strip_suffix('\n') {
        Some(line) => (line, "\n"),
        None => (event, ""),
    };
    match visible::kept(line, is_colour) {
        Cow::Borrowed(_) => Cow::Borrowed(event),
        Cow::Owned(line) => Cow::Owned(line + end),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::{Layer as _, layer::SubscriberExt as _};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(form: Form, log: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = tracing_subscriber::fmt::layer()
            .fmt_fields(fields())
            .with_writer(Escaped {
                inner: move || writer.clone(),
                form,
            })
            .with_ansi(matches!(form, Form::Colours))
            .with_target(false);
        let layer = match form {
            Form::Json => layer.json().boxed(),
            Form::Console | Form::Colours => layer.boxed(),
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    const HOSTILE: &str = "a\u{1b}[31mb\u{9b}c\u{7f}d\u{202e}e\u{2028}f\u{200b}g\r\nh";

    #[test]
    fn a_line_is_one_line_and_visible_whoever_wrote_into_it() {
        for form in [Form::Console, Form::Colours, Form::Json] {
            let log = || tracing::warn!(shown = %HOSTILE, text = HOSTILE, "{HOSTILE}");
            let logged = logged(form, log);
            let line = logged.strip_suffix('\n').unwrap();
            let ours = |c: char| c == '\x1b' && matches!(form, Form::Colours);
            let unexpected = |c: char| !(visible::is_visible(c) || ours(c));
            assert!(!line.contains(unexpected), "{line:?}");
            assert!(!line.contains("\u{1b}[31mb"), "{line:?}");
            if matches!(form, Form::Json) {
                let read: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!(read["fields"]["text"], HOSTILE);
            }
        }
    }

    #[test]
    fn findings_of_the_debug_exporter_keep_their_lines() {
        let log = || tracing::info!(target: "auditwatch::debug", "one\n  two\u{202e}");
        let logged = logged(Form::Console, log);
        assert!(logged.ends_with("one\n  two\\u{202e}\n"), "{logged:?}");
    }
}
