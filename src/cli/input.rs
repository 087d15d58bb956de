//! Lines of audit logs, from files or standard input, plain or compressed.

use std::{
    fs::File,
    io::{self, BufRead, Read},
    path::Path,
};

use super::{compression, progress::Progress};

/// A longer line is skipped: the service accepts no longer request either.
const MAX_LINE: usize = 64 * 1024 * 1024;

/// One line of a log.
pub(super) enum Line<'a> {
    /// Its bytes, without the line end.
    Text(&'a [u8]),
    /// It is longer than 64 MiB.
    TooLong,
}

/// Opens a file, or standard input for `-`. What it is compressed with is recognised by content.
pub(super) fn open(path: &Path, progress: &Progress) -> io::Result<Box<dyn BufRead>> {
    let raw: Box<dyn Read> = if path == Path::new("-") {
        Box::new(progress.of(io::stdin().lock()))
    } else {
        Box::new(progress.of(File::open(path)?))
    };
    compression::inflate(raw)
}

/// Shows each line with its number, from 1.
pub(super) fn for_each_line(
    mut from: Box<dyn BufRead>,
    mut show: impl FnMut(u64, Line<'_>),
) -> io::Result<()> {
    let mut line = Vec::new();
    let mut too_long = false;
    let mut number = 1;
    loop {
        let available = match from.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if available.is_empty() {
            if !line.is_empty() || too_long {
                show(
                    number,
                    if too_long {
                        Line::TooLong
                    } else {
                        Line::Text(&line)
                    },
                );
            }
            return Ok(());
        }
        let end = memchr::memchr(b'\n', available);
        let part = available
            .get(..end.unwrap_or(available.len()))
            .unwrap_or_default();
        let used = part.len() + usize::from(end.is_some());
        if too_long || line.len() + part.len() > MAX_LINE {
            too_long = true;
            line = Vec::new();
        } else if end.is_some() && line.is_empty() {
            // The common case: the line lies whole in the buffer and is not copied.
            show(number, Line::Text(part));
            number += 1;
            from.consume(used);
            continue;
        } else {
            line.extend_from_slice(part);
        }
        from.consume(used);
        if end.is_some() {
            show(
                number,
                if too_long {
                    Line::TooLong
                } else {
                    Line::Text(&line)
                },
            );
            line.clear();
            too_long = false;
            number += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor};

    use super::*;

    fn lines(bytes: &[u8], capacity: usize) -> Vec<(u64, Vec<u8>)> {
        let mut all = Vec::new();
        let from = Box::new(BufReader::with_capacity(
            capacity,
            Cursor::new(bytes.to_vec()),
        ));
        for_each_line(from, |number, line| match line {
            Line::Text(text) => all.push((number, text.to_vec())),
            Line::TooLong => all.push((number, b"too long".to_vec())),
        })
        .unwrap();
        all
    }

    #[test]
    fn lines_are_numbered_whatever_the_buffer() {
        let wanted = vec![
            (1, b"a".to_vec()),
            (2, b"".to_vec()),
            (3, b"bcd".to_vec()),
            (4, b"e".to_vec()),
        ];
        for capacity in 1..8 {
            assert_eq!(lines(b"a\n\nbcd\ne", capacity), wanted);
            assert_eq!(lines(b"a\n\nbcd\ne\n", capacity), wanted);
        }
        assert!(lines(b"", 4).is_empty());
    }

    #[test]
    fn a_line_beyond_all_bounds_costs_itself_only() {
        let mut log = vec![b'x'; MAX_LINE + 1];
        log.extend_from_slice(b"\nafter\n");
        assert_eq!(
            lines(&log, 1 << 16),
            [(1, b"too long".to_vec()), (2, b"after".to_vec())]
        );
    }
}
