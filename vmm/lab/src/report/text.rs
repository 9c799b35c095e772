//! The report for a terminal of 100 columns.

use std::fmt::Write;

use super::distribution::{Bin, Distribution};
use super::group::{ClassRow, DetectorRow, Group, Stratum};
use super::paper::PaperRow;
use super::statistics::Quantiles;
use super::words::{
    NOTHING, at_least, class, duration, duration_of, interval, is_shown, mark, percent, percent_in,
    percent_of, thousands,
};
use super::worst::WorstRow;
use super::{CampaignView, Report};

/// Columns of the terminal.
const WIDTH: usize = 100;
/// Widest bar, characters.
const BAR_CHARS: usize = 40;
/// Functions that are shown; JSON has all.
const SHOWN_FUNCTIONS: usize = 12;
/// Groups that fit side by side.
const SIDE_BY_SIDE: usize = 4;

impl Report {
    /// As text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.campaigns.iter().for_each(|campaign| introduction(&mut out, campaign));
        paper_table(&mut out, &self.paper_table);
        if self.groups.len() > 1 {
            self.groups.chunks(SIDE_BY_SIDE).for_each(|groups| side_by_side(&mut out, groups));
        }
        self.groups.iter().for_each(|group| one_group(&mut out, group));
        worst(&mut out, &self.worst, self.to_look_into);
        out
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end());
    out.push('\n');
}

fn heading(out: &mut String, text: &str) {
    let rest = WIDTH.saturating_sub(text.chars().count() + 4);
    let _ = writeln!(out, "\n── {text} {}", "─".repeat(rest));
}

/// At most so many characters; the end of a name tells more than its beginning.
fn fit(text: &str, chars: usize) -> String {
    let length = text.chars().count();
    if length <= chars {
        return text.into();
    }
    let end: String = text.chars().skip(length + 1 - chars).collect();
    format!("…{end}")
}

fn introduction(out: &mut String, campaign: &CampaignView) {
    let revision = campaign.revision.as_deref().map_or_else(String::new, |r| format!(" ({r})"));
    line(
        out,
        &format!(
            "{}: {}, seed {}, {} injections",
            campaign.folder,
            campaign.name,
            campaign.seed,
            thousands(campaign.recorded)
        ),
    );
    line(
        out,
        &format!(
            "    warmspare {}{revision}, begun {}, {} job{}; {} × {}",
            campaign.version,
            campaign.began,
            campaign.jobs,
            if campaign.jobs == 1 { "" } else { "s: times say little" },
            campaign.processors,
            campaign.cpu
        ),
    );
    if !campaign.realtime {
        line(out, "    no real-time scheduling was permitted: interruptions are longer for it");
    }
    if let (Some(samples), Some(code)) =
        (campaign.profile_sample_share, campaign.profile_code_share)
    {
        line(
            out,
            &format!(
                "    profiled functions: {} of the samples, {} of the driver’s code",
                percent(samples),
                percent(code)
            ),
        );
    }
}

fn paper_table(out: &mut String, rows: &[PaperRow]) {
    heading(out, "beside the paper (NCA 2009, Table III); shares of injected = activated faults");
    line(
        out,
        &format!(
            "{:<20} {:<8} {:>9} {:>8} {:>8} {:>8} {:>10} {:>10} {:>8}",
            "configuration",
            "kind",
            "injected",
            "crash",
            "hang",
            "silent",
            "no effect",
            "recovered",
            "< 10 ms"
        ),
    );
    for row in rows {
        let share = |share| percent_in(row, share);
        let name = match row.source {
            "paper" => format!("  2009: {}", row.configuration),
            _ => fit(&row.configuration, 20),
        };
        line(
            out,
            &format!(
                "{name:<20} {:<8} {:>9} {:>8} {:>8} {:>8} {:>10} {:>10} {:>8}",
                fit(&row.kind, 8),
                thousands(row.injected),
                share(row.crash),
                share(row.hang),
                share(row.silent),
                share(row.not_manifested),
                row.restored.map_or_else(|| NOTHING.into(), share),
                row.under_10_ms.map_or_else(|| NOTHING.into(), share),
            ),
        );
    }
    line(
        out,
        "recovered: of the detected, where it was tried; < 10 ms: of the interruptions then.",
    );
    let falsely: Vec<_> = rows.iter().filter(|row| row.false_failover > 0.0).collect();
    for row in falsely {
        let share = percent(row.false_failover);
        line(out, &format!("{}, {}: {share} were false failovers.", row.configuration, row.kind));
    }
}

