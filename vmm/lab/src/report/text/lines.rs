//! Lines, headings and names that fit the terminal.

use std::fmt::Write;

/// Columns of the terminal.
const WIDTH: usize = 100;

/// A line without spaces at its end.
pub(super) fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end());
    out.push('\n');
}

/// A heading as wide as the terminal.
pub(super) fn heading(out: &mut String, text: &str) {
    let rest = WIDTH.saturating_sub(text.chars().count() + 4);
    // Writing to a string cannot fail.
    let _ = writeln!(out, "\n── {text} {}", "─".repeat(rest));
}

/// Shortens a text to so many characters, from its beginning: the end of a name tells more.
pub(super) fn fit(text: &str, chars: usize) -> String {
    let length = text.chars().count();
    if length <= chars {
        return text.into();
    }
    let end: String = text.chars().skip(length + 1 - chars).collect();
    format!("…{end}")
}
