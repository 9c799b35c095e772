//! One part of the test run: a command with a time budget.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A command that must succeed within its time budget.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) budget: Duration,
    arguments: Vec<&'static str>,
    environment: Vec<(&'static str, &'static str)>,
}

impl Part {
    /// A part that runs cargo in the workspace's top folder.
    pub(super) fn cargo(name: &str, budget: Duration, arguments: &[&'static str]) -> Self {
        let arguments = arguments.to_vec();
        Self { name: name.to_owned(), budget, arguments, environment: Vec::new() }
    }

    pub(super) fn with(mut self, arguments: &[&'static str]) -> Self {
        self.arguments.extend(arguments);
        self
    }

    pub(super) fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
        self
    }

    /// The command line, for messages.
    pub(super) fn command_line(&self) -> String {
        format!("cargo {}", self.arguments.join(" "))
    }

    /// Runs the command until it ends, or kills it when its budget is used up.
    pub(super) fn run(&self) -> Result<()> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        // The command gets its own process group, so that all its children can be killed with it
        // when it exceeds its budget.
        let child = Command::new(cargo)
            .args(&self.arguments)
            .envs(self.environment.iter().copied())
            .current_dir(crate::workspace())
            .process_group(0)
            .spawn()
            .context("cargo cannot be started")?;
        let status = wait(child, self.budget)?;
        if !status.success() {
            bail!("{} ended with {status}", self.command_line());
        }
        Ok(())
    }
}

fn wait(mut child: Child, budget: Duration) -> Result<ExitStatus> {
    let end = Instant::now() + budget;
    while Instant::now() < end {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let group = format!("-{}", child.id());
    let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
    let _ = child.wait();
    bail!("not done within its budget of {} s", budget.as_secs())
}
