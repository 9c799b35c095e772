//! Pictures as SVG. Colour is never the only distinction: fills have patterns, lines have dashes, and
//! the numbers of every picture stand in a table too. Each is drawn for one width, in pixels.

use std::fmt::Write;

use super::distribution::{Bin, Distribution, GOAL_US};
use super::format::{duration, percent, thousands};
use super::markup::escape;
use super::paper::{FAST_SPARE_UNDER_10_MS, PaperRow};

/// Number of patterns, and of classes of colours.
pub(super) const SERIES: usize = 6;
/// One dash pattern for each line.
const DASHES: [&str; SERIES] = ["none", "7 3", "2 3", "9 3 2 3", "12 4", "1 5"];
/// Below this width labels are shorter.
const NARROW: f64 = 560.0;

/// The patterns that all pictures of a page fill with.
pub(super) fn patterns() -> String {
    let marks = [
        "",
        "<path d=\"M-1 7L7 -1M-1 1L1 -1M5 7L7 5\"/>",
        "<circle cx=\"3\" cy=\"3\" r=\"1.2\"/>",
        "<path d=\"M0 3H6\"/>",
        "<path d=\"M-1 -1L7 7M5 -1L7 1M-1 5L1 7\"/>",
        "<path d=\"M3 0V6\"/>",
    ];
    let mut out = String::from("<svg class=\"patterns\" aria-hidden=\"true\"><defs>");
    for (n, mark) in marks.iter().enumerate() {
        let _ = write!(
            out,
            "<pattern id=\"p{n}\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">\
             <rect class=\"f{n}\" width=\"6\" height=\"6\"/><g class=\"pattern\">{mark}</g></pattern>"
        );
    }
    out + "</defs></svg>\n"
}

/// A square of one fill, for legends.
pub(super) fn swatch(series: usize) -> String {
    swatch_of(&format!("fill=\"url(#p{})\"", series % SERIES))
}

fn swatch_of(fill: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 26 14\" aria-hidden=\"true\">\
         <rect width=\"26\" height=\"14\" {fill}/></svg>"
    )
}

/// A dash that differs from that of the line before with the same colour.
fn dashes(series: usize) -> &'static str {
    DASHES[(series + series / SERIES) % SERIES]
}

/// A piece of one line, for legends.
pub(super) fn dash(series: usize) -> String {
    let n = series % SERIES;
    format!(
        "<svg viewBox=\"0 0 26 14\" aria-hidden=\"true\"><path class=\"series s{n}\" \
         stroke-dasharray=\"{}\" d=\"M0 7H26\"/></svg>",
        dashes(series)
    )
}

/// A piece of the cumulative curve, for legends.
pub(super) fn curve() -> String {
    "<svg viewBox=\"0 0 26 14\" aria-hidden=\"true\"><path class=\"curve\" \
     d=\"M0 13C12 13 10 2 26 2\"/></svg>"
        .into()
}

/// The area that a picture plots in.
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Frame {
    fn x(&self, share: f64) -> f64 {
        self.left + (self.right - self.left) * share
    }

    fn y(&self, share: f64) -> f64 {
        self.bottom - (self.bottom - self.top) * share
    }
}

fn open(width: f64, height: f64, label: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{}\">",
        escape(label)
    )
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, class: &str, text: &str) {
    let text = escape(text);
    let _ = write!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{text}</text>"
    );
}

fn segment(out: &mut String, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    let _ = write!(out, "<path class=\"{class}\" d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\"/>");
}

fn percent_axis(out: &mut String, frame: &Frame) {
    for share in [0.0, 0.5, 1.0] {
        segment(out, "axis", (frame.left, frame.y(share)), (frame.right, frame.y(share)));
        let label = format!("{:.0} %", share * 100.0);
        text(out, frame.right + 5.0, frame.y(share) + 4.0, "start", "", &label);
    }
}

/// Longest interruption on the axis, in microseconds, which is twelve days: a file may hold any value,
/// and each decade is drawn.
const LONGEST_US: f64 = 1e12;

