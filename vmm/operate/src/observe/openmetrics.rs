//! Metrics in the formats that Prometheus reads: its text format, or OpenMetrics 1.0 if it asks for
//! that. The two differ in how counters are announced and in the last line.

use std::fmt::Write;

use super::histogram::Histogram;

/// The format of an exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `text/plain; version=0.0.4`.
    Text,
    /// `application/openmetrics-text; version=1.0.0`.
    OpenMetrics,
}

impl Format {
    /// The format for the answer to a request with this `Accept` header.
    pub(crate) fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Text }
    }

    /// The value of the header `Content-Type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The type of a family of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A number that only rises.
    Counter,
    /// A number that rises and falls.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
}

/// Labels of one sample: names and values.
pub(crate) type Labels<'a> = &'a [(&'a str, &'a str)];

/// An exposition that is being written. All samples of a family must follow each other.
#[derive(Debug)]
pub(crate) struct Exposition {
    text: String,
    format: Format,
    family: &'static str,
    kind: Kind,
}

impl Exposition {
    /// An empty exposition.
    pub(crate) fn new(format: Format) -> Self {
        Self { text: String::with_capacity(16 << 10), format, family: "", kind: Kind::Gauge }
    }

    /// Begins a family. `name` comes without the suffix `_total`.
    pub(crate) fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let announced = match (kind, self.format) {
            (Kind::Counter, Format::Text) => "_total",
            _ => "",
        };
        self.line(format_args!("# HELP {name}{announced} {help}"));
        self.line(format_args!("# TYPE {name}{announced} {word}"));
        (self.family, self.kind) = (name, kind);
    }

    /// Adds a sample of a counter or a gauge.
    pub(crate) fn sample(&mut self, labels: Labels<'_>, value: impl Into<f64>) {
        let suffix = if self.kind == Kind::Counter { "_total" } else { "" };
        self.write(suffix, labels, value.into());
    }

    /// Adds all samples of a histogram of durations, in seconds.
    pub(crate) fn histogram(&mut self, labels: Labels<'_>, histogram: &Histogram) {
        for (edge_us, count) in histogram.cumulative() {
            self.bucket(labels, &format!("{}", edge_us as f64 / 1e6), count);
        }
        self.bucket(labels, "+Inf", histogram.count());
        self.write("_sum", labels, histogram.sum_us() / 1e6);
        self.write("_count", labels, histogram.count() as f64);
    }

    fn bucket(&mut self, labels: Labels<'_>, edge: &str, count: u64) {
        let mut all = labels.to_vec();
        all.push(("le", edge));
        self.write("_bucket", &all, count as f64);
    }

    /// Ends the exposition and returns its text.
    pub(crate) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn write(&mut self, suffix: &str, labels: Labels<'_>, value: f64) {
        let mut written = String::new();
        for (name, value) in labels {
            let comma = if written.is_empty() { "" } else { "," };
            // Writing to a string cannot fail.
            let _ = write!(written, "{comma}{name}=\"{}\"", escaped(value));
        }
        let family = self.family;
        if written.is_empty() {
            self.line(format_args!("{family}{suffix} {value}"));
        } else {
            self.line(format_args!("{family}{suffix}{{{written}}} {value}"));
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.text, "{line}");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(format: Format) -> String {
        let mut exposition = Exposition::new(format);
        exposition.family("x_frames", Kind::Counter, "Frames.");
        exposition.sample(&[("nic", "a\"b\\c\nd")], 3.0);
        exposition.finish()
    }

    #[test]
    fn a_counter_is_announced_as_each_format_wants() {
        assert_eq!(
            counter(Format::Text),
            "# HELP x_frames_total Frames.\n# TYPE x_frames_total counter\n\
             x_frames_total{nic=\"a\\\"b\\\\c\\nd\"} 3\n"
        );
        assert_eq!(
            counter(Format::OpenMetrics),
            "# HELP x_frames Frames.\n# TYPE x_frames counter\n\
             x_frames_total{nic=\"a\\\"b\\\\c\\nd\"} 3\n# EOF\n"
        );
    }

    #[test]
    fn a_histogram_is_cumulative_and_in_seconds() {
        let mut histogram = Histogram::default();
        [20.0, 60.0, 1e9].into_iter().for_each(|value| histogram.record(value));
        let mut exposition = Exposition::new(Format::Text);
        exposition.family("x_seconds", Kind::Histogram, "Time.");
        exposition.histogram(&[("cause", "crash")], &histogram);
        let text = exposition.finish();
        for line in [
            "x_seconds_bucket{cause=\"crash\",le=\"0.000025\"} 1\n",
            "x_seconds_bucket{cause=\"crash\",le=\"0.000075\"} 2\n",
            "x_seconds_bucket{cause=\"crash\",le=\"+Inf\"} 3\n",
            "x_seconds_count{cause=\"crash\"} 3\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn prometheus_gets_what_it_asks_for() {
        let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4";
        assert_eq!(Format::accepted(accept), Format::OpenMetrics);
        assert_eq!(Format::accepted("*/*"), Format::Text);
    }
}
