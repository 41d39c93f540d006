//! Requests that two parsers might read differently, and the gate's answer to each without a proxy.
//!
//! Placeholders, so that an entry contains only what it tests: `@post` is the head of an attempt
//! without its framing and its empty line, `@get` that of a plain request, `@hidden` a whole
//! request, `@hex` the hidden request's length in hex, `@len` the length of everything after the
//! entry's first empty line. Every character is one byte.

/// The answers to an entry and to the request that is sent after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// A 4xx or 505, and then the end.
    Refused,
    /// The entry alone is answered, and then the connection ends: the start of the next request is
    /// not guessed.
    Last,
    /// The entry is one request: it is answered, and then the request after it.
    One,
    /// The entry is two requests, on purpose.
    Both,
    /// More bytes are announced than arrive: the connection ends at a timeout, and no part of the
    /// entry is a request.
    Never,
}

use Want::{Both, Last, Never, One, Refused};

pub const ENTRIES: &[(&str, &str, Want)] = &[
    // What honest clients send.
    ("plain", "@get\r\n", One),
    ("length", "@postContent-Length: @len\r\n\r\n@hidden", One),
    ("no body", "@postContent-Length: 0\r\n\r\n", One),
    ("pipelined", "@get\r\n@hidden", Both),
    ("length, then pipelined", "@postContent-Length: 2\r\n\r\n{}@hidden", Both),
    ("empty lines first", "\r\n\r\n@get\r\n", One),
    ("chunked", "@postTransfer-Encoding: chunked\r\n\r\n@hex\r\n@hidden\r\n0\r\n\r\n", Last),
    ("chunked, in capitals", "@postTRANSFER-ENCODING: CHUNKED\r\n\r\n@hex\r\n@hidden\r\n0\r\n\r\n", Last),
    ("length beyond what comes", "@postContent-Length: 2000\r\n\r\n@hidden", Never),
    ("chunk beyond what comes", "@postTransfer-Encoding: chunked\r\n\r\n700\r\n@hidden", Never),
    // Two lengths.
    ("CL.TE", "@postContent-Length: @len\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n@hidden", Refused),
    (
        "CL.TE, short",
        "@postContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n@hex\r\n@hidden\r\n0\r\n\r\n",
        Refused,
    ),
    ("TE.CL", "@postTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n@hidden", Refused),
    ("TE.CL, zero", "@postTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n@hidden", Refused),
    (
        "GET with CL.TE",
        "@getContent-Length: @len\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n@hidden",
        Refused,
    ),
    ("CL.CL", "@postContent-Length: 0\r\nContent-Length: @len\r\n\r\n@hidden", Refused),
    ("CL.CL, turned", "@postContent-Length: @len\r\nContent-Length: 0\r\n\r\n@hidden", Refused),
    ("CL.CL, the same", "@postContent-Length: @len\r\nContent-Length: @len\r\n\r\n@hidden", Refused),
    ("CL as a list", "@postContent-Length: 0, @len\r\n\r\n@hidden", Refused),
    ("CL as a list of the same", "@postContent-Length: 5, 5\r\n\r\n12345@hidden", Refused),
    // Lengths that are not digits.
    ("CL with plus", "@postContent-Length: +@len\r\n\r\n@hidden", Refused),
    ("CL with minus", "@postContent-Length: -1\r\n\r\n@hidden", Refused),
    ("CL in hex", "@postContent-Length: 0x@hex\r\n\r\n@hidden", Refused),
    ("CL with an exponent", "@postContent-Length: 1e1\r\n\r\n@hidden", Refused),
    ("CL with a space inside", "@postContent-Length: 0 @len\r\n\r\n@hidden", Refused),
    ("CL with a tab inside", "@postContent-Length: 0\t@len\r\n\r\n@hidden", Refused),
    ("CL with a vertical tab", "@postContent-Length: \x0b@len\r\n\r\n@hidden", Refused),
    ("CL with a dot", "@postContent-Length: 0.0\r\n\r\n@hidden", Refused),
    ("CL in quotes", "@postContent-Length: \"0\"\r\n\r\n@hidden", Refused),
    ("CL of nothing", "@postContent-Length: \r\n\r\n@hidden", Refused),
    ("CL that overflows", "@postContent-Length: 18446744073709551616\r\n\r\n@hidden", Refused),
    ("CL that wraps 32 bits", "@postContent-Length: 4294967296\r\n\r\n@hidden", Refused),
    ("CL with spaces around", "@postContent-Length:  \t@len \t\r\n\r\n@hidden", One),
    ("CL with zeros in front", "@postContent-Length: 0000@len\r\n\r\n@hidden", One),
    ("CL with no-break space", "@postContent-Length: \u{a0}@len\r\n\r\n@hidden", Refused),
    // Transfer codings other than chunked, or in unusual spellings.
    ("TE unknown", "@postTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n@hidden", Refused),
    ("TE identity", "@postTransfer-Encoding: identity\r\n\r\n0\r\n\r\n@hidden", Refused),
    ("TE gzip, chunked", "@postTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n@hidden", Refused),
    ("TE chunked, identity", "@postTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n@hidden", Refused),
    ("TE twice in a list", "@postTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n@hidden", Refused),
    (
        "TE.TE",
        "@postTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n@hidden",
        Refused,
    ),
    (
        "TE.TE, one unknown",
        "@postTransfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n\r\n0\r\n\r\n@hidden",
        Refused,
    ),
    ("TE empty, CL", "@postTransfer-Encoding:\r\nContent-Length: @len\r\n\r\n0\r\n\r\n@hidden", Refused),
    ("TE in quotes", "@postTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n@hidden", Refused),
    ("TE with a parameter", "@postTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n@hidden", Refused),
    ("TE with a comma", "@postTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n@hidden", Refused),
    ("TE after a vertical tab", "@postTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n@hidden", Refused),
    ("TE after a tab", "@postTransfer-Encoding:\tchunked\r\n\r\n@hex\r\n@hidden\r\n0\r\n\r\n", Last),
    (
        "TE and CL after an odd one",
        "@postTransfer_Encoding: chunked\r\nContent-Length: @len\r\n\r\n0\r\n\r\n@hidden",
        One,
    ),
    (
        "TE with HTTP/1.0",
        "GET /api/v1/sales/demo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n@hidden",
        Refused,
    ),
    ("TE folded", "@postTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n@hidden", Refused),
    // Fields that are written in odd ways.
    ("space before the colon", "@postContent-Length : @len\r\n\r\n@hidden", Refused),
    ("tab before the colon", "@postTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n@hidden", Refused),
    ("line before the colon", "@postTransfer-Encoding\r\n: chunked\r\n\r\n0\r\n\r\n@hidden", Refused),
    ("space before a name", "@post Content-Length: @len\r\n\r\n@hidden", Refused),
    ("space before the first name", "GET /api/v1/sales/demo HTTP/1.1\r\n Host: a\r\n\r\n@hidden", Refused),
    ("folded value", "@postX: a\r\n Content-Length: @len\r\n\r\n@hidden", Refused),
    ("no colon", "@postContent-Length\r\n\r\n@hidden", Refused),
    ("no name", "@post: @len\r\n\r\n@hidden", Refused),
    ("NUL in a name", "@postContent-\0Length: @len\r\n\r\n@hidden", Refused),
    ("NUL in a value", "@postX: a\0b\r\nContent-Length: @len\r\n\r\n@hidden", Refused),
    ("bytes above 127 in a name", "@postContent-Length\u{ff}: @len\r\n\r\n@hidden", Refused),
    ("bytes above 127 in a value", "@postX: \u{ff}\u{fe}\r\nContent-Length: @len\r\n\r\n@hidden", One),
    ("DEL in a name", "@postX\x7f: a\r\nContent-Length: @len\r\n\r\n@hidden", Refused),
    ("brackets in a name", "@postX[0]: a\r\nContent-Length: @len\r\n\r\n@hidden", Refused),
    ("underscores in the length's name", "@postContent_Length: @len\r\nContent-Length: 0\r\n\r\n", One),
    // Ends of lines.
    ("bare LF after a field", "@postX: a\nContent-Length: @len\r\n\r\n@hidden", Refused),
    ("bare LF before the body", "@postContent-Length: @len\r\n\n@hidden", Refused),
    ("bare LF throughout", "GET /api/v1/sales/demo HTTP/1.1\nHost: a\n\n@hidden", Refused),
    ("bare CR in a value", "@postX: a\rContent-Length: @len\r\n\r\n@hidden", Refused),
    ("CR CR LF", "@postX: a\r\r\nContent-Length: @len\r\n\r\n@hidden", Refused),
    ("CR before the end", "@postContent-Length: @len\r\n\r\r\n@hidden", Refused),
    // Request lines.
    ("absolute form", "GET http://a/api/v1/sales/demo HTTP/1.1\r\nHost: a\r\n\r\n", One),
    ("absolute form of another host", "GET http://b/api/v1/sales/demo HTTP/1.1\r\nHost: a\r\n\r\n", One),
    ("two spaces", "GET  /api/v1/sales/demo HTTP/1.1\r\nHost: a\r\n\r\n@hidden", Refused),
    ("tab for a space", "GET\t/api/v1/sales/demo HTTP/1.1\r\nHost: a\r\n\r\n@hidden", Refused),
    (
        "space inside the target",
        "GET /api/v1/sales/demo HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n@hidden",
        Refused,
    ),
    ("NUL in the target", "GET /api/v1/sales/demo\0 HTTP/1.1\r\nHost: a\r\n\r\n@hidden", Refused),
    (
        "an encoded end in the target",
        "GET /api/v1/sales/demo%0d%0aContent-Length:%205 HTTP/1.1\r\nHost: a\r\n\r\n",
        One,
    ),
    ("no version", "GET /api/v1/sales/demo\r\n\r\n@hidden", Refused),
    ("version 2.0", "GET /api/v1/sales/demo HTTP/2.0\r\nHost: a\r\n\r\n@hidden", Refused),
    ("version 1.2", "GET /api/v1/sales/demo HTTP/1.2\r\nHost: a\r\n\r\n@hidden", Refused),
    ("version in small letters", "GET /api/v1/sales/demo http/1.1\r\nHost: a\r\n\r\n@hidden", Refused),
    ("two hosts", "@getHost: b\r\n\r\n@hidden", Refused),
    ("no host", "GET /api/v1/sales/demo HTTP/1.1\r\n\r\n@hidden", Refused),
    ("HTTP/1.0", "GET /api/v1/sales/demo HTTP/1.0\r\nHost: a\r\n\r\n@hidden", Last),
    (
        "HTTP/1.0 that would stay",
        "GET /api/v1/sales/demo HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        One,
    ),
    // Bodies where none is expected, and hop-by-hop fields.
    ("GET with a length", "@getContent-Length: @len\r\n\r\n@hidden", Last),
    ("GET with chunks", "@getTransfer-Encoding: chunked\r\n\r\n@hex\r\n@hidden\r\n0\r\n\r\n", Last),
    (
        "Connection names the length",
        "@postConnection: Content-Length\r\nContent-Length: @len\r\n\r\n@hidden",
        One,
    ),
    ("Connection: close", "@getConnection: close\r\n\r\n@hidden", Last),
    (
        "Upgrade",
        "@getConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
        One,
    ),
    ("Expect, and the body at once", "@postExpect: 100-continue\r\nContent-Length: @len\r\n\r\n@hidden", One),
    ("Expect something else", "@postExpect: a-miracle\r\nContent-Length: @len\r\n\r\n@hidden", One),
    // Chunks.
    ("chunk with an extension", "@postTransfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\n\r\n", Last),
    (
        "chunk extension with a bare LF",
        "@postTransfer-Encoding: chunked\r\n\r\n2;\n{}\r\n0\r\n\r\n@hidden",
        Last,
    ),
    (
        "chunk extension that hides an end",
        "@postTransfer-Encoding: chunked\r\n\r\n2;a\"\r\n{}\r\n0\r\n\r\n@hidden",
        Last,
    ),
    (
        "chunk size that overflows",
        "@postTransfer-Encoding: chunked\r\n\r\n10000000000000002\r\n{}\r\n0\r\n\r\n@hidden",
        Last,
    ),
    ("chunk size with 0x", "@postTransfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n@hidden", Last),
    ("chunk size with plus", "@postTransfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n@hidden", Last),
    ("chunk size with minus", "@postTransfer-Encoding: chunked\r\n\r\n-1\r\n{}\r\n0\r\n\r\n@hidden", Last),
    ("chunk size after a space", "@postTransfer-Encoding: chunked\r\n\r\n 2\r\n{}\r\n0\r\n\r\n@hidden", Last),
    (
        "chunk size before a space",
        "@postTransfer-Encoding: chunked\r\n\r\n2 \r\n{}\r\n0\r\n\r\n@hidden",
        Last,
    ),
    ("chunk size of nothing", "@postTransfer-Encoding: chunked\r\n\r\n\r\n{}\r\n0\r\n\r\n@hidden", Last),
    ("chunk that ends in LF", "@postTransfer-Encoding: chunked\r\n\r\n2\r\n{}\n0\r\n\r\n@hidden", Last),
    ("chunk size that ends in LF", "@postTransfer-Encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n@hidden", Last),
    ("chunk size that ends in CR", "@postTransfer-Encoding: chunked\r\n\r\n2\r{}\r\n0\r\n\r\n@hidden", Last),
    (
        "chunk longer than it says",
        "@postTransfer-Encoding: chunked\r\n\r\n2\r\n{}{}\r\n0\r\n\r\n@hidden",
        Last,
    ),
    ("last chunk without its end", "@postTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n@hidden", Last),
    ("last chunk of zeros", "@postTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0000\r\n\r\n@hidden", Last),
    (
        "trailers that forge fields",
        "@postTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nContent-Length: 50\r\nFloodgate-Pass: x\r\nHost: b\r\n\r\n@hidden",
        Last,
    ),
    (
        "trailer with a bare LF",
        "@postTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: a\nY: b\r\n\r\n@hidden",
        Last,
    ),
    (
        "trailer without a colon",
        "@postTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nnonsense\r\n\r\n@hidden",
        Last,
    ),
];
