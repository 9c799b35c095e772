use std::path::PathBuf;

use super::modules::Modules;
use super::*;

fn source(path: &str, text: &str) -> Source {
    let path = PathBuf::from(path);
    Source { path, lines: text.lines().count(), syntax: syn::parse_file(text).unwrap() }
}

fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let sources = files.iter().map(|(path, text)| source(&format!("c/src/{path}"), text));
    let modules = Modules::new(&workspace().join("c/src"), sources.collect()).unwrap();
    circles::breaches("c/src", &modules)
}

#[test]
fn folders_that_use_each_other_are_a_circle() {
    let files = [
        ("lib.rs", "mod one; mod two;"),
        ("one/mod.rs", "mod deep; pub(crate) use deep::Deep;"),
        ("one/deep.rs", "pub(crate) struct Deep; fn f() { crate::two::work(); }"),
        ("two/mod.rs", "mod other;"),
        ("two/other.rs", "use crate::one::Deep;"),
    ];
    assert_eq!(circles_of(&files), ["c/src: one, two use each other in a circle"]);
    let one_way =
        [files[0], files[1], ("one/deep.rs", "pub(crate) struct Deep;"), files[3], files[4]];
    assert!(circles_of(&one_way).is_empty());
}

#[test]
fn a_circle_is_found_through_what_a_module_re_exports() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c; pub use a::Thing;"),
        ("a/mod.rs", "pub struct Thing; use super::b::Other;"),
        ("a/x.rs", ""),
        ("b.rs", "pub struct Other; use crate::Thing;"),
        ("c.rs", ""),
    ];
    assert_eq!(circles_of(&files), ["c/src: a, b use each other in a circle"]);
}

#[test]
fn tests_may_look_at_everything() {
    let files = [
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", "pub struct Thing; #[cfg(test)] mod inner { use crate::b::Other; }"),
        ("a/tests.rs", "use crate::b::Other;"),
        ("b/mod.rs", "use crate::a::Thing; pub struct Other;"),
        ("b/x.rs", ""),
    ];
    assert!(circles_of(&files).is_empty());
}

#[test]
fn a_function_is_measured_without_its_documentation() {
    let long = format!("/// Text.\nfn long() {{\n{}}}\n", "    work();\n".repeat(59));
    let file = source("c/src/lib.rs", &long);
    let found = functions::of(&file.syntax);
    assert_eq!((found[0].name.as_str(), found[0].lines), ("long", 61));
    let breach = found[0].breach(&file).unwrap();
    assert_eq!(breach, "c/src/lib.rs:2: `long` has 61 lines, at most 60");
}

#[test]
fn a_file_is_too_long_from_its_501st_line_on() {
    let lines = |count| source("c/src/lib.rs", &"//\n".repeat(count));
    assert!(too_long(&lines(500)).is_none());
    assert!(too_long(&lines(501)).is_some());
}

#[test]
fn what_a_document_names_must_exist() {
    for there in
        ["supervisor::roles", "platform::budget", "tests/src/xtask.rs", "a sentence", "x::y"]
    {
        assert!(documents::is_there(&CRATES, there), "{there}");
    }
    for missing in ["supervisor::nowhere", "tests/src/nowhere.rs"] {
        assert!(!documents::is_there(&CRATES, missing), "{missing}");
    }
    let links = documents::links("[a](b.md#c), [d](https://e), [f](#g)");
    assert_eq!(links.collect::<Vec<_>>(), ["b.md"]);
}
