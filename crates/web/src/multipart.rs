//! `multipart/form-data` (RFC 7578), as a browser sends a form with a file. The body is in memory,
//! within the bounds that its reader has set, and a part is a piece of it: nothing is copied. It
//! decides nothing about what a part is.

use memchr::memmem;

/// Parts of a form.
const PARTS_MAX: usize = 32;
/// Bytes of a part's head.
const HEAD_BYTES_MAX: usize = 4096;
/// RFC 2046, section 5.1.1.
const BOUNDARY_BYTES_MAX: usize = 70;

/// A part: a field, or a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<'a> {
    pub name: String,
    /// Whether it came from a file's field. The file's name is not kept: it says nothing.
    pub is_file: bool,
    pub content: &'a [u8],
}

/// The boundary in a `Content-Type`.
pub fn boundary(content_type: &str) -> Option<&str> {
    let (essence, rest) = content_type.split_once(';')?;
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = parameters(rest).find(|(name, _)| name.eq_ignore_ascii_case("boundary"))?.1;
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'"' || byte == b' ';
    let fits = (1..=BOUNDARY_BYTES_MAX).contains(&value.len()) && value.bytes().all(is_allowed);
    fits.then_some(value)
}

/// `name=value` pairs with semicolons between them; values may be quoted.
fn parameters(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim_start_matches([';', ' ', '\t']).trim();
        let value = match after.strip_prefix('"') {
            Some(quoted) => {
                // Browsers write a quote within a value as %22 (HTML, multipart form data).
                let (value, after) = quoted.split_once('"')?;
                rest = after;
                value
            }
            None => {
                let (value, after) = after.split_once(';').unwrap_or((after, ""));
                rest = after;
                value.trim()
            }
        };
        Some((name, value))
    })
}

/// The parts of a body. The error says what is wrong with it.
pub fn parts<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<Part<'a>>, &'static str> {
    let cut = "form: it is cut off, or its boundary is another one";
    let first = format!("--{boundary}");
    let between = format!("\r\n--{boundary}");
    let finder = memmem::Finder::new(between.as_bytes());
    // Text before the first boundary means nothing.
    let mut rest = match body.strip_prefix(first.as_bytes()) {
        Some(rest) => rest,
        None => {
            let at = finder.find(body).ok_or(cut)?;
            &body[at + between.len()..]
        }
    };
    let mut found = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            return Ok(found);
        }
        let part = rest.strip_prefix(b"\r\n").ok_or(cut)?;
        if found.len() == PARTS_MAX {
            return Err("form: too many fields");
        }
        let end = finder.find(part).ok_or(cut)?;
        found.push(read_part(&part[..end])?);
        rest = &part[end + between.len()..];
    }
}

fn read_part(part: &[u8]) -> Result<Part<'_>, &'static str> {
    let head = &part[..part.len().min(HEAD_BYTES_MAX)];
    let end = memmem::find(head, b"\r\n\r\n").ok_or("form: a field's head does not end")?;
    let head = std::str::from_utf8(&head[..end]).map_err(|_| "form: a field's head is not UTF-8")?;
    let disposition = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-disposition").then(|| value.trim())
    });
    let disposition = disposition.ok_or("form: a field has no Content-Disposition")?;
    let (kind, rest) = disposition.split_once(';').ok_or("form: a field has no name")?;
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return Err("form: a field's Content-Disposition is not form-data");
    }
    let value = |wanted: &str| parameters(rest).find(|(name, _)| name.eq_ignore_ascii_case(wanted));
    let (_, name) = value("name").ok_or("form: a field has no name")?;
    let is_file = value("filename").is_some() || value("filename*").is_some();
    Ok(Part { name: name.to_owned(), is_file, content: &part[end + 4..] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boundary_is_read_as_browsers_write_it() {
        let check = |field: &str, want: Option<&str>| assert_eq!(boundary(field), want, "{field}");
        check("multipart/form-data; boundary=----WebKitFormBoundaryx1", Some("----WebKitFormBoundaryx1"));
        check("Multipart/Form-Data;charset=utf-8; Boundary=\"a b\"", Some("a b"));
        check("multipart/form-data; boundary=", None);
        check("multipart/form-data", None);
        check("multipart/mixed; boundary=x", None);
        check(&format!("multipart/form-data; boundary={}", "x".repeat(71)), None);
        check("multipart/form-data; boundary=\"a", None);
        check("multipart/form-data; boundary=a\r\nb", None);
    }

    fn field(name: &str, content: &'static [u8]) -> Part<'static> {
        Part { name: name.to_owned(), is_file: false, content }
    }

    #[test]
    fn parts_are_pieces_of_the_body() {
        let body = b"before\r\n--x\r\nContent-Disposition: form-data; name=\"alt\"\r\n\r\nA phone; \"black\"\r\n\
            --x\r\ncontent-type: image/png\r\ncontent-disposition: form-data; filename=\"a%22;name=b.png\"; name=file\r\n\r\n\
            \x00\r\n--y\r\n\r\n--x--\r\nafter";
        let file = Part { name: "file".into(), is_file: true, content: b"\x00\r\n--y\r\n" };
        assert_eq!(parts(body, "x"), Ok(vec![field("alt", b"A phone; \"black\""), file]));
        assert_eq!(parts(b"--x--\r\n", "x"), Ok(vec![]));
        let empty = b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n--x--";
        assert_eq!(parts(empty, "x"), Ok(vec![field("a", b"")]));
    }

    #[test]
    fn what_is_wrong_with_a_form_is_said() {
        let check = |body: &[u8], want: &str| {
            let got = parts(body, "x").unwrap_err();
            assert!(got.contains(want), "{:?}: {got}", String::from_utf8_lossy(body));
        };
        check(b"", "cut off");
        check(b"--y--", "cut off");
        check(b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\ncut", "cut off");
        check(b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--x", "cut off");
        check(b"--x\r\nContent-Disposition: form-data; name=a\r\n--x--", "does not end");
        check(b"--x\r\nX: y\r\n\r\n1\r\n--x--", "no Content-Disposition");
        check(b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--", "no name");
        check(b"--x\r\nContent-Disposition: attachment; name=a\r\n\r\n1\r\n--x--", "not form-data");
        check(b"--x\r\nContent-Disposition: form-data; name=\xff\r\n\r\n1\r\n--x--", "not UTF-8");
        let one = b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n";
        check(&[&one.repeat(PARTS_MAX + 1)[..], b"--x--"].concat(), "too many");
        let long =
            format!("--x\r\nContent-Disposition: form-data; name={}\r\n\r\n1\r\n--x--", "a".repeat(9000));
        check(long.as_bytes(), "does not end");
    }
}
