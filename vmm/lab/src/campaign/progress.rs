//! The display of a running campaign: one line, which is overwritten on a terminal.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use super::spec::{CampaignSpec, Until};
use super::tally::{Counts, Tally};
use crate::injection::InjectionOutcome as Outcome;
use platform::stderr;

/// Cells of the bar.
const BAR_CELLS: usize = 24;
/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Between two redraws on a terminal.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// The display.
pub(super) struct Progress {
    wanted: bool,
    terminal: bool,
    until: Until,
    configurations: u64,
    began: Instant,
    /// Injections that were recorded before this run.
    before: u64,
    done_before: f64,
    drawn: Option<Instant>,
}

/// How much of a campaign is done.
#[derive(Default)]
struct Done {
    /// 0 to 1.
    share: f64,
    /// The same in numbers.
    text: String,
}

impl Progress {
    pub(super) fn new(wanted: bool, spec: &CampaignSpec, tally: &Tally) -> Self {
        let mut progress = Self {
            wanted,
            terminal: std::io::stderr().is_terminal(),
            until: spec.until,
            configurations: spec.configurations.len() as u64,
            began: Instant::now(),
            before: tally.all().injections,
            done_before: 0.0,
            drawn: None,
        };
        progress.done_before = progress.done(&tally.all()).share;
        progress
    }

    /// Draws the line, if the last one is old enough.
    pub(super) fn show(&mut self, tally: &Tally) {
        let every = if self.terminal { DRAW_EVERY } else { LINE_EVERY };
        let due = self.drawn.map_or(self.terminal, |at| at.elapsed() >= every);
        if self.drawn.is_none() {
            self.drawn = Some(Instant::now());
        }
        if self.wanted && due {
            self.draw(tally);
        }
    }

    /// Draws the last line.
    pub(super) fn end(&mut self, tally: &Tally) {
        if self.wanted {
            self.draw(tally);
            if self.terminal {
                stderr::put("\n");
            }
        }
    }

    /// Writes a message on a line of its own.
    pub(super) fn say(&mut self, text: &str) {
        if self.wanted {
            let start = if self.terminal { "\r\x1b[K" } else { "" };
            stderr::put(&format!("{start}warmspare: {text}\n"));
        }
    }

    fn draw(&mut self, tally: &Tally) {
        self.drawn = Some(Instant::now());
        let text = self.line(tally, self.began.elapsed());
        stderr::put(&match self.terminal {
            true => {
                let text: String = text.chars().take(columns().saturating_sub(1)).collect();
                format!("\r\x1b[K{text}")
            }
            false => format!("{text}\n"),
        });
    }

    /// How much is done, towards the limit that is nearest.
    fn done(&self, counts: &Counts) -> Done {
        let Until { injections, activated, detected } = self.until;
        let limits = [
            (injections, counts.injections, "injected"),
            (activated, counts.activated, "activated"),
            (detected, counts.detected, "detected"),
        ];
        let shares = limits.into_iter().filter_map(|(limit, count, what)| {
            let limit = limit?.saturating_mul(self.configurations);
            let share = (count as f64 / limit as f64).min(1.0);
            Some(Done { share, text: format!("{count}/{limit} {what}") })
        });
        shares.max_by(|a, b| a.share.total_cmp(&b.share)).unwrap_or_default()
    }

    fn line(&self, tally: &Tally, elapsed: Duration) -> String {
        let counts = tally.all();
        let Done { share, text } = self.done(&counts);
        let cells = (share * BAR_CELLS as f64) as usize;
        let bar: String = (0..BAR_CELLS).map(|cell| if cell < cells { '█' } else { '░' }).collect();
        let seconds = elapsed.as_secs_f64();
        let rate = (counts.injections - self.before) as f64 / seconds.max(0.001);
        let progress = share - self.done_before;
        let left = match progress > 0.0 && share < 1.0 {
            true => format!(", {} left", duration(seconds * (1.0 - share) / progress)),
            false => String::new(),
        };
        let seen = Outcome::ALL.into_iter().filter_map(|outcome| {
            let count = tally.outcome(outcome);
            (count > 0).then(|| format!("{} {count}", outcome.name()))
        });
        let seen: Vec<String> = seen.collect();
        format!("{bar} {text} {rate:.1}/s{left}  {}", seen.join(" "))
    }
}

/// A number of seconds, for people.
fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// Width of the terminal; 100 where that is unknown.
fn columns() -> usize {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the request writes one `winsize`, which outlives the call; on anything but a terminal
    // it is an error.
    let result = unsafe { libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &mut size) };
    if result == 0 && size.ws_col > 0 { usize::from(size.ws_col) } else { 100 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_how_fast_and_what_came_of_it() {
        let text = r#"{"faults": [{"code": {}}], "until": {"injections": 200, "detected": 50}}"#;
        let spec = CampaignSpec::parse("test", text).unwrap();
        let progress = Progress::new(true, &spec, &Tally::default());
        let line = progress.line(&Tally::default(), Duration::from_secs(1));
        assert!(line.contains("0/") && line.contains("0.0/s"), "{line}");
        assert_eq!(
            progress.done(&Counts { injections: 40, activated: 30, detected: 25 }).share,
            0.5
        );
        assert_eq!(duration(59.6), "1 min 00 s");
        assert_eq!(duration(7265.0), "2 h 01 min");
    }
}
