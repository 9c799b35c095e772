//! `cargo xtask`: the tasks of the project's development, as opposed to its use.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use warmspare_tests::{bad_day, bench, campaign, man, nested, realguest, runner, structure};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Test, measure and build warmspare")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run every test, each part within its time budget
    Test {
        /// Run only the parts with these names
        #[arg(long, value_name = "PART")]
        only: Vec<String>,
    },
    /// Measure data path, cost, interruptions and peers: a table, and JSON on standard output
    Bench(bench::BenchArgs),
    /// A peer of the benchmark: a vhost-user back-end on a TAP, without domain or spare
    #[command(hide = true)]
    PlainBackend(bench::peers::plain::PlainArgs),
    /// Write manual pages and shell completions, from the command line itself
    Man {
        /// Folder to write them to
        #[arg(default_value = "target/man", value_name = "DIR")]
        dir: PathBuf,
    },
    /// Boot a machine with an IOMMU and two igb NICs under QEMU, and test real VFIO inside
    Nested(nested::NestedArgs),
    /// Check the length of files and functions, circles of folders, and what documents name
    Structure,
    /// Run the smoke campaign of fault injection, and judge it
    Campaign,
    /// Run the program under traffic while everything around it goes wrong: disk, logs, TAPs, clock
    BadDay(bad_day::BadDayArgs),
    /// Boot Linux under QEMU on a vhost-user socket behind a Linux bridge, and crash its driver
    LinuxGuest(realguest::LinuxGuestArgs),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Test { only } => runner::run(&only),
        Command::Bench(args) => bench::run(&args),
        Command::PlainBackend(args) => bench::peers::plain::run(&args),
        Command::Man { dir } => man::write(&dir),
        Command::Nested(args) => nested::run(&args),
        Command::Structure => structure::check(),
        Command::Campaign => campaign::run(),
        Command::BadDay(args) => bad_day::run(&args),
        Command::LinuxGuest(args) => realguest::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
