//! The report as one page: a single file that loads nothing.

mod details;
mod parts;

use std::fmt::Write;

use self::parts::{WIDTHS, legend, pictures};
use super::format::{
    NOTHING, at_least, class, duration_of, mark, name, percent, percent_of, thousands,
};
use super::group::{ClassRow, Group};
use super::markup::{Cell, escape, figures, fixed_table, table};
use super::model::{CampaignView, Report};
use super::paper::PaperRow;
use super::plot;
use super::statistics::Proportion;
use super::worst::WorstRow;
use crate::injection::InjectionOutcome;
use operate::control::PAGE_STYLE;

const STYLE: &str = include_str!("page/report.css");
const SCRIPT: &str = include_str!("page/report.js");

/// The page loads nothing and sends nothing, whatever its content is.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
     script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

impl Report {
    /// The report as HTML, with everything in it.
    pub fn html(&self) -> String {
        let mut out = self.head();
        self.verdict(&mut out);
        self.paper(&mut out);
        self.interruptions(&mut out);
        self.side_by_side(&mut out);
        for (n, group) in self.groups.iter().enumerate() {
            details::group(&mut out, n, group);
        }
        self.worst(&mut out);
        self.campaigns(&mut out);
        how_to_read(&mut out);
        out.push_str("</main>\n<script>");
        out.push_str(SCRIPT);
        out.push_str("</script>\n</body>\n</html>\n");
        out
    }

