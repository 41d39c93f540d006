//! Pictures as operators upload them, made into what shoppers' browsers get: decoded, turned
//! upright, and written anew in several sizes. Nothing of the upload itself is kept: no metadata,
//! nothing that stands before or after the pixels. It knows no database.
//!
//! What its pixels cost is known from a file's first bytes: one with too many is refused before
//! anything is decoded.

use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageResult, Limits, Rgba, RgbaImage,
    codecs::{
        jpeg::{JpegDecoder, JpegEncoder},
        png::PngDecoder,
        webp::{WebPDecoder, WebPEncoder},
    },
    imageops::FilterType,
};
use std::io::Cursor;

/// Bytes of an upload.
pub const UPLOAD_BYTES_MAX: usize = 10 << 20;
/// Pixels of an upload: the 24 megapixels of a telephone.
pub(crate) const PIXELS_MAX: u64 = 25_000_000;
const SIDE_MAX: u32 = 12_000;
/// Bytes of a WebP without loss: its tables may take some hundred times the bytes of the file, and
/// the decoder counts them against no limit.
const LOSSLESS_WEBP_BYTES_MAX: usize = 512 << 10;
/// Memory that one decoding may take for its pixels.
const DECODER_BYTES_MAX: u64 = 128 << 20;
/// Pixels of the longer side of each size that is kept. None is larger than the upload.
const SIDES: [u32; 3] = [320, 640, 1280];
/// Of 100: from here on a photograph's file grows faster than what is seen of it.
const JPEG_QUALITY: u8 = 82;

/// A size of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rendition {
    /// It follows from the bytes.
    pub(crate) name: String,
    pub(crate) media_type: &'static str,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Jpeg,
    Png,
    WebP,
}

/// The format by the first bytes, whatever the file's name and the request say.
fn sniff(upload: &[u8]) -> Result<Format, String> {
    match upload {
        [0xff, 0xd8, 0xff, ..] => Ok(Format::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Ok(Format::Png),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Format::WebP),
        [] => Err("picture: the file is empty".into()),
        [b'G', b'I', b'F', b'8', ..] => Err("picture: it is a GIF, want JPEG, PNG or WebP".into()),
        _ => Err("picture: its bytes are none of JPEG, PNG and WebP".into()),
    }
}

/// The sizes of an upload, the smallest first; at least one. The error says what is wrong with it.
pub(crate) fn render(upload: &[u8]) -> Result<Vec<Rendition>, String> {
    let picture = decode(upload)?;
    let (width, height) = (picture.width(), picture.height());
    let picture = match picture.color().has_alpha() {
        true => with_holes(picture.into_rgba8()),
        false => DynamicImage::ImageRgb8(picture.into_rgb8()),
    };
    let longer = width.max(height);
    let mut sides: Vec<u32> = SIDES.into_iter().filter(|side| *side < longer).collect();
    if sides.len() < SIDES.len() {
        sides.push(longer);
    }
    // From large to small, each from the one before: a large one is read once.
    let mut from = picture;
    let mut all = Vec::with_capacity(sides.len());
    for side in sides.into_iter().rev() {
        from = fit(from, (width, height), side);
        all.push(encode(&from).map_err(|error| format!("picture: it cannot be written anew: {error}"))?);
    }
    all.reverse();
    Ok(all)
}

/// Without transparency if it has none. Otherwise each colour is multiplied by how much of it is
/// seen: what is hidden under a hole is not kept, and does not come into the edges when it is
/// scaled.
fn with_holes(mut picture: RgbaImage) -> DynamicImage {
    if picture.pixels().all(|pixel| pixel.0[3] == u8::MAX) {
        return DynamicImage::ImageRgb8(DynamicImage::ImageRgba8(picture).into_rgb8());
    }
    for Rgba([red, green, blue, seen]) in picture.pixels_mut() {
        for colour in [red, green, blue] {
            *colour = part(u32::from(*colour) * u32::from(*seen), u32::from(u8::MAX));
        }
    }
    DynamicImage::ImageRgba8(picture)
}

/// The colours as they were before that.
fn unmultiplied(picture: &RgbaImage) -> RgbaImage {
    let mut picture = picture.clone();
    for Rgba([red, green, blue, seen]) in picture.pixels_mut() {
        for colour in [red, green, blue] {
            *colour = part(u32::from(*colour) * u32::from(u8::MAX), u32::from(*seen));
        }
    }
    picture
}

/// A quotient, rounded; nothing of nothing.
fn part(of: u32, whole: u32) -> u8 {
    let rounded = (of + whole / 2).checked_div(whole).unwrap_or(0);
    u8::try_from(rounded).unwrap_or(u8::MAX)
}

/// Whether a WebP has pixels without loss, or their transparency, which is coded as these are.
fn has_lossless(webp: &[u8]) -> bool {
    let mut at = 12;
    // Chunks, each with its length, which is made even (RFC 9649, section 2.3).
    while let Some(&[a, b, c, d, l0, l1, l2, l3]) = webp.get(at..at + 8) {
        if [a, b, c, d] == *b"VP8L" || [a, b, c, d] == *b"ALPH" {
            return true;
        }
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        at = at.saturating_add(8).saturating_add(length).saturating_add(length % 2);
    }
    false
}

