//! Calendar time as RFC 3339, in UTC with microseconds, so that people can read and compare it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use platform::clock::monotonic_ns;

/// The calendar time at a moment of `CLOCK_MONOTONIC`.
pub(super) fn at(moment_ns: u64) -> String {
    let age = Duration::from_nanos(monotonic_ns().saturating_sub(moment_ns));
    rfc3339(SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH))
}

/// The calendar time now.
pub fn wall_clock_now() -> String {
    rfc3339(SystemTime::now())
}

fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, micros) = (since.as_secs(), since.subsec_micros());
    let (year, month, day) = civil(seconds / 86_400);
    let of_day = seconds % 86_400;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Year, month and day of a day counted from 1970-01-01. Years begin in March in this calculation,
/// so that the leap day is the last day of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_BEFORE_1970: u64 = 719_468;
    const DAYS_IN_400_YEARS: u64 = 146_097;
    let days = days + DAYS_BEFORE_1970;
    let (era, day) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let january_or_february = u64::from(month <= 2);
    (era * 400 + year + january_or_february, month, day - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_read_as_people_write_them() {
        let at = |seconds, micros: u32| rfc3339(UNIX_EPOCH + Duration::new(seconds, 1000 * micros));
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(at(951_782_399, 999_999), "2000-02-28T23:59:59.999999Z");
        assert_eq!(at(951_782_400, 1), "2000-02-29T00:00:00.000001Z");
        assert_eq!(at(4_107_542_400, 0), "2100-03-01T00:00:00.000000Z");
    }
}