    fn head(&self) -> String {
        let names: Vec<_> = self.campaigns.iter().map(|campaign| campaign.name.as_str()).collect();
        let names = escape(&names.join(", "));
        let patterns = plot::patterns();
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>warmspare: {names}</title>\n<link rel=\"icon\" href=\"data:,\">\n\
             <style>\n{PAGE_STYLE}\n{STYLE}</style>\n</head>\n<body>\n\
             <a class=\"skip\" href=\"#content\">To the content</a>\n\
             <header class=\"top\"><h1>warmspare <span>campaign report</span></h1>\
             <p class=\"quiet\">{names}</p></header>\n{patterns}<main id=\"content\">\n"
        );
        if self.groups.len() > 1 {
            out.push_str("<nav aria-label=\"Configurations\"><ul>");
            for (n, group) in self.groups.iter().enumerate() {
                let _ = write!(out, "<li><a href=\"#g{n}\">{}</a></li>", escape(&group.label));
            }
            out.push_str("<li><a href=\"#worst\">the worst</a></li></ul></nav>\n");
        }
        out
    }

    /// The whole in one line.
    fn verdict(&self, out: &mut String) {
        let sum = |class| -> u64 {
            let rows = self.groups.iter().filter(|group| group.restored.is_some());
            rows.filter_map(|group| group.class(class)).map(|row| row.count).sum()
        };
        let tried = || self.groups.iter().filter_map(|group| group.restored);
        let (restored, detected) =
            (tried().map(|p| p.count).sum(), tried().map(|p| p.of).sum::<u64>());
        let (corrupted, unrecovered) =
            (sum(InjectionOutcome::Corrupted), sum(InjectionOutcome::Unrecovered));
        let (state, sign) = match (corrupted + unrecovered, self.to_look_into) {
            (0, 0) => ("good", "✓"),
            (0, _) => ("warn", "!"),
            _ => ("bad", "✕"),
        };
        let word = match Proportion::new(restored, detected) {
            Some(p) => format!(
                "Service back after {} of {} detected failures",
                thousands(p.count),
                thousands(p.of)
            ),
            None => "No recovery was tried".into(),
        };
        let bound = Proportion::new(restored, detected)
            .map_or_else(String::new, |p| format!("That is at least {} (95 %). ", at_least(p.low)));
        let look = match self.to_look_into {
            0 => "No outcome needs a closer look.".into(),
            1 => "1 outcome needs a closer look.".into(),
            n => format!("{} outcomes need a closer look.", thousands(n)),
        };
        let _ = writeln!(
            out,
            "<section class=\"verdict\" data-state=\"{state}\" aria-label=\"In short\">\
             <span class=\"mark\" aria-hidden=\"true\">{sign}</span><div>\
             <p class=\"word\">{word}</p><p class=\"quiet\">{bound}{look}</p></div></section>"
        );
    }

    fn paper(&self, out: &mut String) {
        out.push_str(
            "<section aria-labelledby=\"paper-title\"><h2 id=\"paper-title\">Compared with the paper</h2>\
             <p class=\"quiet\">Shares of injected, that is activated, faults, as in Table III of \
             the warm-spare paper (NCA 2009; Xen, one kind of NIC, their machines).</p>",
        );
        pictures(out, WIDTHS, |width| plot::shares(&self.paper_table, width));
        let used = |n: usize| n < 4 || self.paper_table.iter().any(|row| row.false_failover > 0.0);
        let entries = plot::PAPER_COLUMNS.iter().enumerate().filter(|(n, _)| used(*n));
        legend(out, entries.map(|(n, name)| (plot::paper_swatch(n), *name)));
        let rows: Vec<_> = self.paper_table.iter().map(paper_cells).collect();
        let heads = [
            "configuration",
            "kind",
            "whose",
            "injected",
            "crash",
            "hang",
            "silent",
            "no effect",
            "false failover",
            "service back",
            "at least",
            "< 10 ms",
            "mean",
        ];
        let caption = "Service back: of the detected failures, where recovery was tried; at least: \
                       lower end of the 95 % interval; < 10 ms and mean: of the interruptions.";
        table(out, caption, &heads, &rows);
        out.push_str("</section>\n");
    }

    fn interruptions(&self, out: &mut String) {
        let lines: Vec<_> = self
            .groups
            .iter()
            .filter(|group| group.interruption.all.is_some())
            .map(|group| (group.label.as_str(), &group.interruption))
            .collect();
        if lines.is_empty() {
            return;
        }
        out.push_str(
            "<section aria-labelledby=\"curves-title\">\
             <h2 id=\"curves-title\">Interruption of the service</h2>\
             <p class=\"quiet\">The longest time between two echoes at the sender, after failures \
             that were detected and recovered: the share that was no longer.</p>",
        );
        pictures(out, WIDTHS, |width| plot::curves(&lines, width));
        legend(out, lines.iter().enumerate().map(|(n, (name, _))| (plot::dash(n), *name)));
        out.push_str("</section>\n");
    }

    fn side_by_side(&self, out: &mut String) {
        if self.groups.len() < 2 {
            return;
        }
        let mut rows = Vec::new();
        let mut row = |name: String, cell: &dyn Fn(&Group) -> Cell| {
            let cells = self.groups.iter().map(cell);
            rows.push(std::iter::once(Cell::Text(name)).chain(cells).collect::<Vec<_>>());
        };
        row("attempted".into(), &|group| Cell::count(group.attempted));
        row("injected".into(), &|group| Cell::count(group.injected));
        row("detected".into(), &|group| Cell::count(group.detected));
        for kind in InjectionOutcome::ALL {
            let found = || self.groups.iter().filter_map(|group| group.class(kind));
            if found().any(ClassRow::is_shown) {
                row(class(kind), &|group| {
                    let row = group.class(kind);
                    let count = row.map_or(0, |row| row.count);
                    let share = row.and_then(|row| row.of_injected);
                    let text = format!("{} ({})", thousands(count), percent_of(share));
                    Cell::Number(text, Some(count as f64))
                });
            }
        }
        row("service back".into(), &|group| Cell::share(group.restored.map(|p| p.share)));
        row("… at least (95 %)".into(), &|group| {
            let low = group.restored.map(|p| p.low);
            Cell::Number(low.map_or_else(|| NOTHING.into(), at_least), low)
        });
        let all = |group: &Group| group.interruption.all;
        row("interruption, p50".into(), &|group| Cell::duration(all(group).map(|q| q.p50_us)));
        row("… p99".into(), &|group| Cell::duration(all(group).map(|q| q.p99_us)));
        row("… longest".into(), &|group| Cell::duration(all(group).map(|q| q.max_us)));
        row("… under 10 ms".into(), &|group| {
            Cell::share(group.interruption.under_10_ms.map(|p| p.share))
        });
        let heads: Vec<_> = std::iter::once("")
            .chain(self.groups.iter().map(|group| group.label.as_str()))
            .collect();
        out.push_str(
            "<section aria-labelledby=\"side-title\"><h2 id=\"side-title\">Side by side</h2>",
        );
        fixed_table(out, "Counts, with their share of the injected", &heads, &rows);
        out.push_str("</section>\n");
    }

    fn worst(&self, out: &mut String) {
        out.push_str("<section aria-labelledby=\"worst\"><h2 id=\"worst\">The worst</h2>");
        out.push_str("<p class=\"quiet\">The outcomes that need a closer look come first, then the longest interruptions, each with the command that repeats it.</p>");
        out.push_str("<ol class=\"worst\">");
        self.worst.iter().for_each(|row| worst_item(out, row));
        out.push_str("</ol></section>\n");
    }

    fn campaigns(&self, out: &mut String) {
        let title = if self.campaigns.len() == 1 { "The campaign" } else { "The campaigns" };
        let _ = write!(out, "<section aria-labelledby=\"made\"><h2 id=\"made\">{title}</h2>");
        self.campaigns.iter().for_each(|campaign| campaign_figures(out, campaign));
        out.push_str("</section>\n");
    }
}

