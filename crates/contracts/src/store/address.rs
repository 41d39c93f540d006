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
        let trim = |text: String| text.trim().to_owned();
        let address = Self {
            name: trim(self.name),
            phone: trim(self.phone),
            street: trim(self.street),
            city: trim(self.city),
            region: trim(self.region),
            postcode: trim(self.postcode),
            country: trim(self.country),
        };
        let lines = [
            ("name", &address.name, 1, 80, "want 1 to 80 characters"),
            ("phone", &address.phone, 5, 30, "want 5 to 20 digits"),
            ("street", &address.street, 1, 200, "want 1 to 200 characters"),
            ("city", &address.city, 1, 80, "want 1 to 80 characters"),
            ("region", &address.region, 0, 80, "want 80 characters at the most"),
            ("postcode", &address.postcode, 0, 16, "want 16 characters at the most"),
            ("country", &address.country, 2, 2, "want two capital letters, such as CN"),
        ];
        for (field, text, least, most, want) in lines {
            let count = text.chars().count();
            if !(least..=most).contains(&count) || text.chars().any(char::is_control) {
                return Err((field, want));
            }
        }
        let digits = address.phone.bytes().filter(u8::is_ascii_digit).count();
        let is_phone = |byte: u8| byte.is_ascii_digit() || b"+-() ".contains(&byte);
        if !(5..=20).contains(&digits) || !address.phone.bytes().all(is_phone) {
            return Err(("phone", "want 5 to 20 digits"));
        }
        match address.country.bytes().all(|byte| byte.is_ascii_uppercase()) {
            true => Ok(address),
            false => Err(("country", "want two capital letters, such as CN")),
        }
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
}
