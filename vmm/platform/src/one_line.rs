//! Errors as logs, events and the command line show them: one line each.

/// An error with all its causes, in one line.
pub fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // A transparent wrapper repeats its cause.
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot map\nthe BAR")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error(transparent)]
    struct Inner(std::io::Error);

    #[test]
    fn causes_follow_once_each_in_one_line() {
        let cause = || std::io::Error::other("no memory");
        assert_eq!(one_line(&Inner(cause())), "no memory");
        assert_eq!(one_line(&Outer(Inner(cause()))), "cannot map the BAR: no memory");
    }
}
