//! A compressed message in pieces, straight to where it is read, up to a limit.

use std::io::{self, Write};

use crate::pdata::{Malformed, Sink, buffer};

/// How a message is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Identity,
    Gzip,
    Zstd,
}

impl Compression {
    /// Encodings offered to senders.
    pub(super) const OFFERED: &'static str = "identity,gzip,zstd";

    /// By its name in `grpc-encoding` or `Content-Encoding`, in which case does not matter.
    pub(super) fn from_name(name: &[u8]) -> Option<Self> {
        match name.to_ascii_lowercase().as_slice() {
            b"" | b"identity" => Some(Self::Identity),
            b"gzip" => Some(Self::Gzip),
            b"zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Why a message cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    /// It is no OTLP logs request.
    #[error("the message is no OTLP logs request: {0}")]
    Malformed(#[from] Malformed),
    /// It is larger than the limit, before or after decompression.
    #[error("the message is larger than {0} bytes: raise the limit or send smaller batches")]
    TooLarge(usize),
    /// What it holds that counts takes more memory than a message of its size may.
    #[error("the denied requests in the message take more than {0} bytes: send smaller batches")]
    TooDense(usize),
    /// It does not decompress.
    #[error("the message does not decompress: {0}")]
    Compression(io::Error),
    /// It is no OTLP logs request in JSON.
    #[error("the message is no OTLP logs request in JSON: {0}")]
    Json(serde_json::Error),
}

/// A text that is read as a whole, of at most `most` bytes.
pub(super) struct Whole {
    text: Vec<u8>,
    most: usize,
}

impl Whole {
    pub(super) fn new(most: usize) -> Self {
        Self {
            text: Vec::new(),
            most,
        }
    }

    /// The text that has arrived.
    pub(super) fn into_text(self) -> Vec<u8> {
        self.text
    }
}

impl Sink for Whole {
    fn feed(&mut self, piece: &[u8]) -> Result<(), Malformed> {
        buffer::make_room(&mut self.text, piece.len(), self.most);
        self.text.extend_from_slice(piece);
        Ok(())
    }

    fn heap_bytes(&self) -> usize {
        buffer::heap_bytes(&self.text)
    }
}

type ZstdDecoder<S> = zstd::stream::zio::Writer<Limited<S>, zstd::stream::raw::Decoder<'static>>;

/// The longest window a zstd frame may ask for: memory of each request. Collectors use 8 MiB, and
/// at most 32 MiB.
const ZSTD_WINDOW_LOG: u32 = 25;
/// What a decoder writes at a time, and what is taken at a time of a message that is not compressed.
pub(super) const STEP: usize = 32 * 1024;
/// A message may hold this many times its limit: records that count take more room when they are
/// short, and no sender has a reason to send more of them.
const DENSITY: usize = 3;
/// Whatever the limit, a message may hold this many bytes.
const SPARE: usize = 16 * 1024 * 1024;
/// A compressed byte that nothing comes out of is as much work as this number of bytes that come out.
const EMPTY: usize = 32;
/// What the decoders hold beside their windows.
const DECODER: usize = 64 * 1024;
const ZSTD_BLOCKS: usize = 384 * 1024;

fn zstd_decoder<S: Sink>(limited: Limited<S>) -> io::Result<ZstdDecoder<S>> {
    let mut decoder = zstd::stream::raw::Decoder::new()?;
    decoder.set_parameter(zstd::stream::raw::DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
    Ok(zstd::stream::zio::Writer::new(limited, decoder))
}

/// What one step did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stepped {
    /// Bytes of the message that it took.
    pub(super) taken: usize,
    /// Its work, in bytes that are read.
    pub(super) work: usize,
}

/// Takes a message in pieces and hands on what is in them.
pub(super) enum Inflow<S: Sink> {
    Plain(Limited<S>),
    Gzip(Box<flate2::write::MultiGzDecoder<Limited<S>>>),
    Zstd(Box<ZstdDecoder<S>>),
}

impl<S: Sink> Inflow<S> {
    pub(super) fn new(compression: Compression, sink: S, limit: usize) -> Result<Self, Unreadable> {
        let limited = Limited {
            sink,
            limit,
            left: limit,
            failed: None,
        };
        Ok(match compression {
            Compression::Identity => Self::Plain(limited),
            Compression::Gzip => Self::Gzip(Box::new(flate2::write::MultiGzDecoder::new(limited))),
            Compression::Zstd => Self::Zstd(Box::new(
                zstd_decoder(limited).map_err(Unreadable::Compression)?,
            )),
        })
    }

    /// Takes some of the next bytes of the message, at most as many as make not much more than [`STEP`]
    /// bytes come out.
    pub(super) fn step(&mut self, piece: &[u8]) -> Result<Stepped, Unreadable> {
        let before = self.written();
        // Decoders write what is in their buffer before they take more.
        let done = match self {
            Self::Plain(limited) => limited.write(piece.get(..STEP).unwrap_or(piece)),
            Self::Gzip(decoder) => decoder.write(piece),
            Self::Zstd(decoder) => decoder.write(piece),
        };
        match done {
            Ok(0) if !piece.is_empty() => {
                Err(self.explain(io::Error::from(io::ErrorKind::WriteZero)))
            }
            Ok(taken) => {
                let written = self.written().saturating_sub(before);
                Ok(Stepped {
                    taken,
                    work: self.work(taken, written),
                })
            }
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Takes the next bytes of the message.
    #[cfg(test)]
    fn feed(&mut self, mut piece: &[u8]) -> Result<(), Unreadable> {
        while !piece.is_empty() {
            let Stepped { taken, .. } = self.step(piece)?;
            piece = piece.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// Whether the next step may make the sink work for long.
    pub(super) fn may_take_long(&self) -> bool {
        self.limited().sink.may_take_long(2 * STEP)
    }

    /// Bytes decompressed so far.
    fn written(&self) -> usize {
        let limited = self.limited();
        limited.limit - limited.left
    }

    fn limited(&self) -> &Limited<S> {
        match self {
            Self::Plain(limited) => limited,
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Zstd(decoder) => decoder.writer(),
        }
    }

    /// The work of a step that took and gave these numbers of bytes, in bytes that are read. A
    /// member of gzip without content is twenty bytes, and a decoder is set up for each.
    fn work(&self, taken: usize, written: usize) -> usize {
        match self {
            Self::Plain(_) => written,
            Self::Gzip(_) | Self::Zstd(_) => written.saturating_add(taken.saturating_mul(EMPTY)),
        }
    }

    /// Bytes on the heap that it holds. A window of zstd is only so far in memory as it was written.
    pub(super) fn heap_bytes(&self) -> usize {
        let decoder = match self {
            Self::Plain(_) => 0,
            Self::Gzip(_) => DECODER,
            Self::Zstd(_) => ZSTD_BLOCKS + self.written().min(1 << ZSTD_WINDOW_LOG),
        };
        decoder + self.limited().sink.heap_bytes()
    }

    /// The message has ended: the sink, which has all of it.
    pub(super) fn finish(mut self) -> Result<S, Unreadable> {
        let done = match &mut self {
            Self::Plain(_) => Ok(()),
            Self::Gzip(decoder) => decoder.try_finish(),
            // Unlike the decoder of `write`, this one detects a truncated frame.
            Self::Zstd(decoder) => decoder.finish(),
        };
        done.map_err(|error| self.explain(error))?;
        match self {
            Self::Plain(limited) => Ok(limited.sink),
            Self::Gzip(decoder) => decoder
                .finish()
                .map(|limited| limited.sink)
                .map_err(Unreadable::Compression),
            Self::Zstd(decoder) => Ok(decoder.into_inner().0.sink),
        }
    }

    /// What really failed behind an error of the decoder.
    fn explain(&mut self, error: io::Error) -> Unreadable {
        let limited = match self {
            Self::Plain(limited) => limited,
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.writer_mut(),
        };
        limited
            .failed
            .take()
            .unwrap_or(Unreadable::Compression(error))
    }
}

/// A sink that takes at most `limit` bytes.
pub(super) struct Limited<S> {
    sink: S,
    limit: usize,
    left: usize,
    failed: Option<Unreadable>,
}

impl<S: Sink> Write for Limited<S> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let fed = match self.left.checked_sub(piece.len()) {
            Some(left) => {
                self.left = left;
                let most = self.limit.saturating_mul(DENSITY).max(SPARE);
                match self.sink.feed(piece) {
                    Ok(()) if self.sink.heap_bytes() > most => Err(Unreadable::TooDense(most)),
                    Ok(()) => Ok(()),
                    Err(malformed) => Err(Unreadable::Malformed(malformed)),
                }
            }
            None => Err(Unreadable::TooLarge(self.limit)),
        };
        match fed {
            Ok(()) => Ok(piece.len()),
            Err(error) => {
                self.failed = Some(error);
                Err(io::Error::other("stopped"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a bomb holds grows with what comes out of it, up to the window, not with its length.
    #[test]
    fn decoders_count_their_windows() {
        struct Nowhere;
        impl Sink for Nowhere {
            fn feed(&mut self, _: &[u8]) -> Result<(), Malformed> {
                Ok(())
            }
            fn heap_bytes(&self) -> usize {
                0
            }
        }
        let zeros = vec![0; 8 << 20];
        let bomb = zstd::encode_all(&zeros[..], 1).unwrap();
        let mut inflow = Inflow::new(Compression::Zstd, Nowhere, 64 << 20).unwrap();
        assert!(inflow.heap_bytes() < 1 << 20);
        inflow.feed(&bomb).unwrap();
        assert!(inflow.heap_bytes() >= 8 << 20);
        let gzip = Inflow::new(Compression::Gzip, Nowhere, 100).unwrap();
        assert_eq!(gzip.heap_bytes(), DECODER);
    }

    /// RFC 1952 lets members follow each other, as frames of zstd may; senders that compress in
    /// pieces write them so, and the Collector reads them.
    #[test]
    fn reads_all_members_of_gzip() {
        let member = |text: &[u8]| {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        };
        let read = |bytes: &[u8], step: usize, limit: usize| {
            let mut inflow = Inflow::new(Compression::Gzip, Whole::new(limit), limit)?;
            for piece in bytes.chunks(step) {
                inflow.feed(piece)?;
            }
            inflow.finish().map(Whole::into_text)
        };
        let whole = [member(b"one "), member(b""), member(b"two")].concat();
        for step in [1, 7, whole.len()] {
            assert_eq!(read(&whole, step, 7).unwrap(), b"one two", "{step}");
            let cut = &whole[..whole.len() - 1];
            assert!(
                matches!(read(cut, step, 7), Err(Unreadable::Compression(_))),
                "{step}"
            );
            let junk = [&whole[..], b"junk"].concat();
            assert!(
                matches!(read(&junk, step, 7), Err(Unreadable::Compression(_))),
                "{step}"
            );
            assert!(
                matches!(read(&whole, step, 6), Err(Unreadable::TooLarge(6))),
                "{step}"
            );
        }
        assert!(matches!(read(b"", 1, 1), Err(Unreadable::Compression(_))));
    }
}
