//! Prometheus' text format, version 0.0.4.
//!
//! Source: Prometheus' documentation, "Exposition formats".

use std::fmt::{Display, Write};

use super::series::Histogram;

/// What the page says it is.
pub(in crate::runtime) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the numbers of a family are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bounds, with their sum.
    Histogram,
    /// A name of others, whose rules we do not make.
    Untyped,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Untyped => "untyped",
        }
    }
}

/// The samples of one family, as they are written.
pub(super) struct Samples<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl<'a> Samples<'a> {
    /// Begins a family.
    pub(super) fn begin(
        text: &'a mut String,
        (name, kind): (&'static str, Kind),
        help: &str,
    ) -> Self {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
        Self { text, name }
    }

    /// Adds a sample. A label without a value is left out.
    pub(super) fn add(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.line("", labels, value);
    }

    /// Adds the samples of a histogram.
    pub(super) fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut count = 0;
        let bounds = histogram.bounds.iter().map(ToString::to_string);
        for (bound, more) in bounds.chain(["+Inf".into()]).zip(&histogram.counts) {
            count += more;
            let labels = [labels, &[("le", &bound)]].concat();
            self.line("_bucket", &labels, count);
        }
        self.line("_sum", labels, histogram.sum);
        self.line("_count", labels, count);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        let mut before = '{';
        for (label, value) in labels.iter().filter(|(_, value)| !value.is_empty()) {
            let _ = write!(self.text, "{before}{label}=\"");
            for c in value.chars() {
                match c {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
            before = ',';
        }
        if before == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_empty_ones_left_out() {
        let mut text = String::new();
        let mut samples = Samples::begin(&mut text, ("a", Kind::Gauge), "What it is.");
        samples.add(&[("x", "a\"b\\c\nd"), ("y", "")], 1.5);
        samples.add(&[("y", "")], 2);
        assert_eq!(
            text,
            "# HELP a What it is.\n# TYPE a gauge\na{x=\"a\\\"b\\\\c\\nd\"} 1.5\na 2\n"
        );
    }
}
