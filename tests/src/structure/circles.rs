//! Circles between the modules that lie in one folder.
//!
//! For each folder, its children are the nodes: files and folders. One child uses another if
//! anything below the first uses anything below the second. A circle in which a folder takes part
//! is a breach; what a child uses of its parent's own file is not looked at.

use std::collections::{BTreeMap, BTreeSet};

use super::modules::{ModulePath, Modules};

/// Arrows between the children of one folder.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Every circle, one line each.
pub(super) fn breaches(crate_folder: &str, modules: &Modules) -> Vec<String> {
    let mut graphs: BTreeMap<ModulePath, Graph> = BTreeMap::new();
    for (from, to) in modules.arrows() {
        let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
        let (Some(one), Some(other)) = (from.get(common), to.get(common)) else { continue };
        let graph = graphs.entry(from[..common].to_vec()).or_default();
        graph.entry(one.clone()).or_default().insert(other.clone());
    }
    let circles = graphs.iter().flat_map(|(folder, graph)| {
        let circles = of(graph).into_iter().map(move |circle| (folder, circle));
        circles.filter(|(folder, circle)| {
            let is_folder = |name: &String| {
                modules.has_folder(&[&folder[..], std::slice::from_ref(name)].concat())
            };
            circle.iter().any(is_folder)
        })
    });
    let line = |(folder, circle): (&ModulePath, Vec<String>)| {
        let place = [&[crate_folder.to_owned()], &folder[..]].concat().join("/");
        format!("{place}: {} use each other in a circle", circle.join(", "))
    };
    circles.map(line).collect()
}

/// Groups of nodes that reach each other, of two nodes at least.
fn of(graph: &Graph) -> Vec<Vec<String>> {
    let reach: BTreeMap<_, _> = graph.keys().map(|node| (node, reached(graph, node))).collect();
    let mutual = |a: &String, b: &String| {
        let reaches = |from, to| reach.get(from).is_some_and(|all| all.contains(to));
        reaches(a, b) && reaches(b, a)
    };
    let mut groups: Vec<Vec<String>> = Vec::new();
    for node in graph.keys() {
        match groups.iter_mut().find(|group| mutual(&group[0], node)) {
            Some(group) => group.push(node.clone()),
            None => groups.push(vec![node.clone()]),
        }
    }
    groups.retain(|group| group.len() > 1);
    groups
}

fn reached(graph: &Graph, from: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut next = vec![from];
    while let Some(node) = next.pop() {
        for to in graph.get(node).into_iter().flatten() {
            if seen.insert(to.clone()) {
                next.push(to);
            }
        }
    }
    seen
}