fn side_by_side(out: &mut String, groups: &[Group]) {
    heading(out, "side by side: count, share of injected");
    let cell = |text: &str| format!(" {:>18}", fit(text, 18));
    let columns = |cells: Vec<String>| cells.iter().map(|text| cell(text)).collect::<String>();
    let row = |name: &str, of: &dyn Fn(&Group) -> String| {
        format!("{name:<20}{}", columns(groups.iter().map(of).collect()))
    };
    line(out, &row("", &|group| group.label.clone()));
    line(out, &row("attempted", &|group| thousands(group.attempted)));
    line(out, &row("injected", &|group| thousands(group.injected)));
    line(out, &row("detected", &|group| thousands(group.detected)));
    for shown in &groups[0].classes {
        let rows = || groups.iter().filter_map(|group| group.class(shown.class));
        if rows().any(is_shown) {
            let count = |group: &Group| {
                let row = group.class(shown.class);
                let count = thousands(row.map_or(0, |row| row.count));
                format!("{count:>7} {:>9}", percent_of(row.and_then(|row| row.of_injected)))
            };
            let seen = rows().any(|row| row.count > 0);
            let sign = if seen { mark(shown.class) } else { " " };
            let name = format!("{sign} {}", class(shown.class));
            line(out, &row(&name, &count));
        }
    }
    line(out, &row("service back", &|group| percent_of(group.restored)));
    line(
        out,
        &row("  at least (95 %)", &|group| {
            group.restored.map_or_else(|| NOTHING.into(), |p| at_least(p.low))
        }),
    );
    let quantile = |of: fn(&Quantiles) -> f64| {
        move |group: &Group| duration_of(group.interruption.all.as_ref().map(of))
    };
    line(out, &row("interruption, p50", &quantile(|q| q.p50_us)));
    line(out, &row("  p99", &quantile(|q| q.p99_us)));
    line(out, &row("  longest", &quantile(|q| q.max_us)));
    line(out, &row("  under 10 ms", &|group| percent_of(group.interruption.under_10_ms)));
}

fn one_group(out: &mut String, group: &Group) {
    heading(out, &group.label);
    line(
        out,
        &format!(
            "{} attempted, {} injected (activated), {} detected; machine stalls during {}",
            thousands(group.attempted),
            thousands(group.injected),
            thousands(group.detected),
            thousands(group.machine_stalled)
        ),
    );
    line(out, "");
    line(
        out,
        "outcome               count   of injected   95 % interval      of detected   95 % interval",
    );
    group.classes.iter().filter(|row| is_shown(row)).for_each(|row| class_line(out, row));
    summary(out, group);
    interruption(out, &group.interruption);
    detectors(out, &group.detectors);
    strata(out, "kind of fault", &group.strata.kind, usize::MAX);
    strata(out, "segment", &group.strata.segment, usize::MAX);
    strata(out, "function", &group.strata.function, SHOWN_FUNCTIONS);
}

fn class_line(out: &mut String, row: &ClassRow) {
    line(
        out,
        &format!(
            "{} {:<15} {:>9} {:>13}   {:<19}{:>10}   {}",
            if row.count > 0 { mark(row.class) } else { " " },
            class(row.class),
            thousands(row.count),
            percent_of(row.of_injected),
            interval(row.of_injected),
            percent_of(row.of_detected),
            interval(row.of_detected),
        ),
    );
}

fn summary(out: &mut String, group: &Group) {
    line(out, "");
    let lines = [
        ("service back after a detected failure", group.restored),
        ("  and as before, spare included", group.whole_again),
        ("undetected failure, of the injected", group.silent),
    ];
    for (name, proportion) in lines {
        let Some(p) = proportion else { continue };
        line(
            out,
            &format!(
                "{name:<39}{:>9} of {:<9} {:>9}   {}",
                thousands(p.count),
                thousands(p.of),
                percent(p.share),
                interval(Some(p))
            ),
        );
    }
    let f = &group.frames;
    line(
        out,
        &format!(
            "datagrams: {} sent, {} echoed, {} lost, {} duplicated, {} corrupted",
            thousands(f.sent),
            thousands(f.received),
            thousands(f.lost),
            thousands(f.duplicated),
            thousands(f.corrupted)
        ),
    );
}

fn quantile_cells(quantiles: &Quantiles) -> String {
    format!(
        "p50 {}, p90 {}, p99 {}, longest {}",
        duration(quantiles.p50_us),
        duration(quantiles.p90_us),
        duration(quantiles.p99_us),
        duration(quantiles.max_us)
    )
}

fn interruption(out: &mut String, distribution: &Distribution) {
    let Some(all) = &distribution.all else { return };
    line(out, "");
    line(out, &format!("interruption of {}: {}", thousands(all.count), quantile_cells(all)));
    match &distribution.without_machine_stalls {
        Some(some) if some.count < all.count => {
            let count = thousands(some.count);
            line(out, &format!("  of {count} without a machine stall: {}", quantile_cells(some)));
        }
        Some(_) => {}
        None => line(out, "  in all of them the machine itself stood still"),
    }
    if let Some(under) = distribution.under_10_ms {
        let share = percent(under.share);
        line(out, &format!("  under 10 ms: {share}, 95 % interval {}", interval(Some(under))));
    }
    // Fine up to the goal, then as coarse as the paper's; of these only what is not empty.
    let fine = distribution.bins_500_us.iter().filter(|bin| bin.from_us < 10_000.0);
    let coarse = distribution.bins_10_ms.iter().filter(|bin| bin.from_us >= 10_000.0);
    let bins: Vec<_> = fine.chain(coarse.filter(|bin| bin.count > 0)).collect();
    let most = bins.iter().map(|bin| bin.count).max().unwrap_or(1).max(1);
    line(out, &format!("  {:<19} {:<BAR_CHARS$} {:>7}  cumulative", "from, below", "", "count"));
    bins.iter().for_each(|bin| bin_line(out, bin, most));
}

