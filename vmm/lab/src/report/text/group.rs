//! One configuration of one campaign.

use super::super::distribution::{Bin, Distribution};
use super::super::format::{
    class, duration, duration_of, interval, mark, percent, percent_of, thousands,
};
use super::super::group::{ClassRow, DetectorRow, Group, Stratum};
use super::super::statistics::Quantiles;
use super::lines::{fit, heading, line};

/// Widest bar, characters.
const BAR_CHARS: usize = 40;
/// Functions that are shown; JSON has all.
const SHOWN_FUNCTIONS: usize = 12;

/// The section of one group.
pub(super) fn section(out: &mut String, group: &Group) {
    heading(out, &group.label);
    line(
        out,
        &format!(
            "{} attempted, {} injected (activated), {} detected; {} during machine stalls",
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
    group.classes.iter().filter(|row| row.is_shown()).for_each(|row| class_line(out, row));
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
        None => line(out, "  the machine itself stood still in all of them"),
    }
    if let Some(under) = distribution.under_10_ms {
        let share = percent(under.share);
        line(out, &format!("  under 10 ms: {share}, 95 % interval {}", interval(Some(under))));
    }
    // The bins are fine up to the goal, then as coarse as the paper's and left out where empty.
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
