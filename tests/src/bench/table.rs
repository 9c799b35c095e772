//! The figures as a table for human readers.

use std::fmt::Write;

use super::Figure;

/// Width of the column of names, in characters.
const NAME: usize = 90;

/// Renders one line for each figure, and a heading for each group.
pub(super) fn render(figures: &[Figure]) -> String {
    let mut text = String::new();
    let mut group = "";
    for figure in figures {
        if figure.group != group {
            group = figure.group;
            let heads = ["median", "min", "max", "against", "ratio"];
            let _ = write!(text, "\n{group:<NAME$}");
            for head in heads {
                let _ = write!(text, "{head:>12}");
            }
            text.push('\n');
        }
        let against = figure.target.or(figure.ours);
        let name = format!("{}: {} [{}]", figure.row, figure.figure, figure.unit);
        let _ = write!(text, "{name:<NAME$}");
        for value in [Some(figure.median), Some(figure.min), Some(figure.max), against] {
            let _ = write!(text, "{:>12}", number(value));
        }
        let ratio = figure.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        let note = figure.note.as_deref().unwrap_or_default();
        let _ = writeln!(text, "{}", format!("{ratio:>12}  {note}").trim_end());
    }
    text
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(value) if value.is_nan() => "-".into(),
        Some(value) if value.abs() >= 1000.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_has_a_heading_and_each_figure_a_line() {
        let figure = |group| Figure::new(group, "row", ("frames", "1/s"), vec![12_345.6]);
        let text = render(&[figure("a").wanted(10_000.0), figure("a"), figure("b")]);
        assert_eq!(text.lines().filter(|line| line.contains("median")).count(), 2);
        assert!(text.contains("row: frames [1/s]") && text.contains("12346"), "{text}");
        assert!(text.contains("1.23"), "{text}");
        let mut peer = figure("a").noting("noted".into());
        peer.hold_beside(100.0);
        assert!(render(&[peer]).ends_with("100.00      123.46  noted\n"));
        let missing = Figure::missing("a", "row", ("f", "u"), "no such thing");
        assert!(render(&[missing]).ends_with("-           -  not measured: no such thing\n"));
    }
}
