//! gzip of large answers for clients that accept it, as upstream: only above 128 KiB.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Answers below this many bytes go out as they are.
pub const THRESHOLD: usize = 128 * 1024;

/// Whether `Accept-Encoding` allows gzip.
pub fn accepts_gzip(headers: &http::HeaderMap) -> bool {
    headers.get_all(http::header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok()).any(|v| {
        v.split(',').any(|item| {
            let mut parts = item.split(';').map(str::trim);
            let coding = parts.next().unwrap_or("");
            let refused = parts.any(|p| p.strip_prefix("q=").is_some_and(|q| q.parse::<f32>() == Ok(0.0)));
            (coding.eq_ignore_ascii_case("gzip") || coding == "*") && !refused
        })
    })
}

/// One gzip member of all the pieces.
pub fn gzip(pieces: &[Bytes]) -> std::io::Result<Bytes> {
    let size: usize = pieces.iter().map(Bytes::len).sum();
    let mut encoder = GzEncoder::new(Vec::with_capacity(size / 6), Compression::fast());
    for piece in pieces {
        encoder.write_all(piece)?;
    }
    Ok(Bytes::from(encoder.finish()?))
}
