//! Which events a subscription wants: the filter dialects of the CloudEvents Subscriptions API
//! (exact, prefix, suffix, all, any, not).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// Filters within filters, at the most: the judge calls itself as often.
const DEPTH_MAX: usize = 8;
/// Comparisons in the filters of one subscription. Each publication makes them all.
const COMPARISONS_MAX: usize = 64;
/// Bytes of a name or of a value.
const TEXT_BYTES_MAX: usize = 512;

/// The context attributes of an event, as texts (CloudEvents 1.0, 3.1).
pub type Attributes = BTreeMap<String, String>;

/// A filter. An event that lacks an attribute fails every comparison with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Filter {
    /// Each attribute has exactly this value.
    Exact(Attributes),
    /// Each attribute begins with this value.
    Prefix(Attributes),
    /// Each attribute ends with this value.
    Suffix(Attributes),
    /// All of these hold.
    All(Vec<Filter>),
    /// At least one of these holds.
    Any(Vec<Filter>),
    /// This does not hold.
    Not(Box<Filter>),
}

/// A filter that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterError(String);

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "filters: {}", self.0)
    }
}

impl std::error::Error for FilterError {}

impl Filter {
    /// Whether an event with these attributes passes.
    pub fn passes(&self, attributes: &Attributes) -> bool {
        let each = |wanted: &Attributes, holds: fn(&str, &str) -> bool| {
            wanted.iter().all(|(name, value)| attributes.get(name).is_some_and(|actual| holds(actual, value)))
        };
        match self {
            Self::Exact(wanted) => each(wanted, |actual, value| actual == value),
            Self::Prefix(wanted) => each(wanted, |actual, value| actual.starts_with(value)),
            Self::Suffix(wanted) => each(wanted, |actual, value| actual.ends_with(value)),
            Self::All(filters) => filters.iter().all(|filter| filter.passes(attributes)),
            Self::Any(filters) => filters.iter().any(|filter| filter.passes(attributes)),
            Self::Not(filter) => !filter.passes(attributes),
        }
    }

    /// How many comparisons it takes at the most.
    pub(crate) fn comparisons(&self) -> usize {
        match self {
            Self::Exact(wanted) | Self::Prefix(wanted) | Self::Suffix(wanted) => wanted.len(),
            Self::All(filters) | Self::Any(filters) => {
                1 + filters.iter().map(Self::comparisons).sum::<usize>()
            }
            Self::Not(filter) => 1 + filter.comparisons(),
        }
    }

    /// Checks the filters of a subscription, all of which must hold.
    pub fn check(filters: &[Self]) -> Result<(), FilterError> {
        let mut comparisons = 0;
        filters.iter().try_for_each(|filter| filter.count(1, &mut comparisons))
    }

    fn count(&self, depth: usize, comparisons: &mut usize) -> Result<(), FilterError> {
        if depth > DEPTH_MAX {
            return Err(FilterError(format!("nested more than {DEPTH_MAX} deep")));
        }
        match self {
            Self::Exact(wanted) | Self::Prefix(wanted) | Self::Suffix(wanted) => {
                if wanted.is_empty() {
                    return Err(FilterError("exact, prefix and suffix name at least one attribute".into()));
                }
                for (name, value) in wanted {
                    let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
                    if name.is_empty() || !is_name {
                        return Err(FilterError(format!(
                            "{name:?} is no attribute: a name has the letters a-z and digits"
                        )));
                    }
                    if name.len() > TEXT_BYTES_MAX || value.len() > TEXT_BYTES_MAX {
                        return Err(FilterError(format!(
                            "{name} and its value may have {TEXT_BYTES_MAX} bytes each"
                        )));
                    }
                    if value.is_empty() && !matches!(self, Self::Exact(_)) {
                        return Err(FilterError(format!("an empty value of {name} would pass everything")));
                    }
                }
                *comparisons += wanted.len();
            }
            Self::All(filters) | Self::Any(filters) => {
                if filters.is_empty() {
                    return Err(FilterError("all and any have at least one filter".into()));
                }
                *comparisons += 1;
                filters.iter().try_for_each(|filter| filter.count(depth + 1, comparisons))?;
            }
            Self::Not(filter) => {
                *comparisons += 1;
                filter.count(depth + 1, comparisons)?;
            }
        }
        if *comparisons > COMPARISONS_MAX {
            return Err(FilterError(format!("more than {COMPARISONS_MAX} comparisons")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Filter {
        serde_json::from_str(text).unwrap()
    }

    fn event() -> Attributes {
        let attributes =
            [("type", "floodgate.sale.granted"), ("source", "/sales/launch"), ("subject", "hold-7")];
        attributes.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn each_dialect_compares_as_its_specification_says() {
        for (text, passes) in [
            (r#"{"exact":{"type":"floodgate.sale.granted"}}"#, true),
            (r#"{"exact":{"type":"floodgate.sale"}}"#, false),
            (r#"{"exact":{"type":"floodgate.sale.granted","subject":"hold-8"}}"#, false),
            (r#"{"prefix":{"type":"floodgate.sale."}}"#, true),
            (r#"{"suffix":{"type":".granted","subject":"-7"}}"#, true),
            (r#"{"suffix":{"dataschema":"x"}}"#, false),
            (r#"{"not":{"exact":{"dataschema":"x"}}}"#, true),
            (r#"{"all":[{"prefix":{"source":"/sales/"}},{"not":{"suffix":{"subject":"8"}}}]}"#, true),
            (r#"{"any":[{"exact":{"subject":"hold-8"}},{"exact":{"subject":"hold-7"}}]}"#, true),
            (r#"{"any":[{"exact":{"subject":"hold-8"}},{"exact":{"subject":"hold-9"}}]}"#, false),
        ] {
            let filter = filter(text);
            Filter::check(std::slice::from_ref(&filter)).unwrap();
            assert_eq!(filter.passes(&event()), passes, "{text}");
        }
    }

    #[test]
    fn filters_that_cannot_be_meant_are_refused() {
        for (text, why) in [
            (r#"{"exact":{}}"#, "at least one attribute"),
            (r#"{"all":[]}"#, "at least one filter"),
            (r#"{"prefix":{"type":""}}"#, "would pass everything"),
            (r#"{"exact":{"Type":"x"}}"#, "is no attribute"),
        ] {
            let error = Filter::check(&[filter(text)]).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        let mut deep = filter(r#"{"exact":{"type":"x"}}"#);
        for _ in 0..DEPTH_MAX {
            deep = Filter::Not(Box::new(deep));
        }
        assert!(Filter::check(&[deep]).unwrap_err().to_string().contains("deep"));
        let many = vec![filter(r#"{"exact":{"type":"x"}}"#); COMPARISONS_MAX + 1];
        assert!(Filter::check(&many).unwrap_err().to_string().contains("comparisons"));
        for unknown in [r#"{"sql":"x"}"#, r#"{"exact":{"type":"x"},"prefix":{"type":"x"}}"#] {
            assert!(serde_json::from_str::<Filter>(unknown).is_err(), "{unknown}");
        }
    }
}
