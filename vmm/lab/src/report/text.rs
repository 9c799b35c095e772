//! The report for a terminal of 100 columns.

mod group;
mod lines;

use self::lines::{fit, heading, line};
use super::format::{
    NOTHING, at_least, class, duration, duration_of, mark, name, percent, percent_of, thousands,
};
use super::group::{ClassRow, Group};
use super::model::{CampaignView, Report};
use super::paper::PaperRow;
use super::statistics::Quantiles;
use super::worst::WorstRow;

/// Groups that fit side by side.
const SIDE_BY_SIDE: usize = 4;

impl Report {
    /// The report as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.campaigns.iter().for_each(|campaign| introduction(&mut out, campaign));
        paper_table(&mut out, &self.paper_table);
        if self.groups.len() > 1 {
            self.groups.chunks(SIDE_BY_SIDE).for_each(|groups| side_by_side(&mut out, groups));
        }
        self.groups.iter().for_each(|group| group::section(&mut out, group));
        worst(&mut out, &self.worst, self.to_look_into);
        out
    }
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
            if campaign.jobs == 1 { "" } else { "s: times are not reliable" },
            campaign.processors,
            campaign.cpu
        ),
    );
    if !campaign.realtime {
        line(out, "    no real-time scheduling was permitted, which makes interruptions longer");
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
    heading(
        out,
        "compared with the paper (NCA 2009, Table III); shares of injected = activated faults",
    );
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
        let share = |share| row.percent(share);
        let name = match row.is_published() {
            true => format!("  2009: {}", row.configuration),
            false => fit(&row.configuration, 20),
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
        "recovered: of the detected, where recovery was tried; < 10 ms: of those interruptions.",
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
        if rows().any(ClassRow::is_shown) {
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

fn worst(out: &mut String, rows: &[WorstRow], to_look_into: u64) {
    let look = match to_look_into {
        0 => "none needs a closer look".into(),
        1 => "1 needs a closer look".into(),
        n => format!("{} need a closer look", thousands(n)),
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
        let by = row.detector.as_deref().unwrap_or("no detector");
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
        line(out, &format!("      {} at {place}, {}", name(&row.kind), row.change));
        if let Some(note) = &row.note {
            line(out, &format!("      {note}"));
        }
        line(out, &format!("      {}", row.replay));
    }
}
