//! The commands that only read or write a file: `validate`, `schema` and `image`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::exit::Failure;
use super::output::print_line;
use supervisor::topology::Topology;

#[derive(Debug, Args)]
pub(super) struct ImageArgs {
    /// The program that the first domain starts with
    #[arg(long, conflicts_with = "spare", required_unless_present = "spare")]
    driver: bool,
    /// The program that spares start with
    #[arg(long)]
    spare: bool,
    /// File to write
    out: PathBuf,
}

/// Checks a topology file.
pub(super) fn validate(path: &Path) -> Result<(), Failure> {
    let topology = Topology::load(path).map_err(|error| Failure::mistake(&error))?;
    print_line(&format!("{}: sound, {} domains", path.display(), topology.domains.len()))?;
    for app in topology.apps.iter().filter(|app| app.socket.connects) {
        print_line(&format!("{}: connected to, where the VMM listens", app.socket.display()))?;
    }
    Ok(())
}

/// Prints the JSON Schema of topology files.
pub(super) fn schema() -> Result<(), Failure> {
    let schema = schemars::schema_for!(Topology);
    let text = serde_json::to_string_pretty(&schema).map_err(|error| Failure::run(&error))?;
    print_line(&text)?;
    Ok(())
}

/// Writes the program of a domain to a file.
pub(super) fn image(args: &ImageArgs) -> Result<(), Failure> {
    let image = if args.driver { guest_images::DRIVER_DOMAIN } else { guest_images::SPARE_DOMAIN };
    std::fs::write(&args.out, image).map_err(|error| {
        let path = args.out.display();
        Failure::Mistake(format!("{path}: cannot be written ({error}): name a writable file"))
    })
}
