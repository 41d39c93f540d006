//! How the pages look that shoppers see: colours, corners, mark and name. All of them take these
//! from the same design tokens; [`tokens`] are the style sheet's part with them.
//!
//! A process has one brand, which is set before it listens: style sheets are made of it once.

use crate::lang::Lang;
use maud::{Markup, PreEscaped, html};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, sync::OnceLock};

/// Every default, with comments.
pub const DEFAULT_TOML: &str = include_str!("brand.default.toml");

/// The smallest and largest value of each number in the section, by its name.
pub const RANGES: &[(&str, i64, i64)] = &[("corner_px", 0, 24)];

/// The most bytes of a logo: each shopper's browser loads it once.
pub const LOGO_BYTES_MAX: usize = 16 << 10;
/// How high the mark is on a page.
const MARK_PIXELS: u32 = 28;
/// The least contrast of text (WCAG 2.2, 1.4.3).
const CONTRAST_MIN: f64 = 4.5;

/// The tokens that no brand changes.
const TOKENS: &str = include_str!("tokens.css");

/// The section `[brand]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub accent: String,
    pub accent_dark: String,
    pub logo_file: PathBuf,
    pub corner_px: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            accent: "#b8360e".into(),
            accent_dark: "#ff9470".into(),
            logo_file: PathBuf::new(),
            corner_px: 12,
        }
    }
}

impl Config {
    /// Why the section cannot be used, with the key.
    pub fn wrong(&self) -> Option<(&'static str, String)> {
        let wrong = |key, colour, pages| Accent::new(colour, pages).err().map(|want| (key, want));
        wrong("accent", &self.accent, &LIGHT).or_else(|| wrong("accent_dark", &self.accent_dark, &DARK))
    }
}

/// The brand of a process.
#[derive(Debug, Clone, PartialEq)]
pub struct Brand {
    /// What the shop is called, in English and in Chinese.
    pub name: [String; 2],
    light: Accent,
    dark: Accent,
    corner_px: u32,
    logo: Option<Logo>,
}

/// A logo, and how wide it is where it is [`MARK_PIXELS`] high.
#[derive(Debug, Clone, PartialEq)]
struct Logo {
    svg: String,
    width: u32,
}

impl Default for Brand {
    fn default() -> Self {
        let name = ["Floodgate".to_owned(), "Floodgate".to_owned()];
        Self::new(&Config::default(), name, None).expect("a test makes it")
    }
}

impl Brand {
    /// `logo` is what is in the logo's file. An error names the key and says what it should be.
    pub fn new(config: &Config, name: [String; 2], logo: Option<String>) -> Result<Self, String> {
        let accent = |key: &str, colour: &str, pages: &Pages| {
            Accent::new(colour, pages).map_err(|want| format!("brand.{key}: {want}"))
        };
        let logo = logo.map(Logo::new).transpose().map_err(|want| format!("brand.logo_file: {want}"))?;
        Ok(Self {
            name,
            light: accent("accent", &config.accent, &LIGHT)?,
            dark: accent("accent_dark", &config.accent_dark, &DARK)?,
            corner_px: config.corner_px,
            logo,
        })
    }

    /// Its name in a language.
    pub fn name(&self, lang: Lang) -> &str {
        lang.say(&self.name[0], &self.name[1])
    }

    /// The design tokens, as a style sheet begins with them.
    pub(crate) fn tokens(&self) -> String {
        let (light, dark, corner) = (self.light.tokens(), self.dark.tokens(), self.corner_px);
        format!(
            "{TOKENS}:root, .light {{ {light} }}\n:root {{ --round: {corner}px; }}\n\
             @media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n.dark {{ {dark} }}\n"
        )
    }

    /// The icon as browsers load it: the logo, or Floodgate's mark in the brand's colour.
    pub(crate) fn icon(&self) -> String {
        self.logo.as_ref().map_or_else(|| mark_in(&self.light), |logo| logo.svg.clone())
    }

    /// The mark before the name on a page; `icon` is the path of [`Brand::icon`].
    pub(crate) fn mark(&self, icon: &str) -> Markup {
        match &self.logo {
            None => html! { (MARK) },
            Some(Logo { width, .. }) => {
                html! { img class="mark" src=(icon) width=(width) height=(MARK_PIXELS) alt=""; }
            }
        }
    }
}

/// Floodgate's mark, in the colours of the page.
const MARK: PreEscaped<&str> = PreEscaped(
    "<svg class='mark' viewBox='0 0 32 32' width='28' height='28' aria-hidden='true'>\
     <rect width='32' height='32' rx='9' fill='currentColor'/>\
     <path d='M9 11h14M9 16h14M9 21h8' stroke='var(--on-brand)' stroke-width='2.6' stroke-linecap='round'/></svg>",
);

/// The same as a file, which knows no tokens.
fn mark_in(accent: &Accent) -> String {
    let [colour, on] = [&accent.colour, &accent.on].map(hex);
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'>\
         <rect width='32' height='32' rx='9' fill='{colour}'/>\
         <path d='M9 11h14M9 16h14M9 21h8' stroke='{on}' stroke-width='2.6' stroke-linecap='round'/></svg>"
    )
}

