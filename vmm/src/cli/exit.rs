//! How a command ends: its exit status and its message. The statuses are stable, because scripts rely
//! on them.

use std::error::Error;

use platform::one_line::one_line;

/// The command did what it was asked for.
pub(super) const SUCCESS: u8 = 0;
/// The command failed.
pub(super) const FAILED: u8 = 1;
/// The user made a mistake that the message says how to mend.
pub(super) const MISTAKE: u8 = 2;

/// Why a command does not succeed, in one line.
#[derive(Debug)]
pub(super) enum Failure {
    /// The user can mend it.
    Mistake(String),
    /// The run failed.
    Run(String),
}

impl Failure {
    /// A mistake of the user, with all causes of the error in one line.
    pub(super) fn mistake(error: &dyn Error) -> Self {
        Self::Mistake(one_line(error))
    }

    /// A failed run, with all causes of the error in one line.
    pub(super) fn run(error: &dyn Error) -> Self {
        Self::Run(one_line(error))
    }

    /// The exit status.
    pub(super) fn status(&self) -> u8 {
        match self {
            Self::Mistake(_) => MISTAKE,
            Self::Run(_) => FAILED,
        }
    }

    /// The message.
    pub(super) fn message(&self) -> &str {
        match self {
            Self::Mistake(why) | Self::Run(why) => why,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The statuses, each with how its line in `docs/operation.md` begins.
    const STATUSES: [(u8, &str); 3] = [
        (SUCCESS, "success"),
        (FAILED, "the run failed"),
        (MISTAKE, "a mistake that you can mend"),
    ];

    #[test]
    fn the_table_in_the_documents_is_this_one() {
        let text = include_str!("../../../docs/operation.md");
        let section = text.split("## Exit status").nth(1).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let rows: Vec<(u8, &str)> = section
            .lines()
            .filter_map(|line| {
                let mut cells = line.split('|').skip(1).map(str::trim);
                Some((cells.next()?.parse().ok()?, cells.next()?))
            })
            .collect();
        assert_eq!(rows.len(), STATUSES.len(), "{rows:?}");
        for ((status, meaning), (row, told)) in STATUSES.iter().zip(&rows) {
            assert_eq!(status, row);
            assert!(told.starts_with(meaning), "{status}: `{told}`");
        }
    }
}
