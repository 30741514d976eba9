//! The options of a table, read by name with Spark's rules: names without case, values as text.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{ConnectorError, Result};

/// `WITH ('key' = 'value', ...)` of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// By name in lower case: the name as written and the value.
    entries: BTreeMap<String, (String, String)>,
}

impl Options {
    /// No options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an option, replacing one of the same name in any case.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        let key = key.into();
        self.entries
            .insert(key.to_ascii_lowercase(), (key, value.into()));
    }

    /// The value, if given.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entries
            .get(&key.to_ascii_lowercase())
            .map(|(_, value)| value.as_str())
    }

    /// Takes an option out.
    pub fn remove(&mut self, key: &str) -> Option<String> {
        self.entries
            .remove(&key.to_ascii_lowercase())
            .map(|(_, value)| value)
    }

    /// All, by name as written, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries
            .values()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The value, or an error that says what to write.
    pub fn require(&self, connector: &str, key: &str, remedy: &str) -> Result<&str> {
        self.get(key).ok_or_else(|| ConnectorError::MissingOption {
            connector: connector.into(),
            key: key.into(),
            remedy: match self.misspelt(key) {
                Some(written) => format!("{remedy} ('{written}' is none of its options)"),
                None => remedy.into(),
            },
        })
    }

    /// An option that was probably meant to be `key`.
    fn misspelt(&self, key: &str) -> Option<String> {
        let alike = self.entries.values().map(|(written, _)| written.as_str());
        nearest(
            key,
            alike.filter(|written| written.len().abs_diff(key.len()) <= 2),
        )
    }

    /// A whole number of at least `least`, or `None` where not given.
    pub fn integer(&self, key: &str, least: u64) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.trim().parse::<u64>() {
            Ok(number) if number >= least => Ok(Some(number)),
            _ => Err(self.bad(key, format!("a whole number of at least {least}"))),
        }
    }

    /// `true` or `false`, or `default` where not given.
    pub fn boolean(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key).map(|value| value.trim().to_ascii_lowercase()) {
            None => Ok(default),
            Some(value) if value == "true" => Ok(true),
            Some(value) if value == "false" => Ok(false),
            Some(_) => Err(self.bad(key, "true or false".into())),
        }
    }

    /// A length of time such as `10 seconds`, `500ms` or `1 hour`, or `None` where not given.
    pub fn duration(&self, key: &str) -> Result<Option<Duration>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        parse_duration(value).map(Some).ok_or_else(|| {
            self.bad(
                key,
                "a length of time such as '10 seconds' or '500 ms'".into(),
            )
        })
    }

    /// A number of bytes such as `64mb` or `1048576`, or `None` where not given.
    pub fn bytes(&self, key: &str) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        parse_bytes(value)
            .map(Some)
            .ok_or_else(|| self.bad(key, "a number of bytes such as '64mb' or '1048576'".into()))
    }

    /// Refuses every option that `known` does not name, with the nearest one.
    pub fn check_known(&self, connector: &str, known: &[&str]) -> Result<()> {
        for (lower, (key, _)) in &self.entries {
            if !known.iter().any(|name| name.eq_ignore_ascii_case(lower)) {
                return Err(ConnectorError::UnknownOption {
                    connector: connector.into(),
                    key: key.clone(),
                    nearest: nearest(key, known.iter().copied()),
                });
            }
        }
        Ok(())
    }

    /// The error for a value that makes no sense.
    pub fn bad(&self, key: &str, expected: String) -> ConnectorError {
        ConnectorError::OptionValue {
            key: key.into(),
            value: self.get(key).unwrap_or_default().into(),
            expected,
        }
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Options {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut options = Self::new();
        for (key, value) in pairs {
            options.set(key, value);
        }
        options
    }
}

/// The candidate that is most like `word`, if any is close.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    let word = word.to_ascii_lowercase();
    candidates
        .map(|name| {
            (
                strsim::jaro_winkler(&word, &name.to_ascii_lowercase()),
                name,
            )
        })
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.to_owned())
}

/// `10 seconds`, `1 minute 30 seconds`, `500ms`, `interval 5 minutes`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim().to_ascii_lowercase();
    let mut rest = text.strip_prefix("interval").unwrap_or(&text).trim_start();
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_f64;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        let seconds = match &rest[..letters] {
            "us" | "microsecond" | "microseconds" => 1e-6,
            "ms" | "millisecond" | "milliseconds" => 1e-3,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86_400.0,
            "w" | "week" | "weeks" => 604_800.0,
            _ => return None,
        };
        total += number * seconds;
        rest = rest[letters..].trim_start();
    }
    Duration::try_from_secs_f64(total).ok()
}

/// `64m`, `1 gb`, `1000`: a number of bytes.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit: u64 = match text[digits..].trim() {
        "" | "b" => 1,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        "t" | "tb" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_words_and_short() {
        assert_eq!(parse_duration("10 seconds"), Some(Duration::from_secs(10)));
        assert_eq!(
            parse_duration("interval 1 minute 30 seconds"),
            Some(Duration::from_secs(90))
        );
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("ten"), None);
        assert_eq!(parse_duration("10"), None);
    }

    #[test]
    fn a_missing_option_names_its_misspelling() {
        let options: Options = [("pth", "in"), ("format", "json")].into_iter().collect();
        let error = options.require("file", "path", "write it").unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("write it ('pth' is none of its options)"),
            "{error}"
        );
    }

    #[test]
    fn a_misspelt_option_names_the_nearest() {
        let options: Options = [("maxFilePerTrigger", "1")].into_iter().collect();
        let error = options
            .check_known("file", &["path", "maxFilesPerTrigger"])
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("did you mean 'maxFilesPerTrigger'"),
            "{error}"
        );
    }
}
