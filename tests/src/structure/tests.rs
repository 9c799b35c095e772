use std::path::PathBuf;

use super::modules::Modules;
use super::*;

fn source(path: &str, text: &str) -> Source {
    let path = PathBuf::from(path);
    Source {
        path,
        lines: text.lines().count(),
        syntax: syn::parse_file(text).unwrap(),
        is_test: false,
    }
}

fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let sources = files.iter().map(|(path, text)| source(&format!("c/src/{path}"), text));
    let (root, mut sources) = (workspace().join("c/src"), sources.collect::<Vec<_>>());
    mark_tests(&root, &mut sources);
    let modules = Modules::new(&root, sources).unwrap();
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
fn a_circle_is_found_in_whatever_way_a_name_comes_into_scope() {
    let uses = [
        ("mod a; mod b; use a::Thing;", "use super::Thing;"),
        ("mod a; mod b; pub use a::*;", "use crate::Thing;"),
        ("mod a; mod b; pub use a::Thing as Other;", "use crate::Other;"),
        ("mod a; mod b;", "fn f() { assert!(crate::a::ok(&[])); }"),
    ];
    for (root, user) in uses {
        let files = [
            ("lib.rs", root),
            ("main.rs", "fn main() {}"),
            ("a/mod.rs", "pub struct Thing; use crate::b::Back;"),
            ("a/x.rs", ""),
            ("b.rs", user),
        ];
        assert_eq!(circles_of(&files), ["c/src: a, b use each other in a circle"], "{root}");
    }
}

#[test]
fn a_file_is_for_tests_by_its_declaration_and_not_by_its_name() {
    let files = [
        ("lib.rs", "#[cfg(test)] mod helpers; mod testing;"),
        ("helpers.rs", ""),
        ("testing.rs", ""),
    ];
    let mut sources: Vec<_> =
        files.iter().map(|(path, text)| source(&format!("c/src/{path}"), text)).collect();
    mark_tests(&workspace().join("c/src"), &mut sources);
    assert_eq!(
        sources.iter().map(|source| source.is_test).collect::<Vec<_>>(),
        [false, true, false]
    );
}

#[test]
fn closures_and_macros_are_measured_too() {
    let body = "    work();\n".repeat(60);
    for text in [
        format!("static F: fn() = || {{\n{body}}};\n"),
        format!("macro_rules! long {{ () => {{\n{body}}} }}\n"),
    ] {
        let file = source("c/src/lib.rs", &text);
        assert!(functions::of(&file.syntax).iter().any(|f| f.breach(&file).is_some()), "{text}");
    }
}

#[test]
fn tests_may_look_at_everything() {
    let files = [
        ("lib.rs", "mod a; mod b;"),
        (
            "a/mod.rs",
            "#[cfg(test)] mod tests; pub struct Thing; #[cfg(test)] mod inner { use crate::b::Other; }",
        ),
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
        ["supervisor::roles", "platform::budget", "tests/src/xtask.rs", "a sentence", "Type::y"]
    {
        assert!(documents::is_there(&CRATES, there), "{there}");
    }
    for missing in [
        "supervisor::nowhere",
        "supervisor::nowhere::Type",
        "nowhere::roles",
        "tests/src/nowhere.rs",
        "examples/nowhere.json",
        "tests/nowhere",
    ] {
        assert!(!documents::is_there(&CRATES, missing), "{missing}");
    }
    let links = documents::links("[a](b.md#c), [d](https://e), [f](#g)");
    assert_eq!(links.collect::<Vec<_>>(), ["b.md"]);
}