impl Logo {
    fn new(svg: String) -> Result<Self, String> {
        if svg.len() > LOGO_BYTES_MAX {
            return Err(format!("is too long: want at most {LOGO_BYTES_MAX} bytes"));
        }
        let tag = svg.find("<svg").and_then(|at| svg[at..].split('>').next());
        let view_box = tag.and_then(|tag| {
            let rest = tag.split_once("viewBox=")?.1;
            let quote = rest.chars().next().filter(|quote| ['"', '\''].contains(quote))?;
            let numbers = rest[1..].split(quote).next()?.split([' ', ',']).filter(|part| !part.is_empty());
            numbers.map(|part| part.parse::<f64>().ok()).collect::<Option<Vec<_>>>()
        });
        match view_box.as_deref() {
            Some(&[_, _, width, height]) if width > 0.0 && height > 0.0 && width / height <= 8.0 => {
                let width = (width / height * f64::from(MARK_PIXELS)).round().max(1.0) as u32;
                Ok(Self { svg, width })
            }
            _ => Err("want an SVG with a viewBox, at most eight times as wide as high".into()),
        }
    }
}

/// A colour of the brand on pages of one kind: what can be read on it, the shade of it that can be
/// read on the pages themselves, and its softest, on which the pages' own text can be read.
#[derive(Debug, Clone, PartialEq)]
struct Accent {
    colour: Rgb,
    on: Rgb,
    text: Rgb,
    soft: Rgb,
}

/// Pages of one kind, as the tokens have them.
struct Pages {
    /// Paper, card and well.
    grounds: [Rgb; 3],
    /// Where a colour goes that cannot be read on them.
    towards: Rgb,
    /// How much of the colour its softest shade has, in hundredths.
    soft_percent: u32,
}

const LIGHT: Pages =
    Pages { grounds: [[0xfa, 0xfa, 0xf9], [0xff; 3], [0xf5, 0xf5, 0xf4]], towards: [0; 3], soft_percent: 8 };
const DARK: Pages = Pages {
    grounds: [[0x12, 0x10, 0x0f], [0x1c, 0x1a, 0x18], [0x26, 0x23, 0x21]],
    towards: [0xff; 3],
    soft_percent: 14,
};

type Rgb = [u8; 3];

impl Accent {
    fn new(colour: &str, pages: &Pages) -> Result<Self, String> {
        let colour = parse(colour).ok_or("want a colour such as \"#b8360e\"")?;
        let soft = mix(colour, pages.grounds[1], pages.soft_percent);
        let is_read = |text: &Rgb| {
            pages.grounds.iter().chain([&soft]).all(|ground| contrast(*text, *ground) >= CONTRAST_MIN)
        };
        // The last of these is black, or white.
        let shades = (0..=100).map(|percent| mix(pages.towards, colour, percent));
        let text = shades.into_iter().find(is_read).unwrap_or(pages.towards);
        let [white, black] = [[0xff; 3], [0; 3]];
        let on = if contrast(colour, white) >= CONTRAST_MIN { white } else { black };
        Ok(Self { colour, on, text, soft })
    }

    fn tokens(&self) -> String {
        let Self { colour, on, text, soft } = self;
        let [colour, on, text, soft] = [colour, on, text, soft].map(hex);
        format!("--brand: {colour}; --on-brand: {on}; --brand-text: {text}; --brand-soft: {soft};")
    }
}

/// So many hundredths of one colour, and the rest of another.
fn mix(of: Rgb, with: Rgb, percent: u32) -> Rgb {
    let part = |at: usize| (u32::from(of[at]) * percent + u32::from(with[at]) * (100 - percent) + 50) / 100;
    [0, 1, 2].map(|at| part(at) as u8)
}

fn parse(colour: &str) -> Option<Rgb> {
    let digits = colour.strip_prefix('#')?;
    let is_good = digits.len() == 6 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let part = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
    is_good.then(|| Some([part(0)?, part(2)?, part(4)?]))?
}

