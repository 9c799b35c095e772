//! HTML of text that comes out of files, as symbols and notes do: everything passes [`escape`].

use std::fmt::Write;

/// Text as it may stand between tags and in quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A cell of a table.
pub(super) enum Cell {
    /// Text.
    Text(String),
    /// A number for people, and the value to sort by; a cell without one sorts last.
    Number(String, Option<f64>),
    /// A command, or a name in a program.
    Code(String),
}

impl Cell {
    pub(super) fn count(count: u64) -> Self {
        Self::Number(super::format::thousands(count), Some(count as f64))
    }

    pub(super) fn share(share: Option<f64>) -> Self {
        let text = share.map_or_else(|| super::format::NOTHING.into(), super::format::percent);
        Self::Number(text, share)
    }

    pub(super) fn duration(us: Option<f64>) -> Self {
        Self::Number(super::format::duration_of(us), us)
    }

    fn is_number(&self) -> bool {
        matches!(self, Self::Number(..))
    }

    /// Writes the cell; with `header`, as the one that names its row.
    fn write(&self, out: &mut String, header: bool) {
        let tag = if header { "th scope=\"row\"" } else { "td" };
        let end = if header { "th" } else { "td" };
        let _ = match self {
            Self::Text(text) => write!(out, "<{tag}>{}</{end}>", escape(text)),
            Self::Code(text) => write!(out, "<{tag}><code>{}</code></{end}>", escape(text)),
            Self::Number(text, value) => {
                let sort = value.map_or_else(String::new, |value| value.to_string());
                write!(out, "<{tag} class=\"number\" data-v=\"{sort}\">{}</{end}>", escape(text))
            }
        };
    }
}

/// A table of like things, which a script makes sortable where scripts may run; the first column
/// names the rows.
pub(super) fn table(out: &mut String, caption: &str, heads: &[&str], rows: &[Vec<Cell>]) {
    any_table(out, "sortable", caption, heads, rows);
}

/// A table whose rows are different things, in a fixed order.
pub(super) fn fixed_table(out: &mut String, caption: &str, heads: &[&str], rows: &[Vec<Cell>]) {
    any_table(out, "fixed", caption, heads, rows);
}

fn any_table(out: &mut String, class: &str, caption: &str, heads: &[&str], rows: &[Vec<Cell>]) {
    let caption = escape(caption);
    // Not a caption element: that would scroll away with the table on a narrow screen.
    let _ = write!(
        out,
        "<p class=\"quiet\">{caption}</p><div class=\"table\" role=\"region\" tabindex=\"0\" \
         aria-label=\"{caption}\"><table class=\"{class}\"><thead><tr>"
    );
    for (n, head) in heads.iter().enumerate() {
        let number = rows.first().and_then(|row| row.get(n)).is_some_and(Cell::is_number);
        let class = if number { " class=\"number\"" } else { "" };
        let _ = write!(out, "<th scope=\"col\"{class}>{}</th>", escape(head));
    }
    out.push_str("</tr></thead><tbody>");
    for row in rows {
        out.push_str("<tr>");
        row.iter().enumerate().for_each(|(n, cell)| cell.write(out, n == 0));
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>\n");
}

/// A list of figures with their names.
pub(super) fn figures(out: &mut String, figures: &[(&str, String)]) {
    out.push_str("<dl class=\"figures\">");
    for (name, value) in figures {
        let _ = write!(out, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value));
    }
    out.push_str("</dl>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_a_file_becomes_markup() {
        let evil = "<script>\"&'";
        assert_eq!(escape(evil), "&lt;script&gt;&quot;&amp;&#39;");
        let mut out = String::new();
        let cells = vec![vec![Cell::Text(evil.into()), Cell::Code(evil.into())]];
        table(&mut out, evil, &[evil, evil], &cells);
        figures(&mut out, &[(evil, evil.into())]);
        assert!(!out.contains("<script"), "{out}");
    }
}
