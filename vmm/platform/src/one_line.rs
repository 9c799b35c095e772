//! Errors as logs, events and the command line show them: one line each.

/// Most characters of a line: what and where it is, and how to mend it, fit into less.
const LINE_CHARS: usize = 400;
/// Of a longer text, how many characters of its beginning are shown, which says what it is.
const HEAD_CHARS: usize = 250;
/// Of a longer text, how many characters of its end are shown, which says how to mend it.
const TAIL_CHARS: usize = 140;

/// An error with all its causes, in one line that is [`printable`].
pub fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // A transparent wrapper repeats its cause.
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    printable(&text)
}

/// Text as it can be shown in one line of a terminal or a log: control characters escaped, except
/// that the end of a line becomes a space, and the middle left out if it is longer than
/// [`LINE_CHARS`].
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(2 * LINE_CHARS));
    let left_out = match text.chars().count() {
        count if count > LINE_CHARS => HEAD_CHARS..count - TAIL_CHARS,
        _ => 0..0,
    };
    for (place, c) in text.chars().enumerate() {
        match c {
            _ if left_out.contains(&place) => {
                if place == left_out.start {
                    shown += " ... ";
                }
            }
            '\n' => shown.push(' '),
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot map\nthe BAR")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error(transparent)]
    struct Inner(std::io::Error);

    #[test]
    fn causes_follow_once_each_in_one_line() {
        let cause = || std::io::Error::other("no memory");
        assert_eq!(one_line(&Inner(cause())), "no memory");
        assert_eq!(one_line(&Outer(Inner(cause()))), "cannot map the BAR: no memory");
    }
    #[test]
    fn a_line_is_short_and_moves_no_cursor() {
        assert_eq!(
            printable("a\x1b[31m\r\0\u{9b}b\n\u{e9}"),
            "a\\u{1b}[31m\\r\\u{0}\\u{9b}b \u{e9}"
        );
        let long = format!("begin{}end", "\u{e9}".repeat(10_000));
        let shown = printable(&long);
        assert!(shown.starts_with("begin") && shown.ends_with("end") && shown.contains(" ... "));
        assert!(shown.chars().count() <= LINE_CHARS, "{}", shown.chars().count());
    }
}
