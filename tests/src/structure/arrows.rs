//! The paths of a file that stay within its crate.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
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
    /// What a `use` brings into scope; a child may use it through a private one, too.
    brings: Brings,
}

/// What a path brings into the scope that it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Brings {
    /// Nothing: it is not a `use`.
    Nothing,
    /// One name.
    Name(String),
    /// Everything that the module it leads to has.
    Everything,
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

    /// Returns true if it brings this name into scope.
    pub(super) fn brings(&self, name: &str) -> bool {
        matches!(&self.brings, Brings::Name(brought) if brought == name)
    }

    /// Returns true if it brings everything into scope that the module has which it leads to.
    pub(super) fn is_glob(&self) -> bool {
        self.brings == Brings::Everything
    }

    fn prefix(&self) -> usize {
        let is_prefix = |name: &&String| matches!(name.as_str(), "crate" | "self" | "super");
        self.segments.iter().take_while(is_prefix).count()
    }
}

/// What a file uses, and what it defines.
pub(super) struct Contents {
    /// Its paths.
    pub(super) uses: Vec<Use>,
    /// Names of its own items, but for modules.
    pub(super) items: BTreeSet<String>,
}

/// What is in a file apart from its tests.
pub(super) fn of(file: &syn::File) -> Contents {
    let mut found = Found(Vec::new());
    found.visit_file(file);
    let items = file.items.iter().filter_map(item_name).map(ToString::to_string).collect();
    Contents { uses: found.0, items }
}

fn item_name(item: &syn::Item) -> Option<&syn::Ident> {
    match item {
        syn::Item::Const(item) => Some(&item.ident),
        syn::Item::Enum(item) => Some(&item.ident),
        syn::Item::Fn(item) => Some(&item.sig.ident),
        syn::Item::Macro(item) => item.ident.as_ref(),
        syn::Item::Static(item) => Some(&item.ident),
        syn::Item::Struct(item) => Some(&item.ident),
        syn::Item::Trait(item) => Some(&item.ident),
        syn::Item::Type(item) => Some(&item.ident),
        syn::Item::Union(item) => Some(&item.ident),
        _ => None,
    }
}

struct Found(Vec<Use>);

impl Found {
    fn add_tree(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.add_tree(&path.tree, &with(&path.ident)),
            syn::UseTree::Name(name) if name.ident == "self" => {
                self.add_named(before.to_vec(), before.last().cloned());
            }
            syn::UseTree::Name(name) => {
                self.add_named(with(&name.ident), Some(name.ident.to_string()));
            }
            syn::UseTree::Rename(name) => {
                self.add_named(with(&name.ident), Some(name.rename.to_string()));
            }
            syn::UseTree::Glob(_) => {
                self.0.push(Use { segments: before.to_vec(), brings: Brings::Everything });
            }
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|item| self.add_tree(item, before));
            }
        }
    }

    fn add_named(&mut self, segments: Vec<String>, name: Option<String>) {
        let brings = name.map_or(Brings::Nothing, Brings::Name);
        self.0.push(Use { segments, brings });
    }

    /// Adds the paths in a macro's arguments, which are tokens for the parser.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut segments: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(ident) if colons == 2 => {
                    segments.push(ident.to_string());
                    colons = 0;
                }
                other => {
                    self.add_path(std::mem::take(&mut segments));
                    colons = 0;
                    match other {
                        TokenTree::Ident(ident) => segments.push(ident.to_string()),
                        TokenTree::Group(group) => self.add_tokens(group.stream()),
                        TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                    }
                }
            }
        }
        self.add_path(segments);
    }

    fn add_path(&mut self, segments: Vec<String>) {
        if segments.len() > 1 {
            self.0.push(Use { segments, brings: Brings::Nothing });
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
            self.add_tree(&item.tree, &[]);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.add_path(path.segments.iter().map(|part| part.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.add_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}
