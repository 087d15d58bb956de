//! Bodies of requests, compressed.
//!
//! An exporter keeps one compressor for all its requests. The state of a compressor is large (270 KB
//! for gzip) beside the findings that are kept meanwhile: made anew for each request, it would leave
//! a hole in the heap each time that small allocations then use, so that no later one fits into it.

use std::{fmt, io};

use flate2::{Compress, FlushCompress, Status};

/// How requests are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// `gzip`.
    Gzip,
    /// `zstd`.
    Zstd,
    /// `none`.
    None,
}

impl Compression {
    /// What headers call it.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
            Self::None => None,
        }
    }
}

/// Base-two logarithm of the window of gzip, as RFC 1952 has it.
const GZIP_WINDOW: u8 = 15;
/// Findings are repetitive: the fastest level already makes them small.
const ZSTD_LEVEL: i32 = 1;
/// The output grows by this number of bytes at least.
const OUTPUT_STEP: usize = 4096;

/// Compresses the bodies of one exporter, one after the other.
pub(super) enum Compressor {
    /// Hands bodies on as they are.
    None,
    /// Makes one gzip member of each.
    Gzip(Compress),
    /// Makes one zstd frame of each.
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Gzip(_) => "gzip",
            Self::Zstd(_) => "zstd",
        })
    }
}

impl Compressor {
    /// A compressor of this kind.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(super) fn new(compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None,
            Compression::Gzip => {
                Self::Gzip(Compress::new_gzip(flate2::Compression::fast(), GZIP_WINDOW))
            }
            Compression::Zstd => Self::Zstd(Box::new(zstd::bulk::Compressor::new(ZSTD_LEVEL)?)),
        })
    }

    /// A body, compressed.
    ///
    /// # Errors
    /// When the library fails; the next body is not affected.
    pub(super) fn compress(&mut self, body: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(body),
            Self::Gzip(gzip) => compress_gzip(gzip, &body),
            Self::Zstd(zstd) => zstd.compress(&body),
        }
    }
}

fn compress_gzip(gzip: &mut Compress, body: &[u8]) -> io::Result<Vec<u8>> {
    gzip.reset();
    let mut out = Vec::new();
    loop {
        // Repetitive JSON shrinks to a tenth.
        out.reserve((body.len() / 8).max(OUTPUT_STEP));
        let read = usize::try_from(gzip.total_in()).unwrap_or(usize::MAX);
        let rest = body.get(read..).unwrap_or_default();
        match gzip.compress_vec(rest, &mut out, FlushCompress::Finish)? {
            Status::StreamEnd => return Ok(out),
            Status::Ok | Status::BufError => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn one_compressor_serves_bodies_of_every_size() {
        let bodies = [0, 1, 5, 100_000, 3, 3_000_000, 70_000, 0].map(|length: usize| {
            // Hard to compress, so that the output has to grow.
            let noise = |at: usize| (at.wrapping_mul(0x9e37_79b9) >> 13).to_le_bytes()[0];
            (0..length).map(noise).collect::<Vec<u8>>()
        });
        let mut gzip = Compressor::new(Compression::Gzip).unwrap();
        let mut zstd = Compressor::new(Compression::Zstd).unwrap();
        let mut none = Compressor::new(Compression::None).unwrap();
        for body in bodies {
            let mut unpacked = Vec::new();
            let packed = gzip.compress(body.clone()).unwrap();
            flate2::read::GzDecoder::new(packed.as_slice())
                .read_to_end(&mut unpacked)
                .unwrap();
            assert!(unpacked == body);
            let packed = zstd.compress(body.clone()).unwrap();
            assert!(zstd::decode_all(packed.as_slice()).unwrap() == body);
            assert!(none.compress(body.clone()).unwrap() == body);
        }
    }
}
