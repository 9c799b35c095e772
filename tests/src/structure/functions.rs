//! How long each function is.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::{FUNCTION_LINES, Source};

/// A function of a file.
pub(super) struct Function {
    pub(super) name: String,
    /// From its signature to its closing brace, without documentation.
    pub(super) lines: usize,
    line: usize,
}

impl Function {
    /// What is wrong with it, if anything.
    pub(super) fn breach(&self, source: &Source) -> Option<String> {
        let Self { name, lines, line } = self;
        let path = source.path.display();
        (*lines > FUNCTION_LINES)
            .then(|| format!("{path}:{line}: `{name}` has {lines} lines, at most {FUNCTION_LINES}"))
    }
}

/// All functions of a file but those of its tests.
pub(super) fn of(file: &syn::File) -> Vec<Function> {
    let mut found = Found(Vec::new());
    found.visit_file(file);
    found.0
}

/// Returns true if an item is only there in tests: `cfg(test)`, or with the feature `testing` of a
/// crate whose own tests are not the only ones to need it.
pub(super) fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    const CONDITIONS: [&str; 2] = ["test", "any(test,feature=\"testing\")"];
    attributes.iter().filter_map(|attribute| attribute.meta.require_list().ok()).any(|list| {
        let condition = list.tokens.to_string().replace(' ', "");
        list.path.is_ident("cfg") && CONDITIONS.contains(&condition.as_str())
    })
}

struct Found(Vec<Function>);

impl Found {
    fn add(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (first, last) = (signature.span().start().line, block.span().end().line);
        self.add_lines(&signature.ident.to_string(), first, last);
    }

    fn add_lines(&mut self, name: &str, first: usize, last: usize) {
        self.0.push(Function { name: name.to_owned(), lines: last - first + 1, line: first });
    }
}

impl<'ast> Visit<'ast> for Found {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_for_tests(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.add(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }

    fn visit_expr_closure(&mut self, closure: &'ast syn::ExprClosure) {
        self.add_lines("a closure", closure.span().start().line, closure.span().end().line);
        visit::visit_expr_closure(self, closure);
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        // Only a definition has a name; a call may be a long list.
        if let Some(name) = &item.ident {
            self.add_lines(&name.to_string(), item.span().start().line, item.span().end().line);
        }
        visit::visit_item_macro(self, item);
    }
}
