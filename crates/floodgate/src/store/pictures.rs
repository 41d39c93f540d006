//! The demo's product pictures, drawn here: plain shapes in one hue, as SVG. A picture has some
//! hundred bytes and any size.

/// What is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Phone,
    Earbuds,
    Headphones,
    Speaker,
    Watch,
    Band,
    Tablet,
    Laptop,
    Lamp,
    Kettle,
    Plug,
    Cable,
    Case,
    Battery,
    Bag,
    Camera,
}

/// The side of each picture, in CSS pixels.
pub(super) const SIDE: u32 = 400;

/// The picture, in a hue of 0 to 359 degrees.
pub(super) fn draw(shape: Shape, hue: u16) -> String {
    let (dark, mid, light) =
        (format!("hsl({hue} 45% 28%)"), format!("hsl({hue} 50% 48%)"), format!("hsl({hue} 60% 82%)"));
    let rect = |x: i32, y: i32, w: i32, h: i32, round: i32, fill: &str| {
        format!("<rect x='{x}' y='{y}' width='{w}' height='{h}' rx='{round}' fill='{fill}'/>")
    };
    let disc =
        |x: i32, y: i32, r: i32, fill: &str| format!("<circle cx='{x}' cy='{y}' r='{r}' fill='{fill}'/>");
    let line = |path: &str, width: i32, stroke: &str| {
        format!(
            "<path d='{path}' fill='none' stroke='{stroke}' stroke-width='{width}' stroke-linecap='round' stroke-linejoin='round'/>"
        )
    };
    let body = match shape {
        Shape::Phone => [
            rect(125, 40, 150, 320, 26, &dark),
            rect(135, 52, 130, 296, 16, &light),
            rect(135, 200, 130, 148, 16, &mid),
            disc(200, 68, 6, &dark),
        ]
        .concat(),
        Shape::Tablet => {
            [rect(70, 60, 260, 280, 22, &dark), rect(84, 76, 232, 248, 8, &light), disc(200, 200, 58, &mid)]
                .concat()
        }
        Shape::Laptop => [
            rect(80, 90, 240, 160, 12, &dark),
            rect(92, 102, 216, 136, 4, &light),
            rect(40, 256, 320, 28, 14, &mid),
            rect(165, 256, 70, 10, 5, &dark),
        ]
        .concat(),
        Shape::Earbuds => [
            rect(110, 170, 180, 150, 50, &mid),
            rect(110, 170, 180, 46, 23, &dark),
            disc(150, 120, 34, &light),
            rect(140, 120, 20, 76, 10, &light),
            disc(250, 120, 34, &light),
            rect(240, 120, 20, 76, 10, &light),
        ]
        .concat(),
        Shape::Headphones => [
            line("M90 230 A110 120 0 0 1 310 230", 24, &dark),
            rect(66, 210, 62, 110, 28, &mid),
            rect(272, 210, 62, 110, 28, &mid),
            rect(112, 222, 22, 86, 11, &light),
            rect(266, 222, 22, 86, 11, &light),
        ]
        .concat(),
        Shape::Speaker => [
            rect(110, 60, 180, 280, 30, &dark),
            disc(200, 130, 36, &mid),
            disc(200, 250, 64, &mid),
            disc(200, 250, 28, &light),
            disc(200, 130, 14, &light),
        ]
        .concat(),
        Shape::Watch => [
            rect(150, 30, 100, 340, 24, &mid),
            rect(118, 108, 164, 184, 42, &dark),
            rect(132, 122, 136, 156, 32, &light),
            line("M200 160 V200 L228 222", 10, &dark),
        ]
        .concat(),
        Shape::Band => [
            rect(160, 30, 80, 340, 36, &mid),
            rect(160, 130, 80, 140, 34, &dark),
            rect(172, 146, 56, 108, 22, &light),
            line("M182 206 L194 206 L202 184 L210 220 L218 206", 6, &dark),
        ]
        .concat(),
        Shape::Lamp => [
            rect(130, 330, 140, 20, 10, &dark),
            line("M200 330 V210 L270 120", 14, &dark),
            format!("<path d='M210 90 L330 120 L290 190 L190 150 Z' fill='{mid}'/>"),
            disc(252, 168, 20, &light),
        ]
        .concat(),
        Shape::Kettle => [
            format!("<path d='M130 130 H270 L296 330 H104 Z' fill='{mid}'/>"),
            line("M284 170 C350 170 350 280 292 286", 16, &dark),
            line("M124 170 L80 140", 16, &mid),
            rect(120, 106, 160, 24, 12, &dark),
            disc(200, 94, 14, &dark),
            rect(100, 326, 200, 18, 9, &light),
        ]
        .concat(),
        Shape::Plug => [
            rect(110, 110, 180, 190, 36, &light),
            rect(150, 60, 18, 60, 6, &dark),
            rect(232, 60, 18, 60, 6, &dark),
            rect(170, 210, 60, 22, 11, &dark),
            line("M200 300 V350", 14, &mid),
        ]
        .concat(),
        Shape::Cable => [
            line("M110 300 C40 180 150 90 200 200 S360 220 290 100", 18, &mid),
            rect(86, 292, 48, 70, 10, &dark),
            rect(266, 40, 48, 70, 10, &dark),
            rect(96, 352, 28, 26, 4, &light),
            rect(276, 24, 28, 26, 4, &light),
        ]
        .concat(),
        Shape::Case => [
            rect(112, 36, 176, 328, 34, &mid),
            rect(134, 60, 60, 100, 20, &dark),
            disc(164, 90, 16, &light),
            disc(164, 130, 16, &light),
            rect(112, 300, 176, 14, 0, &dark),
        ]
        .concat(),
        Shape::Battery => [
            rect(90, 90, 220, 240, 28, &dark),
            format!("<path d='M214 130 L150 224 H196 L186 292 L252 196 H206 Z' fill='{light}'/>"),
            rect(150, 72, 100, 18, 6, &mid),
        ]
        .concat(),
        Shape::Bag => [
            rect(100, 110, 200, 240, 56, &mid),
            line("M150 120 C150 40 250 40 250 120", 16, &dark),
            rect(126, 220, 148, 104, 24, &dark),
            rect(146, 246, 108, 12, 6, &light),
        ]
        .concat(),
        Shape::Camera => [
            rect(80, 90, 240, 200, 60, &light),
            disc(200, 190, 72, &dark),
            disc(200, 190, 36, &mid),
            disc(216, 174, 10, &light),
            rect(150, 290, 100, 40, 12, &mid),
            rect(120, 326, 160, 16, 8, &dark),
        ]
        .concat(),
    };
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {SIDE} {SIDE}' width='{SIDE}' height='{SIDE}'>{body}</svg>"
    )
}
