//! That what documents name exists: modules (`supervisor::roles`), files (`tests/src/gates.rs`), and
//! what their links lead to.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::workspace;

/// Documents whose names and links are looked at.
const DOCUMENTS: [&str; 5] =
    ["README.md", "ARCHITECTURE.md", "SPECIFICATION.md", "docs/operation.md", "docs/benchmarks.md"];

/// Top folders of the workspace: a name that begins with one is that of a file or a folder.
const FOLDERS: [&str; 8] = [
    "vmm",
    "tests",
    "docs",
    "examples",
    "guest-images",
    "shared-ring",
    "driver-domain",
    "spare-domain",
];
/// What else may stand before `::` in the documents: the program's own name, in the target of a log
/// line.
const OTHER_CRATES: [&str; 1] = ["warmspare"];

/// Every name without a thing, one line each.
pub(super) fn breaches(crates: &[&str]) -> Result<Vec<String>> {
    let mut breaches = Vec::new();
    for document in DOCUMENTS {
        let path = workspace().join(document);
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("{document} cannot be read"))?;
        let folder = path.parent().map_or_else(workspace, Path::to_owned);
        let missing = quoted(&text).filter(|name| !is_there(crates, name));
        breaches.extend(missing.map(|name| format!("{document}: there is no `{name}`")));
        let broken = links(&text).filter(|link| !folder.join(link).exists());
        breaches.extend(broken.map(|link| format!("{document}: the link to {link} is broken")));
    }
    Ok(breaches)
}

/// What stands between backquotes, on one line.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// Where links lead, without those to the world outside and the place within a page.
pub(super) fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let inside = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    inside.map(|target| target.split('#').next().unwrap_or(target))
}

/// Returns false if a name is that of a module or a file of the workspace, and there is none.
pub(super) fn is_there(crates: &[&str], name: &str) -> bool {
    if name.contains([' ', '*', '{', '<', '"', '=']) {
        return true;
    }
    if let Some((first, rest)) = name.split_once("::") {
        return is_module(crates, first, rest);
    }
    let top = name.split('/').next().unwrap_or_default();
    let is_ours = name.contains('/') && FOLDERS.contains(&top);
    !is_ours || workspace().join(name).exists()
}

/// Returns true if a path leads to a module, as far as it is of modules: names of items begin with a
/// capital, and functions cannot be told from modules, so that the last name may be an item.
fn is_module(crates: &[&str], first: &str, rest: &str) -> bool {
    let name = first.replace('_', "-");
    let root = crates.iter().find(|folder| {
        let folder = folder.trim_end_matches("/src");
        folder.rsplit('/').next().unwrap_or(folder) == name
    });
    let Some(root) = root else {
        // The name of a type, or of a crate that is not ours.
        return first.starts_with(|c: char| c.is_ascii_uppercase())
            || OTHER_CRATES.contains(&first);
    };
    let is_lower = |name: &&str| name.starts_with(|c: char| c.is_ascii_lowercase());
    let modules: PathBuf = rest.split("::").take_while(is_lower).collect();
    let place = workspace().join(root).join(modules);
    place.is_dir() || place.with_extension("rs").is_file()
}
