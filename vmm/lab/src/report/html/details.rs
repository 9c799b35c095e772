//! One configuration of one campaign.

use std::fmt::Write;

use super::super::distribution::{Bin, Distribution};
use super::super::format::{
    NOTHING, at_least, class, duration_of, interval, meaning, percent_of, thousands,
};
use super::super::group::{ClassRow, DetectorRow, Group, Stratum};
use super::super::markup::{Cell, escape, figures, fixed_table, table};
use super::super::plot;
use super::super::statistics::{Proportion, Quantiles};
use super::parts::{HALF_WIDTHS, legend, pictures};

pub(super) fn group(out: &mut String, number: usize, group: &Group) {
    let _ = write!(
        out,
        "<section aria-labelledby=\"g{number}\"><h2 id=\"g{number}\">{}</h2>",
        escape(&group.label)
    );
    summary(out, group);
    let rows: Vec<_> = group.classes.iter().filter(|row| row.is_shown()).map(class_cells).collect();
    let heads = [
        "outcome",
        "count",
        "of injected",
        "95 % interval",
        "of detected",
        "95 % interval",
        "meaning",
    ];
    fixed_table(out, "What became of the faults", &heads, &rows);
    interruption(out, group);
    detectors(out, &group.detectors);
    strata(out, "By kind of fault", &group.strata.kind);
    strata(out, "By segment", &group.strata.segment);
    out.push_str("<details><summary>By function</summary>");
    strata(out, "By function of the driver", &group.strata.function);
    out.push_str("</details></section>\n");
}

fn summary(out: &mut String, group: &Group) {
    let share = |proportion: Option<Proportion>| match proportion {
        Some(p) => format!("{} of {}", thousands(p.count), thousands(p.of)),
        None => "not tried".into(),
    };
    let low = |p: Proportion| at_least(p.low);
    let frames = &group.frames;
    figures(
        out,
        &[
            ("Attempted", thousands(group.attempted)),
            ("Injected (activated)", thousands(group.injected)),
            ("Detected", thousands(group.detected)),
            ("Service back", share(group.restored)),
            ("… at least (95 %)", group.restored.map_or_else(|| NOTHING.into(), low)),
            ("… as before, spare included", share(group.whole_again)),
            ("Undetected failures", share(group.silent)),
            ("During machine stalls", thousands(group.machine_stalled)),
        ],
    );
    let _ = writeln!(
        out,
        "<p class=\"quiet\">Datagrams: {} sent, {} echoed, {} lost, {} duplicated, {} corrupted.</p>",
        thousands(frames.sent),
        thousands(frames.received),
        thousands(frames.lost),
        thousands(frames.duplicated),
        thousands(frames.corrupted)
    );
}

fn class_cells(row: &ClassRow) -> Vec<Cell> {
    let share = |p: Option<Proportion>| Cell::Number(percent_of(p), p.map(|p| p.share));
    let ends = |p: Option<Proportion>| Cell::Number(interval(p), p.map(|p| p.low));
    let sign = if row.class.is_bad() && row.count > 0 { "✕ " } else { "" };
    vec![
        Cell::Text(format!("{sign}{}", class(row.class))),
        Cell::count(row.count),
        share(row.of_injected),
        ends(row.of_injected),
        share(row.of_detected),
        ends(row.of_detected),
        Cell::Text(meaning(row.class).into()),
    ]
}

fn interruption(out: &mut String, group: &Group) {
    let lengths = &group.interruption;
    let Some(all) = lengths.all else { return };
    out.push_str("<h3>Interruption of the service</h3>");
    quantiles(out, lengths, all);
    histograms(out, lengths);
    out.push_str("<details><summary>The numbers behind the pictures</summary>");
    bins(out, "Bins of 10 ms", &lengths.bins_10_ms);
    bins(out, "Bins of 0.5 ms", &lengths.bins_500_us);
    out.push_str("</details>");
}

fn quantiles(out: &mut String, lengths: &Distribution, all: Quantiles) {
    let row = |name: &str, q: Quantiles| {
        vec![
            Cell::Text(name.into()),
            Cell::count(q.count),
            Cell::duration(Some(q.mean_us)),
            Cell::duration(Some(q.p50_us)),
            Cell::duration(Some(q.p90_us)),
            Cell::duration(Some(q.p99_us)),
            Cell::duration(Some(q.max_us)),
        ]
    };
    let mut rows = vec![row("all", all)];
    rows.extend(lengths.without_machine_stalls.map(|q| row("without machine stalls", q)));
    let under = format!(
        "Under 10 ms: {}, 95 % interval {}",
        percent_of(lengths.under_10_ms),
        interval(lengths.under_10_ms)
    );
    fixed_table(out, &under, &["", "count", "mean", "p50", "p90", "p99", "longest"], &rows);
}

