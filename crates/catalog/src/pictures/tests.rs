//! Uploads as operators and attackers send them: each format, each way to stand, and files that are
//! not what they say.

use super::*;
use image::{Rgb, RgbImage};

fn coloured(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let of = |at: u32, whole: u32| u8::try_from(at * 255 / whole.max(1)).unwrap();
        Rgb([of(x, width), of(y, height), 90])
    })
}

fn jpeg(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, 90);
    encoder.write_image(picture, picture.width(), picture.height(), ExtendedColorType::Rgb8).unwrap();
    bytes
}

fn png(picture: &DynamicImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn webp(picture: &RgbaImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = WebPEncoder::new_lossless(&mut bytes);
    encoder.write_image(picture, picture.width(), picture.height(), ExtendedColorType::Rgba8).unwrap();
    bytes
}

/// A segment of a JPEG, after its first two bytes.
fn with_segment(jpeg: &[u8], marker: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xff, marker], &length, content, &jpeg[2..]].concat()
}

/// Exif with an orientation and a name.
fn exif(orientation: u8) -> Vec<u8> {
    let mut tiff = b"MM\0\x2a\0\0\0\x08\0\x02".to_vec();
    tiff.extend([0x01, 0x0e, 0, 2, 0, 0, 0, 8]);
    tiff.extend([0, 0, 0, 38]);
    tiff.extend([0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0]);
    tiff.extend([0, 0, 0, 0]);
    tiff.extend(b"GPS-HERE");
    [b"Exif\0\0".to_vec(), tiff].concat()
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

fn sizes(upload: &[u8]) -> Vec<(u32, u32)> {
    render(upload).unwrap().iter().map(|of| (of.width, of.height)).collect()
}

#[test]
fn each_format_comes_in_and_goes_out_in_the_sizes_that_it_fills() {
    let large = coloured(2000, 1000);
    let want = [(320, 160), (640, 320), (1280, 640)];
    assert_eq!(sizes(&jpeg(&large)), want);
    assert_eq!(sizes(&png(&DynamicImage::ImageRgb8(large.clone()))), want);
    assert_eq!(sizes(&webp(&DynamicImage::ImageRgb8(large).into_rgba8())), want);
    // None is larger than the upload, and one of each size is enough.
    assert_eq!(sizes(&jpeg(&coloured(500, 1000))), [(160, 320), (320, 640), (500, 1000)]);
    assert_eq!(sizes(&jpeg(&coloured(320, 10))), [(320, 10)]);
    assert_eq!(sizes(&jpeg(&coloured(1, 1))), [(1, 1)]);
    assert_eq!(sizes(&jpeg(&coloured(5000, 1))), [(320, 1), (640, 1), (1280, 1)]);
    for rendition in render(&jpeg(&coloured(2000, 1000))).unwrap() {
        let Rendition { name, media_type, width, height, bytes } = rendition;
        assert_eq!((media_type, name.len()), ("image/jpeg", 36), "{name}");
        let again = image::load_from_memory(&bytes).unwrap().into_rgb8();
        assert_eq!(again.dimensions(), (width, height));
        let Rgb([red, green, blue]) = *again.get_pixel(width - 1, 0);
        assert!(red > 240 && green < 15 && blue.abs_diff(90) < 15, "{red} {green} {blue}");
    }
}

#[test]
fn grey_and_deep_pixels_become_plain_ones_and_holes_stay() {
    let grey = DynamicImage::ImageLuma8(DynamicImage::ImageRgb8(coloured(400, 400)).into_luma8());
    assert_eq!(render(&png(&grey)).unwrap()[0].media_type, "image/jpeg");
    let deep = DynamicImage::ImageRgb16(DynamicImage::ImageRgb8(coloured(400, 400)).into_rgb16());
    assert_eq!(sizes(&png(&deep)), [(320, 320), (400, 400)]);
    let opaque = RgbaImage::from_pixel(400, 400, Rgba([1, 2, 3, 255]));
    assert_eq!(render(&png(&opaque.into())).unwrap()[1].media_type, "image/jpeg");
    let mut holes = RgbaImage::from_pixel(400, 400, Rgba([1, 2, 3, 255]));
    holes.put_pixel(7, 7, Rgba([0, 0, 0, 0]));
    let last = render(&png(&holes.clone().into())).unwrap().pop().unwrap();
    assert_eq!(last.media_type, "image/webp");
    assert_eq!(image::load_from_memory(&last.bytes).unwrap().into_rgba8(), holes, "without loss");
}

#[test]
fn what_is_hidden_under_a_hole_is_not_kept_and_does_not_come_into_edges() {
    let half = |x: u32, _| if x < 640 { Rgba([200, 10, 10, 255]) } else { Rgba([0, 255, 0, 0]) };
    let rendered = render(&png(&RgbaImage::from_fn(1280, 64, half).into())).unwrap();
    assert_eq!(rendered.len(), 3);
    for of in &rendered {
        let picture = image::load_from_memory(&of.bytes).unwrap().into_rgba8();
        for Rgba([red, green, _, seen]) in picture.pixels() {
            assert!(*green <= 30 && (*seen < 8 || *red >= 180), "{red} {green} {seen}");
        }
    }
}

/// Its tables would be far larger than the file, and no limit of the decoder knows of them.
#[test]
fn a_webp_without_loss_is_small_or_refused() {
    let picture = RgbaImage::from_pixel(8, 8, Rgba([1, 2, 3, 4]));
    let small = webp(&picture);
    assert!(has_lossless(&small) && render(&small).is_ok());
    let mut large = small.clone();
    large.resize(LOSSLESS_WEBP_BYTES_MAX + 1, 0);
    let why = render(&large).unwrap_err();
    assert!(why.contains("want 512 KiB of it at the most"), "{why}");
    // The chunk that says so may stand behind others.
    let behind = [&small[..12], b"VP8X\x0a\0\0\0", &[0; 10], b"XXXX\x01\0\0\0.\0", b"ALPH\0\0\0\0"].concat();
    assert!(has_lossless(&behind));
    assert!(!has_lossless(b"RIFF\0\0\0\0WEBPVP8 \xff\xff\xff\xff"));
}

#[test]
fn a_picture_is_turned_upright_and_says_nothing_of_where_it_was_taken() {
    let plain = jpeg(&coloured(600, 300));
    for (orientation, upright) in [(1, (600, 300)), (3, (600, 300)), (6, (300, 600)), (8, (300, 600))] {
        let upload = with_segment(&plain, 0xe1, &exif(orientation));
        assert!(contains(&upload, b"GPS-HERE"));
        let rendered = render(&upload).unwrap();
        let last = rendered.last().unwrap();
        assert_eq!((last.width, last.height), upright, "{orientation}");
        for of in &rendered {
            assert!(!contains(&of.bytes, b"GPS-HERE") && !contains(&of.bytes, b"Exif"), "{orientation}");
        }
        // Red grows to the right of what was taken.
        let turned = image::load_from_memory(&last.bytes).unwrap().into_rgb8();
        let reddest = match orientation {
            1 => (590, 150),
            3 => (10, 150),
            6 => (150, 590),
            _ => (150, 10),
        };
        assert!(turned.get_pixel(reddest.0, reddest.1)[0] > 230, "{orientation}");
    }
}

#[test]
fn what_stands_around_the_pixels_is_not_kept() {
    let script = b"<script>alert(1)</script>";
    let plain = jpeg(&coloured(100, 100));
    let commented = with_segment(&plain, 0xfe, script);
    for upload in [[&plain[..], script].concat(), commented] {
        let rendered = render(&upload).unwrap();
        assert!(rendered.iter().all(|of| !contains(&of.bytes, b"<script")));
        assert_eq!(rendered, render(&plain).unwrap(), "the pixels are the same, and so is the name");
    }
}

/// A chunk of a PNG, with its checksum.
fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        let mut crc = u32::MAX;
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
            }
        }
        !crc
    };
    let named = [&kind[..], content].concat();
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&length[..], &named, &crc(&named).to_be_bytes()].concat()
}

