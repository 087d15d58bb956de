//! What logs are compressed with, recognised by their first bytes, and what is not read, refused by
//! its name.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;

/// Bytes by which a file is recognised: a header of tar.
const HEAD: usize = 512;
const BUFFER: usize = 256 * 1024;
/// The largest window that a frame of zstd may have: that of `zstd --ultra --long=31`.
const WINDOW_LOG: u32 = 31;
/// Compressions inside each other.
const MOST_LAYERS: usize = 3;

/// Reads a file, whatever of these it is compressed with: gzip, zstd, bzip2 or xz, with several
/// members, frames or streams.
///
/// # Errors
/// When it cannot be read, or is of a kind that is not.
pub(super) fn inflate(raw: Box<dyn Read>) -> io::Result<Box<dyn BufRead>> {
    let mut raw = raw;
    for _ in 0..MOST_LAYERS {
        let head = beginning(&mut raw)?;
        let kind = Kind::of(&head);
        let all = BufReader::with_capacity(BUFFER, Cursor::new(head).chain(raw));
        raw = match kind {
            Kind::Plain => return Ok(Box::new(all)),
            Kind::Refused(name, advice) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("it is {name}, which is not read: {advice}"),
                ));
            }
            Kind::Gzip => Box::new(Members::new(all, GzDecoder::new, GzDecoder::into_inner)),
            Kind::Zstd => {
                let mut frames = zstd::stream::read::Decoder::with_buffer(all)?;
                frames.window_log_max(WINDOW_LOG)?;
                Box::new(frames)
            }
            Kind::Bzip2 => Box::new(Members::new(all, BzDecoder::new, BzDecoder::into_inner)),
            Kind::Xz => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(all)),
        };
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "it is compressed more than twice: decompress it first",
    ))
}

/// The bytes by which a file is recognised. What comes slowly is not waited for once a line of text
/// is there.
fn beginning(raw: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD];
    let mut length = 0;
    while let Some(room) = head.get_mut(length..).filter(|room| !room.is_empty()) {
        match raw.read(room) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        let read = head.get(..length).unwrap_or_default();
        let begins_as_text = matches!(read.first(), Some(b'{' | b'[' | b'"' | b'0'..=b'9'));
        if memchr::memchr(b'\n', read).is_some() && (begins_as_text || length > 8) {
            break;
        }
    }
    head.truncate(length);
    Ok(head)
}

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
    /// Its name, and what to do.
    Refused(&'static str, &'static str),
}

const UNPACK: &str = "unpack it and give the files in it";
const DECOMPRESS: &str = "decompress it first, or pipe it into standard input";
const CONVERT: &str = "convert it to UTF-8, for example with iconv -f UTF-16 -t UTF-8";

impl Kind {
    fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // The second is a frame to be passed over, with which some writers begin.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [b'P', b'K', 3 | 5 | 7, 4 | 6 | 8, ..] => Self::Refused("a zip archive", UNPACK),
            [b'7', b'z', 0xbc, 0xaf, ..] => Self::Refused("a 7z archive", UNPACK),
            [b'R', b'a', b'r', b'!', ..] => Self::Refused("a rar archive", UNPACK),
            [0x04, 0x22, 0x4d, 0x18, ..] | [0x02, 0x21, 0x4c, 0x18, ..] => {
                Self::Refused("compressed with lz4", DECOMPRESS)
            }
            [0x1f, 0x9d | 0xa0, ..] => Self::Refused("compressed with compress (.Z)", DECOMPRESS),
            [b'L', b'Z', b'I', b'P', ..] => Self::Refused("compressed with lzip", DECOMPRESS),
            [0x5d, 0, ..] => Self::Refused("compressed with lzma (not xz)", DECOMPRESS),
            [0x89, b'L', b'Z', b'O', ..] => Self::Refused("compressed with lzop", DECOMPRESS),
            [0xff, 0x06, 0, 0, b's', b'N', b'a', b'P', ..] => {
                Self::Refused("compressed with snappy", DECOMPRESS)
            }
            [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => {
                Self::Refused("UTF-32 text", CONVERT)
            }
            [0xff, 0xfe, ..]
            | [0xfe, 0xff, ..]
            | [b'{' | b'[' | b'"' | b'0'..=b'9', 0, ..]
            | [0, b'{' | b'[' | b'"' | b'0'..=b'9', ..] => Self::Refused("UTF-16 text", CONVERT),
            _ if is_tar(head) => Self::Refused("a tar archive", UNPACK),
            _ => Self::Plain,
        }
    }
}

/// Whether it begins with a header of tar: of any kind, so by its checksum.
fn is_tar(head: &[u8]) -> bool {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    if head.len() < HEAD {
        return false;
    }
    let written = head.get(CHECKSUM).unwrap_or_default();
    let digits: Vec<u8> = written
        .iter()
        .copied()
        .skip_while(|byte| *byte == b' ')
        .take_while(u8::is_ascii_digit)
        .collect();
    let wanted = std::str::from_utf8(&digits)
        .ok()
        .and_then(|digits| u32::from_str_radix(digits, 8).ok());
    let bytes = head.iter().enumerate();
    let sum: u32 = bytes
        .map(|(at, byte)| u32::from(if CHECKSUM.contains(&at) { b' ' } else { *byte }))
        .sum();
    wanted == Some(sum)
}

/// The members of a gzip file, or the streams of a bzip2 file. Zeros behind the last one are padding,
/// as `gzip` itself takes them.
struct Members<R, D> {
    inner: Option<D>,
    begin: fn(R) -> D,
    end: fn(D) -> R,
}