fn histograms(out: &mut String, lengths: &Distribution) {
    out.push_str("<div class=\"pair\"><div><h3>In bins of 10 ms</h3>");
    pictures(out, HALF_WIDTHS, |width| {
        plot::histogram(&lengths.bins_10_ms, "bins of 10 ms", width)
    });
    out.push_str("</div><div><h3>In bins of 0.5 ms; the last is all beyond 20 ms</h3>");
    pictures(out, HALF_WIDTHS, |width| {
        plot::histogram(&lengths.bins_500_us, "bins of 0.5 ms", width)
    });
    out.push_str("</div></div>");
    let entries = [
        (plot::swatch(0), "interruptions"),
        (plot::swatch(1), "the machine itself stood still"),
        (plot::curve(), "cumulative"),
    ];
    legend(out, entries.into_iter());
}

/// The numbers of a histogram.
fn bins(out: &mut String, caption: &str, bins: &[Bin]) {
    let upper = |us: Option<f64>| us.map_or_else(|| "and more".into(), |us| duration_of(Some(us)));
    let cells = |bin: &Bin| {
        vec![
            Cell::Number(duration_of(Some(bin.from_us)), Some(bin.from_us)),
            Cell::Number(upper(bin.to_us), bin.to_us),
            Cell::count(bin.count),
            Cell::count(bin.stalled),
            Cell::share(Some(bin.cumulative)),
        ]
    };
    let heads = ["from", "below", "count", "machine stalled", "cumulative"];
    let rows: Vec<_> = bins.iter().filter(|bin| bin.count > 0).map(cells).collect();
    table(out, caption, &heads, &rows);
}

fn detectors(out: &mut String, rows: &[DetectorRow]) {
    if rows.is_empty() {
        return;
    }
    let cells = |row: &DetectorRow| {
        let of = |q: Option<Quantiles>, value: fn(Quantiles) -> f64| Cell::duration(q.map(value));
        vec![
            Cell::Text(row.detector.clone()),
            Cell::count(row.count),
            of(row.detect, |q| q.p50_us),
            of(row.detect, |q| q.p90_us),
            of(row.detect, |q| q.p99_us),
            of(row.detect, |q| q.max_us),
            of(row.switch, |q| q.p50_us),
            of(row.switch, |q| q.p90_us),
            of(row.switch, |q| q.p99_us),
            of(row.switch, |q| q.max_us),
            Cell::count(row.machine_stalled),
        ]
    };
    let heads = [
        "detector",
        "found",
        "detect p50",
        "p90",
        "p99",
        "longest",
        "switch p50",
        "p90",
        "p99",
        "longest",
        "stalled",
    ];
    out.push_str("<h3>Detectors</h3>");
    let caption = "Detect: from the activation to the verdict. Switch: from the verdict to the \
                   first frame of the domain that serves then.";
    table(out, caption, &heads, &rows.iter().map(cells).collect::<Vec<_>>());
}

fn strata(out: &mut String, name: &str, rows: &[Stratum]) {
    let cells = |row: &Stratum| {
        let low = row.restored.map(|p| p.low);
        vec![
            Cell::Code(row.name.clone()),
            Cell::count(row.attempted),
            Cell::count(row.injected),
            Cell::count(row.masked),
            Cell::count(row.detected),
            Cell::Number(
                percent_of(row.detected_of_injected),
                row.detected_of_injected.map(|p| p.share),
            ),
            Cell::Number(
                interval(row.detected_of_injected),
                row.detected_of_injected.map(|p| p.low),
            ),
            Cell::count(row.silent),
            Cell::share(row.restored.map(|p| p.share)),
            Cell::Number(low.map_or_else(|| NOTHING.into(), at_least), low),
            Cell::duration(row.interruption.map(|q| q.p50_us)),
            Cell::duration(row.interruption.map(|q| q.max_us)),
        ]
    };
    let heads = [
        "",
        "attempted",
        "injected",
        "masked",
        "detected",
        "of injected",
        "95 % interval",
        "silent",
        "service back",
        "at least",
        "p50",
        "longest",
    ];
    table(out, name, &heads, &rows.iter().map(cells).collect::<Vec<_>>());
}
