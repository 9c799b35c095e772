//! The modules of a crate, and what a path in one of them leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

use super::Source;
use super::arrows::{self, Use};

/// A module's path in its crate, from the root: `["port", "memory"]`.
pub(super) type ModulePath = Vec<String>;

/// A crate's modules, without its tests.
pub(super) struct Modules {
    /// What each uses.
    uses: BTreeMap<ModulePath, Vec<Use>>,
    /// Names of the items of each.
    items: BTreeMap<ModulePath, BTreeSet<String>>,
    /// Modules with a folder of their own.
    folders: BTreeSet<ModulePath>,
}

impl Modules {
    /// Those of the sources below a folder.
    pub(super) fn new(root: &Path, sources: Vec<Source>) -> Result<Self> {
        let mut modules =
            Self { uses: BTreeMap::new(), items: BTreeMap::new(), folders: BTreeSet::new() };
        for source in sources.into_iter().filter(|source| !source.is_test) {
            let path = source.module_path(root);
            if path.len() > 1 {
                modules.folders.insert(path[..path.len() - 1].to_vec());
            }
            // A library and a program of one crate have the same root.
            let contents = arrows::of(&source.syntax);
            modules.uses.entry(path.clone()).or_default().extend(contents.uses);
            modules.items.entry(path).or_default().extend(contents.items);
        }
        Ok(modules)
    }

    /// Every pair of modules of which the first uses the second.
    pub(super) fn arrows(&self) -> BTreeSet<(ModulePath, ModulePath)> {
        let uses = self.uses.iter().flat_map(|(from, uses)| uses.iter().map(move |to| (from, to)));
        uses.filter_map(|(from, to)| Some((from.clone(), self.lead(from, to)?))).collect()
    }

    /// Returns true if a module has a folder of its own.
    pub(super) fn has_folder(&self, module: &[String]) -> bool {
        self.folders.contains(module)
    }

    /// The module that a path leads to, through what modules on the way re-export.
    fn lead(&self, from: &ModulePath, to: &Use) -> Option<ModulePath> {
        let mut at = self.start(from, to)?;
        for name in to.names() {
            let mut deeper = at.clone();
            deeper.push(name.clone());
            if self.uses.contains_key(&deeper) {
                at = deeper;
                continue;
            }
            if let Some(exported) = self.exported(&at, name) {
                at = exported;
            }
            break;
        }
        Some(at)
    }

    /// Where a path begins: `crate`, `self`, `super`, or a module of the one it stands in.
    fn start(&self, from: &ModulePath, to: &Use) -> Option<ModulePath> {
        match to.start() {
            arrows::Start::Crate => Some(Vec::new()),
            arrows::Start::Above(levels) => Some(from[..from.len().checked_sub(levels)?].to_vec()),
            arrows::Start::Here => {
                let first = to.names().next()?;
                let child = [&from[..], std::slice::from_ref(first)].concat();
                self.uses.contains_key(&child).then(|| from.clone())
            }
        }
    }

    /// The module whose item another has in scope under a name.
    fn exported(&self, module: &ModulePath, name: &str) -> Option<ModulePath> {
        let uses = self.uses.get(module)?;
        let elsewhere = |to: &Use| self.lead(module, to).filter(|lead| lead != module);
        let named = uses.iter().filter(|to| to.brings(name)).find_map(elsewhere);
        named.or_else(|| {
            let mut globs = uses.iter().filter(|to| to.is_glob()).filter_map(elsewhere);
            globs.find(|lead| self.items.get(lead).is_some_and(|items| items.contains(name)))
        })
    }
}
