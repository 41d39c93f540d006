//! Where parcels go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a parcel goes. Each field is one line; its length is in characters.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// Of the person.
    #[schemars(length(min = 1, max = 80))]
    pub name: String,
    /// 5 to 20 digits, and `+ - ( )` and spaces.
    #[schemars(length(min = 5, max = 30))]
    pub phone: String,
    #[schemars(length(min = 1, max = 200))]
    pub street: String,
    #[schemars(length(min = 1, max = 80))]
    pub city: String,
    /// Province or state; may be empty.
    #[schemars(length(max = 80))]
    pub region: String,
    /// May be empty.
    #[schemars(length(max = 16))]
    pub postcode: String,
    /// ISO 3166-1, two capital letters.
    #[schemars(extend("pattern" = "^[A-Z]{2}$"))]
    pub country: String,
}

// Where people live is not written into a log by mistake.
impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address").field("country", &self.country).finish_non_exhaustive()
    }
}

impl Address {
    /// Without spaces around its lines. Or the first field that is wrong, and what is wanted there.
    pub fn checked(self) -> Result<Self, (&'static str, &'static str)> {
        let address = self.trimmed();
        let wrong = address.wrongs().next();
        wrong.map_or(Ok(address), Err)
    }

    /// All fields that are wrong.
    pub fn wrong_fields(&self) -> Vec<&'static str> {
        self.clone().trimmed().wrongs().map(|(field, _)| field).collect()
    }

    fn trimmed(self) -> Self {
        let trim = |text: String| text.trim().to_owned();
        Self {
            name: trim(self.name),
            phone: trim(self.phone),
            street: trim(self.street),
            city: trim(self.city),
            region: trim(self.region),
            postcode: trim(self.postcode),
            country: trim(self.country),
        }
    }

    /// Each field that is wrong, with what is wanted there.
    fn wrongs(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let is_line = |text: &str, least: usize, most: usize| {
            (least..=most).contains(&text.chars().count()) && !text.chars().any(char::is_control)
        };
        let digits = self.phone.bytes().filter(u8::is_ascii_digit).count();
        let is_of_phone = |byte: u8| byte.is_ascii_digit() || b"+-() ".contains(&byte);
        let is_phone =
            is_line(&self.phone, 5, 30) && (5..=20).contains(&digits) && self.phone.bytes().all(is_of_phone);
        let is_country =
            self.country.len() == 2 && self.country.bytes().all(|byte| byte.is_ascii_uppercase());
        let fields = [
            ("name", is_line(&self.name, 1, 80), "want 1 to 80 characters"),
            ("phone", is_phone, "want 5 to 20 digits"),
            ("street", is_line(&self.street, 1, 200), "want 1 to 200 characters"),
            ("city", is_line(&self.city, 1, 80), "want 1 to 80 characters"),
            ("region", is_line(&self.region, 0, 80), "want 80 characters at the most"),
            ("postcode", is_line(&self.postcode, 0, 16), "want 16 characters at the most"),
            ("country", is_country, "want two capital letters, such as CN"),
        ];
        fields.into_iter().filter(|(_, is_good, _)| !is_good).map(|(field, _, want)| (field, want))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Address {
        Address {
            name: " 王小明 ".into(),
            phone: "+86 138-0013-8000".into(),
            street: "长安街 1 号".into(),
            city: "北京".into(),
            country: "CN".into(),
            ..Address::default()
        }
    }

    #[test]
    fn an_address_is_taken_without_the_spaces_around_it() {
        assert_eq!(address().checked().unwrap().name, "王小明");
    }

    #[test]
    fn a_field_that_is_wrong_is_named() {
        let check = |change: fn(&mut Address), want: &str| {
            let mut wrong = address();
            change(&mut wrong);
            assert_eq!(wrong.checked().unwrap_err().0, want);
        };
        check(|address| address.name = " ".into(), "name");
        check(|address| address.phone = "call me".into(), "phone");
        check(|address| address.phone = "12345678901234567890123".into(), "phone");
        check(|address| address.phone = "1 2 3 4".into(), "phone");
        check(|address| address.street = "x".repeat(201), "street");
        check(|address| address.city = "a\nb".into(), "city");
        check(|address| address.country = "cn".into(), "country");
        check(|address| address.country = "中国".into(), "country");
        check(|address| address.postcode = "0".repeat(17), "postcode");
    }

    #[test]
    fn all_fields_that_are_wrong_are_named_at_once() {
        let wrong = Address { phone: "1".into(), city: String::new(), ..address() };
        assert_eq!(wrong.wrong_fields(), ["phone", "city"]);
        assert!(address().wrong_fields().is_empty());
    }
}
