//! What the machine itself needs for the same bytes: to receive them, to copy them, to look through
//! them, to inflate them.

use std::{
    hint::black_box,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use crate::{batch::Messages, process, scenario::Compression};

/// Reads and drops what comes over bare TCP: a length and as many bytes, then answers with one byte.
pub(crate) fn sink(listen: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen)?;
    for stream in listener.incoming() {
        let stream = stream?;
        // A client that goes away ends its thread, not the sink.
        std::thread::spawn(move || drain(stream).is_ok());
    }
    Ok(())
}

fn drain(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut rest = u32::from_be_bytes(length) as usize;
        while rest > 0 {
            let most = rest.min(buffer.len());
            let Some(piece) = buffer.get_mut(..most) else {
                return Ok(());
            };
            let read = stream.read(piece)?;
            if read == 0 {
                return Ok(());
            }
            rest -= read;
        }
        stream.write_all(&[0])?;
    }
}

/// CPU nanoseconds per record of copying a request, of looking for a word that it does not hold, and
/// of inflating it if it is compressed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Floors {
    pub(crate) copy: f64,
    pub(crate) find: f64,
    pub(crate) inflate: f64,
}

/// Measures the floors with the first request of some.
pub(crate) fn measure(
    messages: &Messages,
    batch: usize,
    compression: Compression,
) -> anyhow::Result<Floors> {
    let plain = &messages.plain;
    let mut copy = vec![0; plain.len()];
    let finder = memchr::memmem::Finder::new(b"\"system:unauthenticated-not-there\"");
    let packed = messages.all.first().cloned().unwrap_or_default();
    let mut out = Vec::with_capacity(plain.len());
    Ok(Floors {
        copy: per_record(batch, || {
            copy.copy_from_slice(plain);
            black_box(&copy);
        })?,
        find: per_record(batch, || {
            black_box(finder.find(black_box(plain)));
        })?,
        inflate: match compression {
            Compression::None => 0.0,
            Compression::Gzip => per_record(batch, || {
                out.clear();
                let packed = packed.get(5..).unwrap_or_default();
                let _read = flate2::read::GzDecoder::new(packed).read_to_end(&mut out);
                black_box(&out);
            })?,
            Compression::Zstd => per_record(batch, || {
                let packed = packed.get(5..).unwrap_or_default();
                let _read = black_box(zstd::bulk::decompress(packed, plain.len()));
            })?,
        },
    })
}

/// CPU nanoseconds per record of something that is done for a request.
fn per_record(batch: usize, mut once: impl FnMut()) -> anyhow::Result<f64> {
    const LEAST: Duration = Duration::from_millis(100);
    once();
    let begin = process::own_cpu()?;
    let mut times = 0_u32;
    loop {
        for _ in 0..8 {
            once();
        }
        times += 8;
        let spent = process::own_cpu()?.saturating_sub(begin);
        if spent >= LEAST {
            return Ok(spent.as_nanos() as f64 / f64::from(times) / batch as f64);
        }
    }
}
