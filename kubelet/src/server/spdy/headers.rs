//! Header blocks of SPDY/3.1: name and value pairs, deflated with a preset dictionary, one stream for a connection's
//! whole life in each direction.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

/// An inflated block's size at most; ours are a few hundred bytes.
const MAX_BLOCK: usize = 64 << 10;
/// miniz's window is as large as deflate's.
const WINDOW: usize = 32 << 10;

pub(super) type Headers = Vec<(String, String)>;

/// Strings that the dictionary begins with, each after its length in four bytes (SPDY/3 §2.6.10.1).
const COUNTED: [&str; 46] = [
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
];
const COUNTED_TOO: [&str; 14] = [
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
];
const COUNTED_LAST: [&str; 5] = ["url", "public", "set-cookie", "keep-alive", "origin"];
const TAIL: &str = "1001012012022052063003023033043053063074024054064074084094104114124134144154164175025\
04505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept \
Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,\
application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8\
charset=iso-8859-1,utf-,*,enq=0.";

fn dictionary() -> Vec<u8> {
    let mut out = Vec::with_capacity(1423);
    for word in COUNTED.iter().chain(&COUNTED_TOO).chain(&COUNTED_LAST) {
        out.extend_from_slice(&u32::try_from(word.len()).unwrap_or(0).to_be_bytes());
        out.extend_from_slice(word.as_bytes());
    }
    out.extend_from_slice(TAIL.as_bytes());
    out
}

/// Reads the header blocks of one direction.
pub(super) struct Decoder {
    inner: Box<DecompressorOxide>,
    window: Vec<u8>,
    position: usize,
    /// The zlib header was read.
    begun: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { inner: Box::default(), window: vec![0; WINDOW], position: 0, begun: false }
    }
}

impl Decoder {
    /// Inflates and parses one block; `None` when it is broken or too large, and with it the connection.
    pub fn decode(&mut self, block: &[u8]) -> Option<Headers> {
        let mut rest = block;
        if !std::mem::replace(&mut self.begun, true) {
            rest = self.zlib_header(rest)?;
        }
        let mut out = Vec::new();
        loop {
            // More input follows in the next block; the window goes round.
            let flags = inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
            let (status, used, made) = decompress(&mut self.inner, rest, &mut self.window, self.position, flags);
            out.extend_from_slice(&self.window[self.position..self.position + made]);
            self.position = (self.position + made) % WINDOW;
            rest = &rest[used..];
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput if rest.is_empty() => break,
                _ => return None,
            }
            if out.len() > MAX_BLOCK {
                return None;
            }
        }
        parse(&out)
    }

    /// Skips the header; when it names a dictionary, the window begins with it.
    fn zlib_header<'a>(&mut self, block: &'a [u8]) -> Option<&'a [u8]> {
        let flags = *block.get(1)?;
        if flags & 0x20 == 0 {
            return block.get(2..);
        }
        let words = dictionary();
        self.window[..words.len()].copy_from_slice(&words);
        self.position = words.len();
        block.get(6..)
    }
}

fn parse(block: &[u8]) -> Option<Headers> {
    let mut rest = block;
    let count = take_u32(&mut rest)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = take_text(&mut rest)?.to_ascii_lowercase();
        headers.push((name, take_text(&mut rest)?));
    }
    Some(headers)
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    let (head, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    Some(u32::from_be_bytes(*head))
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(take_u32(rest)?).ok()?;
    let text = rest.get(..length)?;
    *rest = &rest[length..];
    String::from_utf8(text.to_vec()).ok()
}

/// An empty block as deflate writes it uncompressed. It is all that a server's replies here say: which stream is
/// taken stands in the frame. The first block of a connection has the zlib header before it.
pub(super) fn empty_block(first: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    if first {
        out.extend_from_slice(&[0x78, 0x01]);
    }
    // A stored block with the count 0, then an empty one: the reader's flush.
    out.extend_from_slice(&[0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0]);
    out.extend_from_slice(&[0, 0, 0, 0xff, 0xff]);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn stored(block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap();
        let mut out = vec![0];
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
        out.extend_from_slice(&[0, 0, 0, 0xff, 0xff]);
        out
    }

    fn block(headers: &[(&str, &str)]) -> Vec<u8> {
        let mut out = u32::try_from(headers.len()).unwrap().to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(k, v)| [k, v]) {
            out.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out
    }

    #[test]
    fn the_dictionary_is_the_published_one() {
        let words = dictionary();
        // Adler-32 of SPDY/3's dictionary, as it stands in the zlib header of every client.
        let (mut a, mut b) = (1_u32, 0_u32);
        for byte in &words {
            a = (a + u32::from(*byte)) % 65_521;
            b = (b + a) % 65_521;
        }
        assert_eq!((words.len(), (b << 16) | a), (1423, 0xe3c6_a7c2));
    }

    #[test]
    fn blocks_share_one_stream() {
        let mut decoder = Decoder::default();
        let mut first = vec![0x78, 0x01];
        first.extend(stored(&block(&[("Streamtype", "error"), ("port", "80")])));
        let got = decoder.decode(&first).unwrap();
        assert_eq!(got, [("streamtype".to_owned(), "error".to_owned()), ("port".to_owned(), "80".to_owned())]);
        let got = decoder.decode(&stored(&block(&[("a", "b")]))).unwrap();
        assert_eq!(got, [("a".to_owned(), "b".to_owned())]);
        assert!(decoder.decode(&stored(&[0, 0, 0, 9])).is_none());
    }

    #[test]
    fn our_own_blocks_are_readable() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(&empty_block(true)).unwrap(), []);
        assert_eq!(decoder.decode(&empty_block(false)).unwrap(), []);
    }
}
