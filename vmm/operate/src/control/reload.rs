//! Reading configuration files again while the system runs.
//!
//! | takes effect at once | takes a restart |
//! |---|---|
//! | `notify` of the topology | everything else of it |
//! | the dashboard's token, from its file | the command line |

use serde_json::Value;

use supervisor::topology::Topology;

/// Result of reading the files again: keys of the topology, and `token`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Keys whose new values are in effect.
    pub applied: Vec<String>,
    /// Keys whose new values take a restart.
    pub ignored: Vec<String>,
}

/// Keys of the topology whose values differ.
pub(super) fn changed(old: &Topology, new: &Topology) -> Vec<String> {
    let keys = |topology| match serde_json::to_value(topology) {
        Ok(Value::Object(keys)) => keys,
        // Not reached: a topology is an object.
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
