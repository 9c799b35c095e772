//! Exit statuses. Stable: scripts rely on them.

/// It did what it was asked for.
pub(super) const SUCCESS: u8 = 0;
/// It could not.
pub(super) const FAILED: u8 = 1;
/// The user can mend it.
pub(super) const MISTAKE: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    /// What `docs/operation.md` says of each.
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
