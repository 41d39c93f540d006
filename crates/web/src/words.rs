//! Money and times as the two languages write them.

use crate::page::Lang;
use time::{OffsetDateTime, UtcOffset, macros::offset};
use units::{Money, TimeMs};

/// The sign of a currency in each language: English, Chinese. In the language of a country its own
/// sign needs no prefix (Unicode CLDR 46, `en` and `zh`).
fn sign(code: &str, lang: Lang) -> Option<&'static str> {
    Some(match code {
        "CNY" => lang.say("CN¥", "¥"),
        "USD" => lang.say("$", "US$"),
        "EUR" => "€",
        "GBP" => "£",
        "JPY" => lang.say("¥", "JP¥"),
        "KRW" => lang.say("₩", "￦"),
        "INR" => "₹",
        "HKD" => "HK$",
        "TWD" => lang.say("NT$", "NT$"),
        "AUD" => lang.say("A$", "AU$"),
        "CAD" => "CA$",
        "BRL" => "R$",
        _ => return None,
    })
}

/// `CN¥1,999.00` in English, `¥1,999` in Chinese, where a whole sum has no fraction.
pub fn money(money: Money, lang: Lang) -> String {
    let digits = money.currency.minor_digits();
    let unit = 10u64.pow(digits);
    let (whole, rest) = (money.amount_minor / unit, money.amount_minor % unit);
    let mut text = match sign(money.currency.as_str(), lang) {
        Some(sign) => sign.to_owned(),
        None => format!("{}\u{a0}", money.currency.as_str()),
    };
    let figures = whole.to_string();
    for (at, figure) in figures.chars().enumerate() {
        if at > 0 && (figures.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(figure);
    }
    if digits > 0 && (rest > 0 || lang == Lang::En) {
        text.push_str(&format!(".{rest:0width$}", width = digits as usize));
    }
    text
}

/// `27 Nov 2026, 18:05 (UTC+8)` or `2026年11月27日 18:05`. The shop has one zone: China's.
pub fn moment(at: TimeMs, lang: Lang) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    const ZONE: UtcOffset = offset!(+8);
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
    let Ok(utc) = OffsetDateTime::from_unix_timestamp(seconds) else { return at.to_string() };
    let at = utc.to_offset(ZONE);
    let (year, month, day, hour, minute) =
        (at.year(), u8::from(at.month()), at.day(), at.hour(), at.minute());
    match lang {
        Lang::En => {
            let month = MONTHS[usize::from(month) - 1];
            format!("{day} {month} {year}, {hour:02}:{minute:02} (UTC+8)")
        }
        Lang::Zh => format!("{year}年{month}月{day}日 {hour:02}:{minute:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_written_as_its_reader_writes_it() {
        let check = |amount_minor, code: &str, en: &str, zh: &str| {
            let sum = Money { amount_minor, currency: code.parse().unwrap() };
            assert_eq!((money(sum, Lang::En).as_str(), money(sum, Lang::Zh).as_str()), (en, zh));
        };
        check(199_900, "CNY", "CN¥1,999.00", "¥1,999");
        check(199_950, "CNY", "CN¥1,999.50", "¥1,999.50");
        check(5, "USD", "$0.05", "US$0.05");
        check(123_456_789, "EUR", "€1,234,567.89", "€1,234,567.89");
        check(1999, "JPY", "¥1,999", "JP¥1,999");
        check(1_234_567, "KWD", "KWD\u{a0}1,234.567", "KWD\u{a0}1,234.567");
        check(100_000, "CNY", "CN¥1,000.00", "¥1,000");
    }

    #[test]
    fn times_are_those_of_the_shop() {
        let at = TimeMs(1_795_802_700_000);
        assert_eq!(moment(at, Lang::En), "28 Nov 2026, 02:05 (UTC+8)");
        assert_eq!(moment(at, Lang::Zh), "2026年11月28日 02:05");
    }
}
