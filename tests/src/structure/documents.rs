//! That what documents name exists: modules (`supervisor::roles`), files (`tests/src/gates.rs`), and
//! what their links lead to.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::workspace;

/// Documents whose names and links are looked at.
const DOCUMENTS: [&str; 5] =
    ["README.md", "ARCHITECTURE.md", "SPECIFICATION.md", "docs/operation.md", "docs/benchmarks.md"];

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

/// Returns false if a name is that of a module or a source file, and there is none.
pub(super) fn is_there(crates: &[&str], name: &str) -> bool {
    if name.ends_with(".rs") && name.contains('/') && !name.contains(' ') {
        return workspace().join(name).is_file();
    }
    let mut names = name.split("::");
    let first = names.next().map(|name| name.replace('_', "-"));
    let root = crates.iter().find(|folder| {
        let folder = folder.trim_end_matches("/src");
        Some(folder.rsplit('/').next().unwrap_or(folder)) == first.as_deref()
    });
    let rest: Vec<_> = names.collect();
    let is_module = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    match root {
        Some(root) if !rest.is_empty() && rest.iter().all(is_module) => {
            let module: PathBuf = rest.iter().collect();
            let place = workspace().join(root).join(module);
            place.is_dir() || place.with_extension("rs").is_file()
        }
        _ => true,
    }
}
