//! The paths of a file that stay within its crate.

use syn::visit::{self, Visit};

use super::functions::is_for_tests;

/// Where a path begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// At the crate's root.
    Crate,
    /// So many modules above its own; 0 is its own, as `self` says.
    Above(usize),
    /// With a name in scope, which may be a module below or another crate.
    Here,
}

/// A path in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Use {
    segments: Vec<String>,
    /// It is a `pub use`, with whatever reach.
    pub(super) is_export: bool,
}

impl Use {
    /// Where it begins.
    pub(super) fn start(&self) -> Start {
        match self.segments.first().map(String::as_str) {
            Some("crate") => Start::Crate,
            Some("self") => Start::Above(0),
            Some("super") => Start::Above(self.prefix()),
            _ => Start::Here,
        }
    }

    /// The names after `crate`, `self` and `super`.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.segments[self.prefix()..].iter()
    }

    /// The name that it brings into scope, unless that is renamed.
    pub(super) fn last(&self) -> Option<&str> {
        self.segments.last().map(String::as_str)
    }

    fn prefix(&self) -> usize {
        let is_prefix = |name: &&String| matches!(name.as_str(), "crate" | "self" | "super");
        self.segments.iter().take_while(is_prefix).count()
    }
}

/// All paths of a file but those of its tests.
pub(super) fn of(file: &syn::File) -> Vec<Use> {
    let mut found = Found(Vec::new());
    found.visit_file(file);
    found.0
}

struct Found(Vec<Use>);

impl Found {
    fn add_tree(&mut self, tree: &syn::UseTree, before: &[String], is_export: bool) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.add_tree(&path.tree, &with(&path.ident), is_export),
            syn::UseTree::Name(name) if name.ident == "self" => {
                self.0.push(Use { segments: before.to_vec(), is_export });
            }
            syn::UseTree::Name(name) => {
                self.0.push(Use { segments: with(&name.ident), is_export });
            }
            syn::UseTree::Rename(name) => {
                self.0.push(Use { segments: with(&name.ident), is_export });
            }
            syn::UseTree::Glob(_) => self.0.push(Use { segments: before.to_vec(), is_export }),
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|item| self.add_tree(item, before, is_export));
            }
        }
    }
}

impl<'ast> Visit<'ast> for Found {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_for_tests(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_for_tests(&item.attrs) {
            let is_export = !matches!(item.vis, syn::Visibility::Inherited);
            self.add_tree(&item.tree, &[], is_export);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        if segments.len() > 1 {
            self.0.push(Use { segments, is_export: false });
        }
        visit::visit_path(self, path);
    }
}