fn bin_line(out: &mut String, bin: &Bin, most: u64) {
    let ms =
        |us: f64| format!("{:.*}", usize::from(us < 10_000.0 || us % 10_000.0 > 0.0), us / 1e3);
    let range = match bin.to_us {
        Some(to_us) => format!("{:>5} to {:>5} ms", ms(bin.from_us), ms(to_us)),
        None => format!("{:>5} ms and more", ms(bin.from_us)),
    };
    let chars = |count: u64| (count as usize * BAR_CHARS).div_ceil(most as usize);
    let whole = chars(bin.count);
    let stalled = if bin.stalled == bin.count { whole } else { chars(bin.stalled).min(whole - 1) };
    let bar = "█".repeat(whole - stalled) + &"░".repeat(stalled);
    let note = match bin.stalled {
        0 => String::new(),
        n => format!("  ░ {n} stalled"),
    };
    let cumulative = percent(bin.cumulative);
    line(out, &format!("  {range:<19} {bar:<BAR_CHARS$} {:>7} {cumulative:>9}{note}", bin.count));
}

fn detectors(out: &mut String, rows: &[DetectorRow]) {
    if rows.is_empty() {
        return;
    }
    line(out, "");
    line(
        out,
        "detector            found  detection: p50       p99   longest    switch: p50       p99   longest",
    );
    for row in rows {
        let cells = |quantiles: Option<Quantiles>| {
            let of = |value: fn(Quantiles) -> f64| duration_of(quantiles.map(value));
            let (p50, p99, max) = (of(|q| q.p50_us), of(|q| q.p99_us), of(|q| q.max_us));
            format!("{p50:>9} {p99:>9} {max:>9}")
        };
        line(
            out,
            &format!(
                "{:<17} {:>7}     {}      {}",
                fit(&row.detector, 17),
                thousands(row.count),
                cells(row.detect),
                cells(row.switch)
            ),
        );
    }
}

fn strata(out: &mut String, name: &str, rows: &[Stratum], most: usize) {
    line(out, "");
    line(
        out,
        &format!(
            "{name:<25} {:>9} {:>8} {:>8} {:>7} {:>6} {:>12} {:>8} {:>8}",
            "attempted",
            "injected",
            "detected",
            "share",
            "silent",
            "service back",
            "p50",
            "longest"
        ),
    );
    for row in rows.iter().take(most) {
        let of = |value: fn(&Quantiles) -> f64| duration_of(row.interruption.as_ref().map(value));
        line(
            out,
            &format!(
                "{:<25} {:>9} {:>8} {:>8} {:>7} {:>6} {:>12} {:>8} {:>8}",
                fit(&row.name, 25),
                thousands(row.attempted),
                thousands(row.injected),
                thousands(row.detected),
                percent_of(row.detected_of_injected),
                thousands(row.silent),
                percent_of(row.restored),
                of(|q| q.p50_us),
                of(|q| q.max_us)
            ),
        );
    }
    if let Some(more) = rows.len().checked_sub(most).filter(|&more| more > 0) {
        line(out, &format!("… and {more} more, in the JSON"));
    }
}

fn worst(out: &mut String, rows: &[WorstRow], to_look_into: u64) {
    let look = match to_look_into {
        0 => "none asks to be looked into".into(),
        1 => "1 asks to be looked into".into(),
        n => format!("{} ask to be looked into", thousands(n)),
    };
    heading(out, &format!("the worst; {look}"));
    for row in rows {
        let stall = match row.machine_stall_ms {
            ms if ms > 0.0 => format!(", machine stalled {ms:.1} ms"),
            _ => String::new(),
        };
        let interrupted = match row.interruption_us {
            Some(us) => duration(us),
            None => "no end".into(),
        };
        let by = row.detector.as_deref().unwrap_or("nobody");
        line(
            out,
            &format!(
                "{} {:<14} {interrupted:>8}  found by {by}{stall}; {}",
                mark(row.outcome),
                class(row.outcome),
                fit(&row.group, 24)
            ),
        );
        let place = fit(&row.place, 48);
        line(out, &format!("      {} at {place}, {}", super::group::word(&row.kind), row.change));
        if let Some(note) = &row.note {
            line(out, &format!("      {note}"));
        }
        line(out, &format!("      {}", row.replay));
    }
}
