//! A strict reader of Prometheus' text format, version 0.0.4.
//!
//! It takes what the format's documentation allows and refuses everything else, and what `promtool
//! check metrics` would complain of.

use std::collections::{BTreeMap, BTreeSet};

type Labels = BTreeMap<String, String>;

/// A page that was read.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Name and type, in the order of the page.
    families: Vec<(String, String)>,
    /// By the name of the sample, with `_bucket` and its like, and by its labels.
    samples: BTreeMap<(String, Labels), f64>,
}

impl Page {
    /// Reads a page, or says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut page = Self::default();
        if !text.ends_with('\n') {
            return Err("the last line has no end".into());
        }
        let mut helped: Option<&str> = None;
        for line in text.lines() {
            let wrong = |why: &str| Err(format!("{why}: {line}"));
            if let Some(help) = line.strip_prefix("# HELP ") {
                let Some((name, said)) = help.split_once(' ') else {
                    return wrong("no help text");
                };
                if said.trim().is_empty() || helped.is_some() || !is_name(name) {
                    return wrong("this help is none");
                }
                helped = Some(name);
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let Some((name, kind)) = kind.split_once(' ') else {
                    return wrong("no type");
                };
                if helped.take() != Some(name) || page.families.iter().any(|f| f.0 == name) {
                    return wrong("no help before it, or a second time");
                }
                if !["counter", "gauge", "histogram", "untyped"].contains(&kind) {
                    return wrong("an unknown type");
                }
                lint(name, kind)?;
                page.families.push((name.into(), kind.into()));
            } else {
                let (name, labels, value) = sample(line)?;
                let Some((family, kind)) = page.families.last() else {
                    return wrong("a sample of no family");
                };
                let fits = match kind.as_str() {
                    "histogram" => name
                        .strip_prefix(family.as_str())
                        .is_some_and(|rest| ["_bucket", "_sum", "_count"].contains(&rest)),
                    _ => name == *family,
                };
                if !fits || helped.is_some() {
                    return wrong("a sample of another family");
                }
                if (kind == "counter" || kind == "histogram") && (value < 0.0 || value.is_nan()) {
                    return wrong("a negative count");
                }
                if labels.contains_key("le") != name.ends_with("_bucket") {
                    return wrong("the label le");
                }
                if page.samples.insert((name, labels), value).is_some() {
                    return wrong("the same series twice");
                }
            }
        }
        page.check_histograms()?;
        Ok(page)
    }

    /// Buckets grow with their bounds, and the last has as many as are counted.
    fn check_histograms(&self) -> Result<(), String> {
        for (family, _) in self.families.iter().filter(|(_, kind)| kind == "histogram") {
            let of = |suffix: &str| {
                let name = format!("{family}{suffix}");
                let samples = self.samples.iter();
                samples.filter(move |((found, _), _)| *found == name)
            };
            let mut buckets: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
            for ((_, labels), count) in of("_bucket") {
                let mut labels = labels.clone();
                let bound = labels.remove("le").expect("it was looked for");
                buckets
                    .entry(labels)
                    .or_default()
                    .push((number(&bound)?, *count));
            }
            for suffix in ["_sum", "_count"] {
                let with: BTreeSet<&Labels> = of(suffix).map(|((_, labels), _)| labels).collect();
                if with != buckets.keys().collect() {
                    return Err(format!("{family}{suffix} is not there for every histogram"));
                }
            }
            for ((_, labels), count) in of("_count") {
                let buckets = buckets.get_mut(labels).expect("just compared");
                buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
                let grow = buckets.windows(2).all(|two| two[0].1 <= two[1].1);
                if !grow || buckets.last() != Some(&(f64::INFINITY, *count)) {
                    return Err(format!("{family}{labels:?}: {buckets:?}, {count}"));
                }
            }
        }
        Ok(())
    }

    /// The families of the page, with their types.
    pub(crate) fn families(&self) -> Vec<(String, String)> {
        self.families.clone()
    }

    /// The labels that samples of a family have.
    pub(crate) fn labels(&self, family: &str) -> BTreeSet<String> {
        let samples = self.samples.keys();
        samples
            .filter(|(name, _)| {
                let rest = name.strip_prefix(family);
                rest.is_some_and(|rest| ["", "_bucket"].contains(&rest))
            })
            .flat_map(|(_, labels)| labels.keys().filter(|label| *label != "le").cloned())
            .collect()
    }

    /// The sum of all samples of this name with these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.with(name, labels).map(|(_, value)| value).sum()
    }

    /// Those samples, by one of their labels.
    pub(crate) fn values(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        by: &str,
    ) -> BTreeMap<String, f64> {
        let found = self.with(name, labels);
        found
            .map(|(labels, value)| (labels.get(by).cloned().unwrap_or_default(), value))
            .collect()
    }

    fn with<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&str, &str)],
    ) -> impl Iterator<Item = (&'a Labels, f64)> {
        let samples = self.samples.iter();
        samples
            .filter(move |((found, has), _)| {
                let fits =
                    |(label, value): &(&str, &str)| has.get(*label).is_some_and(|v| v == value);
                found == name && labels.iter().all(fits)
            })
            .map(|((_, labels), value)| (labels, *value))
    }

    /// No counter of this page is gone or has gone down in a later one.
    #[track_caller]
    pub(crate) fn assert_counters_grow(&self, later: &Self) {
        for ((name, labels), before) in &self.samples {
            let counts = self.families.iter().any(|(family, kind)| {
                let rest = name.strip_prefix(family.as_str());
                match kind.as_str() {
                    "counter" => rest == Some(""),
                    "histogram" => rest.is_some_and(|rest| rest.starts_with('_')),
                    "untyped" => rest == Some(""),
                    _ => false,
                }
            });
            if counts {
                let now = later.samples.get(&(name.clone(), labels.clone()));
                assert!(
                    now.is_some_and(|now| now >= before),
                    "{name}{labels:?} was {before}, and is {now:?}"
                );
            }
        }
    }
}

