//! The shape of the sources: how long files and functions are, that the folders inside a crate form
//! no circle, and that what documents name exists. Circles between crates are the compiler's to
//! refuse.
//!
//! Tests are left out: a test may look at whatever it tests.

mod arrows;
mod circles;
mod documents;
mod functions;
mod modules;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace;
use modules::{ModulePath, Modules};

/// Lines of the longest file.
const FILE_LINES: usize = 500;
/// Lines of the longest function.
const FUNCTION_LINES: usize = 60;
/// Folders with the sources of a crate each, relative to the workspace.
const CRATES: [&str; 17] = [
    "shared-ring/src",
    "driver-domain/src",
    "spare-domain/src",
    "guest-images/src",
    "guest-images/app-guest/src",
    "vmm/platform/src",
    "vmm/nic/src",
    "vmm/microvm/src",
    "vmm/switchboard/src",
    "vmm/supervisor/src",
    "vmm/operate/src",
    "vmm/lab/src",
    "vmm/src",
    "tests/src",
    "tests/tests",
    "tests/nested-guest/src",
    "tests/linux-guest/src",
];

/// A source file that was read.
struct Source {
    /// Relative to the workspace.
    path: PathBuf,
    lines: usize,
    syntax: syn::File,
    /// The file holds tests, or what only tests use.
    is_test: bool,
}

impl Source {
    fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let syntax = syn::parse_file(&text)
            .with_context(|| format!("{} cannot be parsed", path.display()))?;
        let path = path.strip_prefix(workspace()).unwrap_or(path).to_owned();
        Ok(Self { path, lines: text.lines().count(), syntax, is_test: false })
    }

    /// The path of its module in its crate.
    fn module_path(&self, root: &Path) -> ModulePath {
        let path = workspace().join(&self.path);
        let relative = path.strip_prefix(root).unwrap_or(&path).with_extension("");
        let mut names: ModulePath =
            relative.iter().map(|name| name.to_string_lossy().into_owned()).collect();
        if matches!(names.last().map(String::as_str), Some("mod" | "lib" | "main")) {
            names.pop();
        }
        names
    }
}

/// Marks the files of a crate that are only there in tests: those below `tests/tests`, and those
/// whose module, or one above it, is declared for tests.
fn mark_tests(root: &Path, sources: &mut [Source]) {
    let mut for_tests = BTreeSet::new();
    for source in &*sources {
        for item in &source.syntax.items {
            if let syn::Item::Mod(module) = item
                && functions::is_for_tests(&module.attrs)
            {
                for_tests
                    .insert([source.module_path(root), vec![module.ident.to_string()]].concat());
            }
        }
    }
    for source in sources {
        let path = source.module_path(root);
        source.is_test = source.path.starts_with("tests/tests")
            || (1..=path.len()).any(|len| for_tests.contains(&path[..len]));
    }
}

/// Checks all crates and lists every breach.
///
/// # Errors
/// A file or function is too long, folders form a circle, or a file cannot be read.
pub fn check() -> Result<()> {
    let mut breaches = Vec::new();
    let (mut files, mut functions) = (0, 0);
    for folder in CRATES {
        let root = workspace().join(folder);
        let mut sources = sources(&root)?;
        if sources.is_empty() {
            bail!("{folder} holds no sources: the list of crates is out of date");
        }
        mark_tests(&root, &mut sources);
        files += sources.len();
        functions += lengths(&sources, &mut breaches);
        breaches.extend(circles::breaches(folder, &Modules::new(&root, sources)?));
        let build_script = root.with_file_name("build.rs");
        if build_script.is_file() {
            files += 1;
            functions += lengths(&[Source::read(&build_script)?], &mut breaches);
        }
    }
    breaches.extend(documents::breaches(&CRATES)?);
    if breaches.is_empty() {
        println!("{files} files, {functions} functions: none too long, no circle of folders");
        return Ok(());
    }
    bail!("{} breaches:\n{}", breaches.len(), breaches.join("\n"))
}

/// Adds what is too long in some files. Returns the number of their functions.
fn lengths(sources: &[Source], breaches: &mut Vec<String>) -> usize {
    let mut functions = 0;
    for source in sources {
        breaches.extend(too_long(source));
        let found = functions::of(&source.syntax);
        functions += found.len();
        if !source.is_test {
            breaches.extend(found.iter().filter_map(|function| function.breach(source)));
        }
    }
    functions
}

fn too_long(source: &Source) -> Option<String> {
    let lines = source.lines;
    (lines > FILE_LINES)
        .then(|| format!("{}: {lines} lines, at most {FILE_LINES}", source.path.display()))
}

/// All Rust files below a folder, in order.
fn sources(folder: &Path) -> Result<Vec<Source>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder);
        for entry in entries.with_context(|| format!("{} is missing", folder.display()))? {
            let path = entry?.path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(extension) if extension == "rs" => found.push(Source::read(&path)?),
                _ => {}
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

#[cfg(test)]
mod tests;
