//! A compressed message in pieces, straight to where it is read, up to a limit.

use std::io::{self, Write};

use crate::{detection::screen::Screening, pdata::Malformed};

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

impl Compression {
    /// Bytes that are read at a time, before others get their turn: a byte that was compressed may
    /// be the work of a thousand.
    pub(super) fn turn(self) -> usize {
        match self {
            Self::Identity => usize::MAX,
            Self::Gzip | Self::Zstd => 4 * 1024,
        }
    }

    /// Lets others have their turn.
    pub(super) async fn give_way(self) {
        match self {
            Self::Identity => tokio::task::consume_budget().await,
            Self::Gzip | Self::Zstd => tokio::task::yield_now().await,
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
    /// It does not decompress.
    #[error("the message does not decompress: {0}")]
    Compression(io::Error),
    /// It is no OTLP logs request in JSON.
    #[error("the message is no OTLP logs request in JSON: {0}")]
    Json(serde_json::Error),
}

/// Where the bytes of a message go.
pub(super) trait Sink {
    /// Takes the next bytes.
    fn take(&mut self, piece: &[u8]) -> Result<(), Malformed>;

    /// Bytes of memory it holds.
    fn held(&self) -> usize;
}

impl Sink for Screening {
    fn take(&mut self, piece: &[u8]) -> Result<(), Malformed> {
        self.feed(piece)
    }

    fn held(&self) -> usize {
        self.held()
    }
}

impl Sink for Vec<u8> {
    fn take(&mut self, piece: &[u8]) -> Result<(), Malformed> {
        self.extend_from_slice(piece);
        Ok(())
    }

    fn held(&self) -> usize {
        self.capacity()
    }
}

type ZstdDecoder<S> = zstd::stream::zio::Writer<Limited<S>, zstd::stream::raw::Decoder<'static>>;

/// The longest window a zstd frame may ask for: memory of each request. Collectors use 8 MiB, and
/// at most 32 MiB.
const ZSTD_WINDOW_LOG: u32 = 25;
/// What the decoders hold beside their windows.
const DECODER: usize = 64 * 1024;
const ZSTD_BLOCKS: usize = 384 * 1024;

fn zstd_decoder<S: Sink>(limited: Limited<S>) -> io::Result<ZstdDecoder<S>> {
    let mut decoder = zstd::stream::raw::Decoder::new()?;
    decoder.set_parameter(zstd::stream::raw::DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
    Ok(zstd::stream::zio::Writer::new(limited, decoder))
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

    /// Takes the next bytes of the message.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<(), Unreadable> {
        let done = match self {
            Self::Plain(limited) => limited.write_all(piece),
            Self::Gzip(decoder) => decoder.write_all(piece),
            Self::Zstd(decoder) => decoder.write_all(piece),
        };
        done.map_err(|error| self.explain(error))
    }

    /// Bytes of memory it holds. A window of zstd is only so far in memory as it was written.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Plain(limited) => limited.sink.held(),
            Self::Gzip(decoder) => DECODER + decoder.get_ref().sink.held(),
            Self::Zstd(decoder) => {
                let limited = decoder.writer();
                let written = limited.limit - limited.left;
                ZSTD_BLOCKS + written.min(1 << ZSTD_WINDOW_LOG) + limited.sink.held()
            }
        }
    }

    /// The message has ended: the sink, which has all of it.
    pub(super) fn finish(mut self) -> Result<S, Unreadable> {
        let done = match &mut self {
            Self::Plain(_) => Ok(()),
            Self::Gzip(decoder) => decoder.try_finish(),
            // Unlike the decoder of `write`, this one tells a frame that is cut.
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

/// A sink that takes only so many bytes.
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
                self.sink.take(piece).map_err(Unreadable::Malformed)
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
            fn take(&mut self, _: &[u8]) -> Result<(), Malformed> {
                Ok(())
            }
            fn held(&self) -> usize {
                0
            }
        }
        let zeros = vec![0; 8 << 20];
        let bomb = zstd::encode_all(&zeros[..], 1).unwrap();
        let mut inflow = Inflow::new(Compression::Zstd, Nowhere, 64 << 20).unwrap();
        assert!(inflow.held() < 1 << 20);
        inflow.feed(&bomb).unwrap();
        assert!(inflow.held() >= 8 << 20);
        let gzip = Inflow::new(Compression::Gzip, Vec::with_capacity(100), 100).unwrap();
        assert_eq!(gzip.held(), DECODER + 100);
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
            let mut inflow = Inflow::new(Compression::Gzip, Vec::new(), limit)?;
            for piece in bytes.chunks(step) {
                inflow.feed(piece)?;
            }
            inflow.finish()
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