/// Cumulative lengths of interruptions, one line for each distribution, over a logarithmic axis.
pub(super) fn curves(lines: &[(&str, &Distribution)], width: f64) -> String {
    let height = 300.0;
    let frame = Frame { left: 8.0, right: width - 48.0, top: 34.0, bottom: height - 24.0 };
    let values = || lines.iter().flat_map(|(_, line)| line.sorted.iter().map(|one| one.us));
    // Whole decades, the goal among them.
    let lowest = 10_f64.powf(values().fold(1000.0, f64::min).max(1.0).log10().floor());
    let highest = values().fold(100_000.0, f64::max).min(LONGEST_US);
    let highest = 10_f64.powf(highest.log10().ceil());
    let x = |us: f64| frame.x((us.clamp(lowest, highest) / lowest).ln() / (highest / lowest).ln());
    let mut out = open(width, height, "Cumulative interruptions; the tables have the numbers.");
    percent_axis(&mut out, &frame);
    let mut decade = lowest;
    while decade <= highest * 1.001 {
        segment(&mut out, "axis", (x(decade), frame.top), (x(decade), frame.bottom));
        let label = format!("{}", Decade(decade));
        let anchor = if decade == lowest { "start" } else { "middle" };
        text(&mut out, x(decade), height - 6.0, anchor, "", &label);
        decade *= 10.0;
    }
    for (n, (name, line)) in lines.iter().enumerate() {
        let _ = write!(
            out,
            "<path class=\"series s{0}\" stroke-dasharray=\"{1}\" d=\"{2}\"><title>{3}</title></path>",
            n % SERIES,
            dashes(n),
            steps(line, &frame, x),
            escape(name)
        );
    }
    segment(&mut out, "goal", (x(GOAL_US), frame.top - 6.0), (x(GOAL_US), frame.bottom));
    text(&mut out, x(GOAL_US), frame.top - 14.0, "middle", "goal-text", "10 ms");
    paper_mark(&mut out, x(GOAL_US), frame.y(FAST_SPARE_UNDER_10_MS), width);
    out + "</svg>"
}

/// A decade in microseconds, without needless zeros.
struct Decade(f64);

impl std::fmt::Display for Decade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            us if us < 999.0 => write!(f, "{us:.0} µs"),
            us if us < 999_999.0 => write!(f, "{:.0} ms", us / 1e3),
            us => write!(f, "{:.0} s", us / 1e6),
        }
    }
}

/// Most points of a line; more could not be told apart.
const MOST_STEPS: usize = 400;

fn steps(line: &Distribution, frame: &Frame, x: impl Fn(f64) -> f64) -> String {
    let count = line.sorted.len();
    let mut path = format!("M{:.1} {:.1}", frame.left, frame.y(0.0));
    let stride = count.div_ceil(MOST_STEPS).max(1);
    for n in (0..count).filter(|n| n % stride == 0 || n + 1 == count) {
        let y = frame.y((n + 1) as f64 / count as f64);
        let _ = write!(path, "H{:.1}V{y:.1}", x(line.sorted[n].us));
    }
    if count > 0 {
        let _ = write!(path, "H{:.1}", frame.right);
    }
    path
}

fn paper_mark(out: &mut String, x: f64, y: f64, width: f64) {
    let _ =
        write!(out, "<path class=\"paper-mark\" d=\"M{x:.1} {:.1}l5 5l-5 5l-5 -5z\"/>", y - 5.0);
    let name = if width < NARROW { "2009: 91 %" } else { "fast spare 2009: 91 %" };
    text(out, x + 9.0, y + 4.0, "start", "halo", name);
}

/// A histogram with its cumulative curve. Interruptions with a machine stall are hatched.
pub(super) fn histogram(bins: &[Bin], what: &str, width: f64) -> String {
    let height = 210.0;
    let frame = Frame { left: 40.0, right: width - 48.0, top: 16.0, bottom: height - 24.0 };
    let count: u64 = bins.iter().map(|bin| bin.count).sum();
    let mut out = open(width, height, &format!("{what}; {} interruptions", thousands(count)));
    percent_axis(&mut out, &frame);
    let most = bins.iter().map(|bin| bin.count).max().unwrap_or(1).max(1);
    text(&mut out, frame.left - 5.0, frame.y(1.0) + 4.0, "end", "", &thousands(most));
    text(&mut out, frame.left - 5.0, frame.y(0.0) + 4.0, "end", "", "0");
    // With few bins, bars would be too wide.
    let slots = bins.len().max(10) as f64;
    let x = |n: f64| frame.x(n / slots);
    let mut curve = format!("M{:.1} {:.1}", frame.left, frame.y(0.0));
    for (n, bin) in bins.iter().enumerate() {
        let (from, to) = (x(n as f64), x(n as f64 + 1.0));
        bar(&mut out, bin, (from, (to - from - 1.0).max(0.75)), &frame, most);
        let _ = write!(curve, "L{to:.1} {:.1}", frame.y(bin.cumulative));
    }
    let _ = write!(out, "<path class=\"curve\" d=\"{curve}\"/>");
    ticks(&mut out, bins, slots, &frame, height, width);
    out + "</svg>"
}

