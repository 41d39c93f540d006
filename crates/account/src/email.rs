//! Which texts are addresses of mail, and which are the same. Whether mail reaches it is found by
//! sending one.

/// Characters of an address (RFC 5321, section 4.5.3.1.3).
const LENGTH_MAX: usize = 254;

/// The address as it is compared: trimmed, in lower case. `None` for a text that is no address.
///
/// RFC 5321 lets a mail server tell `Ann@` from `ann@`. None that a shop meets does, and people
/// type both.
pub fn normal_form(text: &str) -> Option<String> {
    let text = text.trim();
    let (local, domain) = text.rsplit_once('@')?;
    let is_atom = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    };
    let is_address = text.len() <= LENGTH_MAX
        && (1..=64).contains(&local.len())
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && local.chars().all(is_atom)
        && domain.contains('.')
        && domain.split('.').all(is_label);
    is_address.then(|| text.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::normal_form;

    #[test]
    fn addresses_are_compared_without_regard_to_case() {
        let check = |text: &str, want: Option<&str>| assert_eq!(normal_form(text).as_deref(), want, "{text:?}");
        check(" Ann.Lee+phones@Example.COM ", Some("ann.lee+phones@example.com"));
        check("小明@例子.中国", Some("小明@例子.中国"));
        for wrong in [
            "", "ann", "@example.com", "ann@", "ann@localhost", "ann@-x.com", "a b@example.com", "ann@exa mple.com",
            ".ann@example.com", "a..b@example.com", "ann@example..com", "ann@example.com\nBcc: all@example.com",
            "<ann@example.com>", "\"ann\"@example.com",
        ] {
            check(wrong, None);
        }
        check(&format!("{}@example.com", "a".repeat(65)), None);
        check(&format!("ann@{}.com", "a".repeat(250)), None);
    }
}