/// What `promtool check metrics` says of a name.
fn lint(name: &str, kind: &str) -> Result<(), String> {
    let parts: Vec<&str> = name.split('_').collect();
    let total = name.ends_with("_total");
    let units = [
        "milliseconds",
        "microseconds",
        "nanoseconds",
        "minutes",
        "hours",
        "days",
        "weeks",
        "kilobytes",
        "megabytes",
        "gigabytes",
        "bits",
        "percent",
        "celsius",
        "ms",
        "us",
        "ns",
        "sec",
        "kb",
        "mb",
        "gb",
    ];
    let wrong = match kind {
        "counter" if !total => "a counter ends with _total",
        "gauge" | "histogram" if total => "only a counter ends with _total",
        _ if kind != "histogram"
            && ["_count", "_sum", "_bucket"]
                .iter()
                .any(|end| name.ends_with(end)) =>
        {
            "the end of its name belongs to histograms"
        }
        _ if parts.contains(&kind) => "its type is in its name",
        _ if parts.iter().any(|part| units.contains(part)) => "no base unit",
        _ if !is_name(name) || name.contains(':') || name.chars().any(char::is_uppercase) => {
            "its name"
        }
        _ => return Ok(()),
    };
    Err(format!("{name}, {kind}: {wrong}"))
}

fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    let first = chars.next();
    first.is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A line `name{label="value",...} value`.
fn sample(line: &str) -> Result<(String, Labels, f64), String> {
    let wrong = |why: &str| format!("{why}: {line}");
    let end = line.find(['{', ' ']).ok_or_else(|| wrong("no value"))?;
    let (name, mut rest) = line.split_at(end);
    if !is_name(name) {
        return Err(wrong("no name"));
    }
    let mut labels = Labels::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").ok_or_else(|| wrong("a label"))?;
            if !is_name(label) {
                return Err(wrong("the name of a label"));
            }
            let (value, after) = quoted(after).ok_or_else(|| wrong("the value of a label"))?;
            if labels.insert(label.into(), value).is_some() {
                return Err(wrong("a label twice"));
            }
            if let Some(more) = after.strip_prefix(',') {
                rest = more;
            } else {
                rest = after
                    .strip_prefix('}')
                    .ok_or_else(|| wrong("the end of labels"))?;
                break;
            }
        }
    }
    let value = rest.strip_prefix(' ').ok_or_else(|| wrong("no space"))?;
    Ok((name.into(), labels, number(value)?))
}

/// A value up to its closing quote, and what comes after that.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                c @ ('\\' | '"') => c,
                _ => return None,
            }),
            c => value.push(c),
        }
    }
    None
}

fn number(text: &str) -> Result<f64, String> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        "NaN" => Ok(f64::NAN),
        _ if text
            .bytes()
            .all(|c| c.is_ascii_digit() || b"+-.eE".contains(&c)) =>
        {
            text.parse().map_err(|error| format!("{text}: {error}"))
        }
        _ => Err(format!("'{text}' is no number")),
    }
}
