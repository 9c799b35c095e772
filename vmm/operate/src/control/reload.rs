//! Reading files again while everything runs.
//!
//! | can be reloaded | takes a restart |
//! |---|---|
//! | `notify` of the topology | everything else of it |
//! | the dashboard's token, from its file | the command line |

use serde_json::Value;

use supervisor::topology::Topology;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// What is as the files say now.
    pub applied: Vec<String>,
    /// What they say otherwise, and takes a restart.
    pub ignored: Vec<String>,
}

/// Keys of the topology that differ.
pub(super) fn changed(old: &Topology, new: &Topology) -> Vec<String> {
    let keys = |topology| match serde_json::to_value(topology) {
        Ok(Value::Object(keys)) => keys,
        // A topology is an object.
        _ => serde_json::Map::new(),
    };
    let (old, new) = (keys(old), keys(new));
    let mut changed: Vec<String> = new
        .keys()
        .chain(old.keys())
        .filter(|key| old.get(*key) != new.get(*key))
        .cloned()
        .collect();
    changed.sort();
    changed.dedup();
    changed
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_differs_is_named_by_its_key() {
        let old = Topology::demo(Path::new("/run/app.sock"));
        let mut new = old.clone();
        assert_eq!(changed(&old, &new), [""; 0]);
        new.drill.every_s = 7;
        new.name = "other".into();
        assert_eq!(changed(&old, &new), ["drill", "name"]);
        assert_eq!(changed(&new, &old), ["drill", "name"]);
    }
}