impl<R, D> Members<R, D> {
    fn new(raw: R, begin: fn(R) -> D, end: fn(D) -> R) -> Self {
        Self {
            inner: Some(begin(raw)),
            begin,
            end,
        }
    }
}

impl<R: BufRead, D: Read> Read for Members<R, D> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.inner {
            let read = member.read(out)?;
            if read > 0 || out.is_empty() {
                return Ok(read);
            }
            let Some(member) = self.inner.take() else {
                break;
            };
            let mut raw = (self.end)(member);
            if passed_padding(&mut raw)? {
                self.inner = Some((self.begin)(raw));
            }
        }
        Ok(0)
    }
}

/// Passes over zeros; whether something follows.
fn passed_padding(raw: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let available = match raw.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if available.is_empty() {
            return Ok(false);
        }
        let zeros = available.iter().take_while(|byte| **byte == 0).count();
        let is_all = zeros == available.len();
        raw.consume(zeros);
        if !is_all {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        // With a field of a header that nobody knows, a name and a comment.
        let mut member = flate2::GzBuilder::new()
            .extra(b"xy\x04\x00abcd".as_slice())
            .filename("audit.log")
            .comment("c")
            .write(Vec::new(), flate2::Compression::fast());
        member.write_all(text).unwrap();
        member.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        ::zstd::encode_all(text, 1).unwrap()
    }

    /// A frame that asks for a window of 2 GiB.
    fn long_window(text: &[u8]) -> Vec<u8> {
        let length = u8::try_from(text.len()).unwrap();
        // No checksum, no size; the window; one block that is the last one, as it is.
        let head = [
            0x28,
            0xb5,
            0x2f,
            0xfd,
            0,
            (31 - 10) << 3,
            1 | length << 3,
            0,
            0,
        ];
        [&head, text].concat()
    }

    fn bzip2(text: &[u8]) -> Vec<u8> {
        let mut stream = ::bzip2::write::BzEncoder::new(Vec::new(), ::bzip2::Compression::fast());
        stream.write_all(text).unwrap();
        stream.finish().unwrap()
    }

    fn xz(text: &[u8]) -> Vec<u8> {
        let mut stream = liblzma::write::XzEncoder::new(Vec::new(), 1);
        stream.write_all(text).unwrap();
        stream.finish().unwrap()
    }

    fn read(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        inflate(Box::new(Cursor::new(bytes)))?.read_to_end(&mut all)?;
        Ok(all)
    }

    #[test]
    fn every_compression_is_read_whatever_its_format_allows() {
        const WANTED: &[u8] = b"one\ntwo\n";
        let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        for (name, bytes) in [
            ("plain", WANTED.to_vec()),
            (
                "gzip",
                [gzip(b"one\n"), gzip(b""), gzip(b"two\n"), vec![0; 600]].concat(),
            ),
            ("zstd", [zstd(b"one\n"), zstd(b"two\n")].concat()),
            (
                "zstd, frames to be passed over",
                [skipped.clone(), zstd(b"one\n"), skipped, zstd(b"two\n")].concat(),
            ),
            ("bzip2", [bzip2(b"one\n"), bzip2(b"two\n")].concat()),
            ("bzip2, empty first", [bzip2(b""), bzip2(WANTED)].concat()),
            ("bzip2, padded", [bzip2(WANTED), vec![0; 600]].concat()),
            ("zstd, a long window", long_window(WANTED)),
            (
                "xz",
                [xz(b"one\n"), vec![0; 8], xz(b"two\n"), vec![0; 4]].concat(),
            ),
            ("gzip in xz", xz(&gzip(WANTED))),
        ] {
            let all = read(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(all, WANTED, "{name}");
        }
        assert_eq!(read(Vec::new()).unwrap(), b"");
    }

    #[test]
    fn what_is_not_read_is_refused_by_name() {
        let mut tar = vec![0; 1024];
        for (at, bytes) in [
            (0, &b"audit.log"[..]),
            (100, b"0000644\0"),
            (124, b"00000000100\0"),
            (148, b"        "),
        ] {
            tar[at..at + bytes.len()].copy_from_slice(bytes);
        }
        let sum: u32 = tar[..512].iter().map(|byte| u32::from(*byte)).sum();
        tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let utf16: Vec<u8> = "\u{feff}{}"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        for (bytes, name) in [
            (b"PK\x03\x04abc".to_vec(), "zip"),
            (b"PK\x05\x06abc".to_vec(), "zip"),
            (tar.clone(), "tar"),
            (gzip(&tar), "tar"),
            (xz(&tar), "tar"),
            (utf16.clone(), "UTF-16"),
            (utf16[2..].to_vec(), "UTF-16"),
            (b"[\0{\0".to_vec(), "UTF-16"),
            (vec![0x5d, 0, 0x10, 0, 0], "lzma"),
            (gzip(&utf16), "UTF-16"),
            (vec![0x04, 0x22, 0x4d, 0x18, 0x64], "lz4"),
            (gzip(&gzip(&gzip(b"x"))), "more than twice"),
        ] {
            let error = read(bytes).unwrap_err().to_string();
            assert!(error.contains(name), "{name}: {error}");
        }
    }

    #[test]
    fn a_file_that_ends_too_early_is_an_error() {
        let text = vec![b'x'; 10_000];
        for bytes in [gzip(&text), zstd(&text), bzip2(&text), xz(&text)] {
            let cut = bytes.len() - 7;
            assert!(read(bytes[..cut].to_vec()).is_err());
        }
    }
}
