//! `warmspare`: a network interface that outlives its driver.

fn main() -> std::process::ExitCode {
    warmspare::cli::main()
}