/// The head of a PNG that says that it has so many pixels.
fn png_of(width: u32, height: u32) -> Vec<u8> {
    let head = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 6, 0, 0, 0]].concat();
    let pixels = [0x78, 0x01, 0x01, 0, 0, 0xff, 0xff, 0, 0, 0, 1];
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &head), chunk(b"IDAT", &pixels), chunk(b"IEND", b"")]
        .concat()
}

/// Sets the height and width that a JPEG says it has.
fn jpeg_of(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = jpeg(&coloured(16, 16));
    let at = bytes.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    bytes[at + 5..at + 7].copy_from_slice(&height.to_be_bytes());
    bytes[at + 7..at + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

#[test]
fn what_would_cost_too_much_is_refused_by_its_head() {
    let began = std::time::Instant::now();
    for upload in [
        png_of(60_000, 60_000),
        png_of(5_001, 5_000),
        png_of(20_000, 1),
        png_of(u32::MAX, 1),
        jpeg_of(65_000, 65_000),
        jpeg_of(65_000, 1),
    ] {
        assert!(upload.len() < 1000);
        let why = render(&upload).unwrap_err();
        assert!(why.starts_with("picture: "), "{why}");
    }
    let why = render(&png_of(9_000, 9_000)).unwrap_err();
    assert_eq!(why, "picture: 9000 x 9000 pixels, want 25 million at the most, 12000 on a side");
    assert!(render(&png_of(0, 10)).is_err() && render(&jpeg_of(0, 10)).is_err());
    assert!(began.elapsed() < std::time::Duration::from_secs(2), "nothing was decoded");
}

#[test]
fn what_is_no_picture_or_only_half_of_one_is_refused() {
    let check = |upload: &[u8], want: &str| {
        let why = render(upload).unwrap_err();
        assert!(why.contains(want), "want {want}: {why}");
    };
    check(b"", "empty");
    check(b"<!doctype html><script>", "none of JPEG, PNG and WebP");
    check(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "none of");
    check(b"GIF89a\x01\0\x01\0", "GIF");
    check(b"BM\0\0\0\0", "none of");
    check(b"\xff\xd8\xff", "cut off");
    check(b"RIFF\x10\0\0\0WEBPVP8 ", "cut off");
    let large = coloured(300, 300);
    let whole = [jpeg(&large), png(&large.clone().into()), webp(&DynamicImage::from(large).into_rgba8())];
    for upload in whole {
        for part in [upload.len() / 4, upload.len() / 2, upload.len() - 20] {
            check(&upload[..part], "cut off");
        }
    }
    // What comes after the head is nonsense.
    let mut damaged = png(&coloured(300, 300).into());
    let middle = damaged.len() / 2;
    damaged[middle..].iter_mut().for_each(|byte| *byte = byte.wrapping_mul(31).wrapping_add(7));
    check(&damaged, "damaged");
}

#[test]
fn what_moves_is_refused() {
    let still = png(&coloured(10, 10).into());
    let (head, rest) = still.split_at(33);
    let control = chunk(b"acTL", &[0, 0, 0, 2, 0, 0, 0, 0]);
    let frame =
        chunk(b"fcTL", &[0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0]);
    let why = render(&[head, &control, &frame, rest].concat()).unwrap_err();
    assert_eq!(why, "picture: it moves, want one that stands still");
    // A WebP with the flag of an animation, and one frame (RFC 9649, section 2.7).
    let still = webp(&RgbaImage::from_pixel(10, 10, Rgba([1, 2, 3, 255])));
    let chunked = |kind: &[u8], content: &[u8]| {
        let length = u32::try_from(content.len()).unwrap().to_le_bytes();
        let pad = vec![0; content.len() % 2];
        [kind, &length, content, &pad].concat()
    };
    let extended = chunked(b"VP8X", &[0b10, 0, 0, 0, 9, 0, 0, 9, 0, 0]);
    let animation = chunked(b"ANIM", &[0; 6]);
    let frame = [&[0, 0, 0, 0, 0, 0, 9, 0, 0, 9, 0, 0, 1, 0, 0, 0][..], &still[12..]].concat();
    let body = [b"WEBP".to_vec(), extended, animation, chunked(b"ANMF", &frame)].concat();
    let why = render(&chunked(b"RIFF", &body)).unwrap_err();
    assert_eq!(why, "picture: it moves, want one that stands still");
}