fn bar(out: &mut String, bin: &Bin, (x, width): (f64, f64), frame: &Frame, most: u64) {
    let unit = (frame.bottom - frame.top) / most as f64;
    let range = match bin.to_us {
        Some(to_us) => format!("{} to {}", duration(bin.from_us), duration(to_us)),
        None => format!("{} and more", duration(bin.from_us)),
    };
    let sound = bin.count - bin.stalled;
    let parts = [(sound, 0, 0, ""), (bin.stalled, sound, 1, ", machine stalled")];
    for (count, below, series, note) in parts.into_iter().filter(|part| part.0 > 0) {
        // One of thousands must be visible, too.
        let height = (count as f64 * unit).max(1.5);
        let y = frame.bottom - below as f64 * unit - height;
        let _ = write!(
            out,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             fill=\"url(#p{series})\"><title>{range}: {count}{note}</title></rect>"
        );
    }
}

fn ticks(out: &mut String, bins: &[Bin], slots: f64, frame: &Frame, height: f64, width: f64) {
    let Some(step_us) = bins.first().and_then(|bin| bin.to_us) else { return };
    let room = if width < NARROW { 5.0 } else { 10.0 };
    let nice = [1.0, 2.0, 4.0, 5.0, 10.0, 20.0, 25.0, 50.0];
    let stride = nice.into_iter().find(|stride| slots / stride <= room).unwrap_or(100.0);
    let mut n = 0.0;
    while n <= slots {
        let x = frame.x(n / slots);
        let ms = n * step_us / 1e3;
        segment(out, "axis", (x, frame.bottom), (x, frame.bottom + 4.0));
        let label = format!("{ms}{}", if n == 0.0 { " ms" } else { "" });
        text(out, x, height - 6.0, "middle", "", &label);
        if n * step_us <= GOAL_US && (n + stride) * step_us > GOAL_US {
            let goal = frame.x(GOAL_US / step_us / slots);
            segment(out, "goal", (goal, frame.top - 6.0), (goal, frame.bottom));
        }
        n += stride;
    }
}

/// Names of the paper's columns, in the order in which bars stack them.
pub(super) const PAPER_COLUMNS: [&str; 5] =
    ["crash", "hang", "silent failure", "no effect", "false failover"];

/// The fill of a column; faults without effect get a quiet one.
fn paper_fill(column: usize) -> String {
    match column {
        3 => "class=\"none\"".into(),
        other => format!("fill=\"url(#p{other})\""),
    }
}

/// A square of a column's fill, for legends.
pub(super) fn paper_swatch(column: usize) -> String {
    swatch_of(&paper_fill(column))
}

/// Rows as bars of a hundred percent.
pub(super) fn shares(rows: &[PaperRow], width: f64) -> String {
    let (row_height, left) = (30.0, if width < NARROW { 0.0 } else { 220.0 });
    let lead = if width < NARROW { 16.0 } else { 0.0 };
    let height = rows.len() as f64 * (row_height + lead) + 24.0;
    let frame = Frame { left, right: width - 14.0, top: 0.0, bottom: height - 22.0 };
    let mut out = open(width, height, "Shares of injected faults; the table has the numbers.");
    for (n, row) in rows.iter().enumerate() {
        let y = n as f64 * (row_height + lead) + lead;
        let year = if row.is_published() { "2009: " } else { "" };
        let name = format!("{year}{}, {}", row.configuration, row.kind);
        let class = if row.is_published() { "" } else { "strong" };
        match lead > 0.0 {
            true => text(&mut out, 0.0, y - 2.0, "start", class, &name),
            false => text(&mut out, left - 8.0, y + 17.0, "end", class, &name),
        }
        let values = [row.crash, row.hang, row.silent, row.not_manifested, row.false_failover];
        let mut from = 0.0;
        for (series, share) in values.into_iter().enumerate().filter(|(_, share)| *share > 0.0) {
            let (x, to) = (frame.x(from), frame.x((from + share).min(1.0)));
            let _ = write!(
                out,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"20\" {}>\
                 <title>{}: {}</title></rect>",
                y + 3.0,
                (to - x - 1.0).max(1.0),
                paper_fill(series),
                PAPER_COLUMNS[series],
                percent(share)
            );
            from += share;
        }
    }
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let x = frame.x(share);
        segment(&mut out, "axis", (x, frame.bottom), (x, frame.bottom + 5.0));
        let anchor = if share == 0.0 { "start" } else { "middle" };
        text(&mut out, x, height - 4.0, anchor, "", &format!("{:.0} %", share * 100.0));
    }
    out + "</svg>"
}
