//! Manual pages and completions, generated from the command line's definition and not committed.

use std::path::Path;

use anyhow::{Context, Result};
use clap_complete::Shell;
use warmspare::cli;

/// Writes all of them into a folder: `warmspare.1`, one page for each command, and completions for
/// bash, fish and zsh.
///
/// # Errors
/// The folder cannot be written.
pub fn write(folder: &Path) -> Result<()> {
    let named = || format!("{} cannot be written", folder.display());
    std::fs::create_dir_all(folder).with_context(named)?;
    clap_mangen::generate_to(cli::command(), folder).with_context(named)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut cli::command(), "warmspare", folder)
            .with_context(named)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_page_and_its_completion() {
        let folder = std::env::temp_dir().join(format!("warmspare-man-{}", std::process::id()));
        write(&folder).unwrap();
        let bash = std::fs::read_to_string(folder.join("warmspare.bash")).unwrap();
        for command in cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let page = folder.join(format!("warmspare-{}.1", command.get_name()));
            let text = std::fs::read_to_string(&page).unwrap_or_default();
            assert!(text.contains(".TH"), "{}", page.display());
            assert!(bash.contains(command.get_name()), "{}", command.get_name());
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