fn decode(upload: &[u8]) -> Result<DynamicImage, String> {
    let broken = |error: image::ImageError| format!("picture: it is damaged or cut off: {error}");
    let moves = || "picture: it moves, want one that stands still".to_owned();
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(DECODER_BYTES_MAX);
    let from = Cursor::new(upload);
    match sniff(upload)? {
        Format::Jpeg => {
            if !is_whole_jpeg(upload) {
                return Err("picture: it is damaged or cut off: the end of the JPEG is missing".into());
            }
            pixels(JpegDecoder::new(from).map_err(broken)?, limits)
        }
        Format::Png => {
            let decoder = PngDecoder::with_limits(from, limits.clone()).map_err(broken)?;
            if decoder.is_apng().map_err(broken)? {
                return Err(moves());
            }
            pixels(decoder, limits)
        }
        Format::WebP => {
            if upload.len() > LOSSLESS_WEBP_BYTES_MAX && has_lossless(upload) {
                let most = LOSSLESS_WEBP_BYTES_MAX >> 10;
                return Err(format!(
                    "picture: a WebP without loss or with transparency, want {most} KiB of it at the most, or PNG"
                ));
            }
            let decoder = WebPDecoder::new(from).map_err(broken)?;
            if decoder.has_animation() {
                return Err(moves());
            }
            pixels(decoder, limits)
        }
    }
}

/// Looks at what the head says first, and decodes then.
fn pixels(mut decoder: impl ImageDecoder, limits: Limits) -> Result<DynamicImage, String> {
    let broken = |error: image::ImageError| format!("picture: it is damaged or cut off: {error}");
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(format!("picture: {width} x {height} pixels, want at least one"));
    }
    let is_too_large = u64::from(width) * u64::from(height) > PIXELS_MAX
        || width.max(height) > SIDE_MAX
        || decoder.total_bytes() > DECODER_BYTES_MAX;
    if is_too_large {
        let millions = PIXELS_MAX / 1_000_000;
        return Err(format!(
            "picture: {width} x {height} pixels, want {millions} million at the most, {SIDE_MAX} on a side"
        ));
    }
    decoder.set_limits(limits).map_err(broken)?;
    // Metadata that cannot be read says nothing of how the picture stands.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(broken)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// Whether its end is there. The decoder fills in grey for what is missing.
fn is_whole_jpeg(upload: &[u8]) -> bool {
    let mut at = 2;
    loop {
        // Segments with a length stand one after the other (ITU-T T.81, annex B).
        let Some([0xff, marker]) = upload.get(at..at + 2) else { return false };
        match marker {
            0xff => at += 1,
            0xd9 => return true,
            0x01 | 0xd0..=0xd7 => at += 2,
            _ => {
                let Some([high, low]) = upload.get(at + 2..at + 4) else { return false };
                at += 2 + usize::from(u16::from_be_bytes([*high, *low])).max(2);
                if *marker == 0xda {
                    // Then come coded pixels, in which no marker stands but those of a restart.
                    let coded = upload.get(at..).unwrap_or_default();
                    let end = coded
                        .windows(2)
                        .position(|two| two[0] == 0xff && !matches!(two[1], 0x00 | 0xd0..=0xd7 | 0xff));
                    let Some(end) = end else { return false };
                    at += end;
                }
            }
        }
    }
}

/// The picture so small that its longer side has so many pixels. `whole` is what the upload has.
fn fit(picture: DynamicImage, whole: (u32, u32), side: u32) -> DynamicImage {
    let longer = u64::from(whole.0.max(whole.1));
    let scaled = |length: u32| {
        let rounded = (u64::from(length) * u64::from(side) + longer / 2) / longer;
        u32::try_from(rounded).unwrap_or(side).max(1)
    };
    let (width, height) = (scaled(whole.0), scaled(whole.1));
    if (width, height) == (picture.width(), picture.height()) {
        return picture;
    }
    // A plain mean first: the finer filter has four bytes for each of one.
    let rough = match picture.width() / 2 >= width && picture.height() / 2 >= height {
        true => picture.thumbnail_exact(width * 2, height * 2),
        false => picture,
    };
    rough.resize_exact(width, height, FilterType::CatmullRom)
}

/// A photograph as JPEG; what has holes as WebP without loss.
fn encode(picture: &DynamicImage) -> ImageResult<Rendition> {
    let (width, height) = (picture.width(), picture.height());
    let mut bytes = Vec::new();
    let (media_type, ending) = match picture {
        DynamicImage::ImageRgb8(rgb) => {
            let encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
            encoder.write_image(rgb, width, height, ExtendedColorType::Rgb8)?;
            ("image/jpeg", "jpg")
        }
        other => {
            let encoder = WebPEncoder::new_lossless(&mut bytes);
            encoder.write_image(&unmultiplied(&other.to_rgba8()), width, height, ExtendedColorType::Rgba8)?;
            ("image/webp", "webp")
        }
    };
    let name = format!("{}.{ending}", &blake3::hash(&bytes).to_hex()[..32]);
    Ok(Rendition { name, media_type, width, height, bytes })
}

#[cfg(test)]
mod tests;