fn hex([red, green, blue]: &Rgb) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// The contrast of two colours (WCAG 2.2, contrast ratio and relative luminance).
fn contrast(one: Rgb, other: Rgb) -> f64 {
    let luminance = |rgb: Rgb| {
        let linear = |part: u8| {
            let part = f64::from(part) / 255.0;
            if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(rgb[0]) + 0.7152 * linear(rgb[1]) + 0.0722 * linear(rgb[2])
    };
    let (one, other) = (luminance(one) + 0.05, luminance(other) + 0.05);
    if one > other { one / other } else { other / one }
}

static WORN: OnceLock<Brand> = OnceLock::new();

/// Gives this process its brand. To be called before it listens: later it changes nothing.
pub fn wear(brand: Brand) {
    let _ = WORN.set(brand);
}

/// The brand of this process; Floodgate's own if it was given none.
pub fn worn() -> &'static Brand {
    WORN.get_or_init(Brand::default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        brand: Config,
    }

    fn brand(change: impl FnOnce(&mut Config), logo: Option<&str>) -> Result<Brand, String> {
        let mut config = Config::default();
        change(&mut config);
        Brand::new(&config, ["Shop".into(), "商店".into()], logo.map(str::to_owned))
    }

    #[test]
    fn the_default_file_has_every_default() {
        let file: File = toml::from_str(DEFAULT_TOML).unwrap();
        assert_eq!(file.brand, Config::default());
        assert_eq!(Config::default().wrong(), None);
        assert_eq!(Brand::default().name(Lang::Zh), "Floodgate");
    }

    /// By https://webaim.org/resources/contrastchecker/.
    #[test]
    fn contrast_is_that_of_wcag() {
        let check = |one: &str, other: &str, want: f64| {
            let found = contrast(parse(one).unwrap(), parse(other).unwrap());
            assert!((found - want).abs() < 0.01, "{one} {other}: {found}");
        };
        check("#000000", "#ffffff", 21.0);
        check("#767676", "#ffffff", 4.54);
        check("#777777", "#ffffff", 4.48);
        check("#ff0000", "#ffffff", 4.0);
    }

    #[test]
    fn whatever_the_accent_all_text_can_be_read() {
        let steps = [0, 40, 85, 105, 120, 140, 170, 200, 230, 255];
        let colours = (0..1000).map(|n: usize| [n / 100, n / 10 % 10, n % 10].map(|at| steps[at]));
        let inks = [(&LIGHT, ["#1c1917", "#57534e"]), (&DARK, ["#f5f5f4", "#b5afa9"])];
        for colour in colours {
            for (pages, inks) in &inks {
                let accent = Accent::new(&hex(&colour), pages).unwrap();
                let Accent { on, text, soft, .. } = accent;
                let mut pairs = vec![(on, colour), (text, soft)];
                pairs.extend(pages.grounds.iter().map(|ground| (text, *ground)));
                pairs.extend(inks.iter().map(|ink| (parse(ink).unwrap(), soft)));
                for (one, other) in pairs {
                    let found = contrast(one, other);
                    assert!(found >= CONTRAST_MIN, "{accent:?}: {one:?} on {other:?}: {found}");
                }
            }
        }
        for ink in ["--ink: #1c1917; --soft: #57534e;", "--ink: #f5f5f4; --soft: #b5afa9;"] {
            assert!(TOKENS.contains(ink), "the tokens have other inks than this test");
        }
    }

    #[test]
    fn what_is_no_colour_is_refused_with_its_key() {
        for wrong in ["red", "", "#b8360", "#b8360e; } body { display: none", "#é8360", "#+83601"] {
            let want = "want a colour such as \"#b8360e\"";
            let config = Config { accent_dark: wrong.into(), ..Config::default() };
            assert_eq!(config.wrong(), Some(("accent_dark", want.to_owned())), "{wrong}");
            let said = brand(|config| config.accent = wrong.into(), None).unwrap_err();
            assert_eq!(said, format!("brand.accent: {want}"));
        }
    }

    #[test]
    fn the_tokens_follow_the_brand() {
        let colours = |config: &mut Config| {
            (config.accent, config.accent_dark) = ("#FF6900".into(), "#6fd0c4".into());
            config.corner_px = 3;
        };
        let css = brand(colours, None).unwrap().tokens();
        for token in [
            "--brand: #ff6900; --on-brand: #000000; --brand-text: #bd4e00; --brand-soft: #fff3eb;",
            "--brand: #6fd0c4; --on-brand: #000000; --brand-text: #6fd0c4; --brand-soft: #283330;",
            "--round: 3px;",
        ] {
            assert!(css.contains(token), "{token}: {css}");
        }
        let icon = brand(colours, None).unwrap().icon();
        assert!(icon.contains("fill='#ff6900'"), "{icon}");
    }

    #[test]
    fn a_logo_keeps_its_shape_and_has_a_limit() {
        let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 120 40\"><path d='M0 0'/></svg>";
        let with = brand(|_| {}, Some(svg)).unwrap();
        let mark = with.mark("/static/icon.svg").into_string();
        assert_eq!(mark, "<img class=\"mark\" src=\"/static/icon.svg\" width=\"84\" height=\"28\" alt=\"\">");
        assert_eq!(with.icon(), svg);
        assert!(brand(|_| {}, None).unwrap().mark("").into_string().starts_with("<svg class='mark'"));
        let long = format!("{svg}{}", " ".repeat(LOGO_BYTES_MAX));
        for (logo, want) in [
            (&*long, "want at most 16384"),
            ("<html>", "want an SVG with a viewBox"),
            ("<svg></svg>", "want an SVG with a viewBox"),
            ("<svg viewBox='0 0 0 10'>", "want an SVG with a viewBox"),
            ("<svg viewBox='0 0 900 10'>", "want an SVG with a viewBox"),
            ("<svg viewBox=é", "want an SVG with a viewBox"),
        ] {
            let wrong = brand(|_| {}, Some(logo)).unwrap_err();
            assert!(wrong.starts_with("brand.logo_file: ") && wrong.contains(want), "{logo:.40}: {wrong}");
        }
    }
}
