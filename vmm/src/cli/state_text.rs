//! The state of a running warmspare as text.

use std::fmt::Write;

use operate::observe::{AppView, DomainView, FailoverView, HistogramView, Snapshot};

/// Failures that are shown one by one.
const SHOWN_FAILOVERS: usize = 5;

/// The state as a few lines of text.
pub(super) fn state_text(state: &Snapshot) -> String {
    let mut out = String::new();
    let word = if state.redundant { "redundant" } else { "NOT redundant" };
    let serves = match &state.active {
        Some(name) => format!("{name} serves"),
        None => "no domain serves".into(),
    };
    let up = state.uptime_seconds as u64;
    let (name, policy) = (&state.name, &state.policy);
    let (hours, minutes, seconds) = (up / 3600, up / 60 % 60, up % 60);
    line(
        &mut out,
        format_args!(
            "{name}: {word}, {serves}; policy {policy}, up {hours} h {minutes:02} min \
             {seconds:02} s\n"
        ),
    );
    line(
        &mut out,
        format_args!("domain      role         life  nic         link   heartbeat  vCPU"),
    );
    state.domains.iter().for_each(|domain| add_domain(&mut out, domain));
    state.apps.iter().for_each(|app| add_app(&mut out, app));
    out.push('\n');
    add_losses(&mut out, state);
    add_history(&mut out, state);
    out
}

fn add_domain(out: &mut String, domain: &DomainView) {
    let link = match domain.nic.link_up {
        Some(true) => "up",
        Some(false) => "DOWN",
        None => "?",
    };
    let vcpu = match (domain.aside, domain.parked) {
        (true, _) => "put aside",
        (false, true) => "asleep",
        (false, false) => "awake",
    };
    line(
        out,
        format_args!(
            "{:<10}  {:<11}  {:>4}  {:<10}  {link:<4}  {:>10}  {vcpu}",
            domain.name,
            domain.role.to_string(),
            domain.epoch,
            domain.nic.name,
            domain.heartbeat,
        ),
    );
    if let Some(trouble) = &domain.nic.trouble {
        line(out, format_args!("            {}: {trouble}", domain.nic.name));
    }
}

/// One line for each NIC that lost frames.
fn add_losses(out: &mut String, state: &Snapshot) {
    const KINDS: [&str; 6] = ["missed", "too-long", "too-short", "damaged", "unusable", "vanished"];
    for domain in &state.domains {
        let counters = &domain.nic.counters;
        let of_kind = |kind: &&str| counters.get(*kind).copied().filter(|count| *count > 0);
        let lost: Vec<String> =
            KINDS.iter().filter_map(|kind| Some(format!("{} {kind}", of_kind(kind)?))).collect();
        if !lost.is_empty() {
            let lost = lost.join(", ");
            line(out, format_args!("{}: received frames lost: {lost}", domain.nic.name));
        }
    }
}

/// A guest is mentioned only if something is wrong with its socket or its frames, if it is awaited,
/// or if it has several MAC addresses.
fn add_app(out: &mut String, app: &AppView) {
    let AppView { socket, waiting, connects, connected, macs, .. } = app;
    if *connects && !connected {
        line(out, format_args!("{socket}: waits for the VMM that listens there"));
    }
    if !macs.is_empty() {
        line(out, format_args!("{socket}: also has {}", macs.join(", ")));
    }
    let refused = app.refused.iter().filter(|(_, count)| **count > 0);
    let refused: Vec<_> = refused.map(|(reason, count)| format!("{count} {reason}")).collect();
    if !refused.is_empty() {
        let source = app.refused_source.as_ref().map(|mac| format!(" (such as {mac})"));
        let (refused, source) = (refused.join(", "), source.unwrap_or_default());
        line(out, format_args!("{socket}: frames not let out: {refused}{source}"));
    }
    if *waiting > 0 {
        let text = "beside the front-end that is served; give each guest a socket of its own";
        line(out, format_args!("{socket}: {waiting} waiting {text}"));
    }
}

fn add_history(out: &mut String, state: &Snapshot) {
    if state.failovers.is_empty() {
        line(out, format_args!("no domain has failed"));
    }
    for count in &state.failovers {
        let times = if count.count == 1 { "once" } else { "times" };
        let number = if count.count == 1 { String::new() } else { format!("{} ", count.count) };
        line(out, format_args!("{}: {} {number}{times}", count.cause, count.outcome));
    }
    for (cause, view) in &state.interruption.by_cause {
        line(out, format_args!("interruption by {cause}: {}", quantiles(view)));
    }
    for failover in state.last_failovers.iter().take(SHOWN_FAILOVERS) {
        line(out, format_args!("{}", failover_line(failover)));
    }
}

fn quantiles(view: &HistogramView) -> String {
    let ms = |us: f64| us / 1000.0;
    format!(
        "p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, longest {:.2} ms",
        ms(view.p50_us),
        ms(view.p90_us),
        ms(view.p99_us),
        ms(view.max_us)
    )
}

fn failover_line(failover: &FailoverView) -> String {
    let took = match failover.interruption_us {
        Some(us) => format!("{:.2} ms", us / 1000.0),
        None => failover.outcome.name().to_owned(),
    };
    format!(
        "#{} {} {}>{} {}: {took}: {}",
        failover.number,
        failover.verdict_time,
        failover.from,
        failover.to.as_deref().unwrap_or("-"),
        failover.cause,
        failover.evidence,
    )
}

/// The rates of the last second as a few lines of text.
pub(super) fn rates_text(state: &Snapshot) -> String {
    let mut out = String::from("\n");
    let rates = &state.rates;
    for (direction, frames, bytes) in
        [("out", rates.tx_frames, rates.tx_bytes), ("in", rates.rx_frames, rates.rx_bytes)]
    {
        let megabits = bytes * 8.0 / 1e6;
        line(
            &mut out,
            format_args!("{direction:<4}{frames:>10.0} frames/s {megabits:>10.2} Mbit/s"),
        );
    }
    let rings = &rates.rings;
    line(
        &mut out,
        format_args!(
            "rings: {} to send, {} sent and not confirmed, {} received, {} empty buffers",
            rings.tx_post, rates.tx_unconfirmed, rings.rx_done, rings.rx_provide
        ),
    );
    for (domain, share) in state.domains.iter().zip(&rates.parked_share) {
        line(&mut out, format_args!("{}: vCPU idle {:.1} %", domain.name, share * 100.0));
    }
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}
