//! What a request can change.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::{ApiError, ErrorCode};

/// What can be asked of a running system. Called on a thread that may wait, never on the data path.
pub trait Actions: Send + Sync {
    /// Hands the service from the domain that serves to `to`, or to any standby; the one that
    /// served is then built anew.
    ///
    /// # Errors
    /// Nothing was changed.
    fn switch(&self, to: Option<&str>) -> Result<Switched, ActionError>;
}

/// What a switch did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Switched {
    /// The domain that served.
    pub from: String,
    /// The domain that serves now.
    pub to: String,
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// The topology has no such domain.
    #[error("there is no domain `{0}`")]
    UnknownDomain(String),
    /// No domain serves.
    #[error("no domain serves, so there is nothing to hand over")]
    NoActive,
    /// No domain stands by.
    #[error("no domain stands by, so none can take over")]
    NoStandby,
    /// The named domain does not stand by.
    #[error("domain `{name}` does not stand by: it is {role}")]
    NotStandby {
        /// The domain.
        name: String,
        /// What it is instead.
        role: String,
    },
    /// Something else came first.
    #[error("the roles changed meanwhile: look again")]
    Overtaken,
}

impl From<ActionError> for ApiError {
    fn from(error: ActionError) -> Self {
        let code = match &error {
            ActionError::UnknownDomain(_) => ErrorCode::UnknownDomain,
            ActionError::NoActive => ErrorCode::NoActive,
            ActionError::NoStandby => ErrorCode::NoStandby,
            ActionError::NotStandby { .. } => ErrorCode::NotStandby,
            ActionError::Overtaken => ErrorCode::Busy,
        };
        Self::new(code, error.to_string())
    }
}
