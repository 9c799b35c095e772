//! Reading a topology: parse, then check the whole.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::check;
use super::spec::Topology;
use platform::user_file::{self, is_comment};

/// A mistake in a topology file.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The file cannot be read.
    #[error("{}: cannot be read ({source}): name an existing topology file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not a file that could be a topology.
    #[error("{}: {source}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// Why not, and how to mend it.
        source: std::io::Error,
    },
    /// Not JSON, an unknown key, a wrong type.
    #[error("{file}: {at}: {what}")]
    Parse {
        /// The file.
        file: String,
        /// Path in the document, as `domains[1].nic`.
        at: String,
        /// What is wrong, with line and column.
        what: String,
    },
    /// Well-formed, but it cannot be built.
    #[error("{file}: {at}: {what}: {mend}")]
    Check {
        /// The file.
        file: String,
        /// Path in the document.
        at: String,
        /// What is wrong.
        what: String,
        /// What to do about it.
        mend: String,
    },
}

impl Topology {
    /// Reads, parses and checks a file.
    ///
    /// # Errors
    /// See [`TopologyError`].
    pub fn load(path: &Path) -> Result<Self, TopologyError> {
        let text = user_file::read_text(path, user_file::TOPOLOGY_BYTES).map_err(|source| {
            let path = path.to_owned();
            match source.kind() {
                ErrorKind::InvalidInput => TopologyError::Unfit { path, source },
                _ => TopologyError::Read { path, source },
            }
        })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Parses and checks a document; `file` names it in errors.
    ///
    /// # Errors
    /// See [`TopologyError`].
    pub fn parse(text: &str, file: &str) -> Result<Self, TopologyError> {
        let mut json = serde_json::Deserializer::from_str(text);
        let parse_error = |at: String, source: serde_json::Error| TopologyError::Parse {
            file: file.to_owned(),
            at,
            what: match source.is_syntax() && is_comment(text, source.line(), source.column()) {
                true => format!("JSON has no comments: remove this one ({source})"),
                false => source.to_string(),
            },
        };
        let topology: Self = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            let at = if path == "." { "the document".into() } else { path };
            parse_error(at, error.into_inner())
        })?;
        json.end().map_err(|source| parse_error("after the document".into(), source))?;
        match check::check(&topology) {
            None => Ok(topology),
            Some(mistake) => Err(TopologyError::Check {
                file: file.to_owned(),
                at: mistake.at,
                what: mistake.what,
                mend: mistake.mend.to_owned(),
            }),
        }
    }
}
