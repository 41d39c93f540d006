//! Small drawings beside an outcome. They say nothing that the words do not, so screen readers pass
//! over them; their colours are the design tokens', by the style sheet.

use maud::{Markup, PreEscaped, html};

/// What a drawing shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Art {
    /// A present: what was asked for is kept for the shopper.
    Present,
    /// People in line.
    Line,
    /// A bell: the sale tells the shopper.
    Bell,
    /// An empty shelf, and a heart.
    Shelf,
    /// A clock.
    Clock,
    /// A bag with a tick: the shopper has what one may have.
    Bag,
    /// A door.
    Door,
}

/// The drawing. Classes: `a` the accent, `b` its softest shade, `l` a line.
pub(super) fn art(of: Art) -> Markup {
    let shapes = match of {
        Art::Present => {
            "<path class='b' d='M18 44h60v38a6 6 0 0 1-6 6H24a6 6 0 0 1-6-6z'/>\
             <rect class='a' x='12' y='30' width='72' height='16' rx='5'/>\
             <path class='l' d='M48 30v58M48 30c-22 0-24-20-12-20 8 0 12 12 12 20zm0 0c22 0 24-20 12-20-8 0-12 12-12 20z'/>"
        }
        Art::Line => {
            "<circle class='a' cx='20' cy='38' r='9'/><path class='a' d='M6 78c0-32 28-32 28 0z'/>\
             <circle class='b' cx='49' cy='38' r='9'/><path class='b' d='M35 78c0-32 28-32 28 0z'/>\
             <circle class='b' cx='78' cy='38' r='9'/><path class='b' d='M64 78c0-32 28-32 28 0z'/>\
             <path class='l' d='M8 88h80M20 8v12m-6-6 6 6 6-6'/>"
        }
        Art::Bell => {
            "<path class='b' d='M20 70c8-8 6-18 8-30 4-26 36-26 40 0 2 12 0 22 8 30z'/>\
             <path class='a' d='M38 76h20a10 10 0 0 1-20 0z'/>\
             <path class='l' d='M48 12V6M20 70h56M10 40c0-10 4-18 10-24M86 40c0-10-4-18-10-24'/>"
        }
        Art::Shelf => {
            "<circle class='b' cx='48' cy='40' r='32'/>\
             <path class='a' d='M48 62C14 40 34 14 48 31c14-17 34 9 0 31z'/>\
             <path class='l' d='M10 72h76M20 72v16M76 72v16'/>"
        }
        Art::Clock => {
            "<circle class='b' cx='48' cy='50' r='34'/><path class='a' d='M48 50V16a34 34 0 0 1 29 17z'/>\
             <circle class='l' cx='48' cy='50' r='34'/><path class='l' d='M48 30v20l14 10M40 6h16'/>"
        }
        Art::Bag => {
            "<path class='b' d='M18 34h60l6 54H12z'/><path class='l' d='M34 44V26a14 14 0 0 1 28 0v18'/>\
             <circle class='a' cx='66' cy='70' r='18'/><path class='t' d='m58 70 6 7 11-13'/>"
        }
        Art::Door => {
            "<rect class='b' x='24' y='10' width='48' height='76' rx='4'/>\
             <path class='a' d='M36 22h24v20H36z'/><path class='l' d='M12 86h72M24 86V14a4 4 0 0 1 4-4h40a4 4 0 0 1 4 4v72'/>\
             <circle class='a' cx='62' cy='54' r='4'/>"
        }
    };
    html! { svg class="art" viewBox="0 0 96 96" width="96" height="96" aria-hidden="true" focusable="false" { (PreEscaped(shapes)) } }
}
