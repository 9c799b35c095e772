//! Pictures and legends, as sections of the page place them.

use std::fmt::Write;

use super::super::markup::escape;

/// Widths for which each picture is drawn, pixels; the style shows one of them.
pub(super) const WIDTHS: [(&str, f64); 2] = [("wide", 1100.0), ("narrow", 350.0)];
/// Widths of a picture in half of the page.
pub(super) const HALF_WIDTHS: [(&str, f64); 2] = [("wide", 520.0), ("narrow", 350.0)];

/// A picture for each width.
pub(super) fn pictures(out: &mut String, widths: [(&str, f64); 2], draw: impl Fn(f64) -> String) {
    for (class, width) in widths {
        let _ = writeln!(out, "<div class=\"chart {class}\">{}</div>", draw(width));
    }
}

/// A legend: a sample and a name each.
pub(super) fn legend<'a>(out: &mut String, entries: impl Iterator<Item = (String, &'a str)>) {
    out.push_str("<ul class=\"legend\">");
    for (sample, name) in entries {
        let _ = write!(out, "<li>{sample}{}</li>", escape(name));
    }
    out.push_str("</ul>\n");
}