fn paper_cells(row: &PaperRow) -> Vec<Cell> {
    let share = |share: Option<f64>| {
        let text = share.map_or_else(|| NOTHING.into(), |share| row.percent(share));
        Cell::Number(text, share)
    };
    let low = row.restored_low;
    vec![
        Cell::Text(row.configuration.clone()),
        Cell::Text(row.kind.clone()),
        Cell::Text(if row.is_published() { "2009".into() } else { "ours".into() }),
        Cell::count(row.injected),
        share(Some(row.crash)),
        share(Some(row.hang)),
        share(Some(row.silent)),
        share(Some(row.not_manifested)),
        share((!row.is_published()).then_some(row.false_failover)),
        share(row.restored),
        Cell::Number(low.map_or_else(|| NOTHING.into(), at_least), low),
        share(row.under_10_ms),
        Cell::duration(row.mean_us),
    ]
}

fn worst_item(out: &mut String, row: &WorstRow) {
    let bad = if row.outcome.is_bad() { " data-bad" } else { "" };
    let length = row.interruption_us.map_or_else(|| "no end".into(), |us| duration_of(Some(us)));
    let by = row.detector.as_deref().unwrap_or("no detector");
    let stall = match row.machine_stall_ms {
        ms if ms > 0.0 => format!(", the machine stood still for {ms:.1} ms"),
        _ => String::new(),
    };
    let source = row.source.as_ref().map_or_else(String::new, |line| format!(" ({line})"));
    let _ = write!(
        out,
        "<li><b{bad}>{} {}</b> <span class=\"number\">{length}</span>, found by {}{stall}; {}\
         <br><span class=\"quiet\">{} at {}{}, {}{}</span><code>{}</code></li>",
        mark(row.outcome),
        class(row.outcome),
        escape(by),
        escape(&row.group),
        name(&row.kind),
        escape(&row.place),
        escape(&source),
        escape(&row.change),
        row.note.as_ref().map_or_else(String::new, |note| format!(": {}", escape(note))),
        escape(&row.replay)
    );
}

fn campaign_figures(out: &mut String, campaign: &CampaignView) {
    let _ = write!(out, "<h3>{}</h3>", escape(&campaign.name));
    let mut list = vec![
        ("Folder", campaign.folder.clone()),
        ("Campaign file", campaign.file.clone()),
        ("Seed", campaign.seed.to_string()),
        ("Injections", thousands(campaign.recorded)),
        ("Version", campaign.version.clone()),
        ("Revision", campaign.revision.clone().unwrap_or_else(|| NOTHING.into())),
        ("Begun", campaign.began.clone()),
        ("Jobs", campaign.jobs.to_string()),
        ("Machine", format!("{} × {}", campaign.processors, campaign.cpu)),
        ("Real-time scheduling", if campaign.realtime { "yes".into() } else { "no".into() }),
    ];
    if let (Some(samples), Some(code)) =
        (campaign.profile_sample_share, campaign.profile_code_share)
    {
        let text = format!("{} of samples, {} of code", percent(samples), percent(code));
        list.push(("Profiled functions", text));
    }
    figures(out, &list);
    if campaign.torn {
        out.push_str(
            "<p class=\"quiet\">The last line of the file is incomplete and left out.</p>",
        );
    }
    if campaign.jobs > 1 {
        out.push_str(
            "<p class=\"quiet\">With several jobs, times are not reliable; outcomes are.</p>",
        );
    }
}

fn how_to_read(out: &mut String) {
    out.push_str(
        "<section aria-labelledby=\"how\"><h2 id=\"how\">How to read this</h2>\
         <p><b>Injected</b> faults are those that execution reached. How often \
         they do harm shows how fragile the driver is. <b>Detected</b> are those of them that a detector found: how many \
         of these the service survives shows what the spare is worth.</p>\
         <p><b>Intervals</b> are exact (Clopper and Pearson): were the experiment repeated again \
         and again, at least 95 % of such intervals would hold the true share. After 3,700 \
         failures without a miss, the lower end is over 99.9 %.</p>\
         <p><b>Machine stalls</b>: the machine itself stood still for a while, so that nothing on \
         it could run. Such interruptions are marked (hatched) and stay in every number.</p>\
         </section>\n",
    );
}
