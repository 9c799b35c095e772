//! A guest's socket in JSON: a path, or an object for a socket that its VMM makes.

use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The socket between warmspare and a guest's VMM, and which of the two makes it: `"PATH"` where
/// warmspare listens, `{"connect": "PATH"}` where the VMM does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSpec {
    /// Its path, at most 107 bytes.
    pub path: PathBuf,
    /// Whether the VMM listens there, and warmspare connects.
    pub connects: bool,
}

/// The object.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Connect {
    connect: PathBuf,
}

impl From<PathBuf> for SocketSpec {
    fn from(path: PathBuf) -> Self {
        Self { path, connects: false }
    }
}

impl Deref for SocketSpec {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl Serialize for SocketSpec {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.connects {
            true => Connect { connect: self.path.clone() }.serialize(to),
            false => self.path.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for SocketSpec {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(SocketVisitor)
    }
}

struct SocketVisitor;

impl<'de> Visitor<'de> for SocketVisitor {
    type Value = SocketSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path, or {\"connect\": PATH} for a socket at which the VMM listens")
    }

    fn visit_str<E: de::Error>(self, path: &str) -> Result<SocketSpec, E> {
        Ok(PathBuf::from(path).into())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SocketSpec, A::Error> {
        let Connect { connect } = Connect::deserialize(MapAccessDeserializer::new(map))?;
        Ok(SocketSpec { path: connect, connects: true })
    }
}

impl JsonSchema for SocketSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SocketSpec".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "oneOf": [
                {
                    "type": "string",
                    "description": "Path at which warmspare listens, at most 107 bytes"
                },
                {
                    "type": "object",
                    "description": "The VMM listens, and warmspare connects",
                    "properties": {
                        "connect": {
                            "type": "string",
                            "description": "Path at which the VMM listens, at most 107 bytes"
                        }
                    },
                    "required": ["connect"],
                    "additionalProperties": false
                }
            ]
        })
    }
}
