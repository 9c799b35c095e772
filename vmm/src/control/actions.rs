//! What a request can change.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::{ApiError, ErrorCode};
use crate::supervisor::{Operator, OperatorError};

/// What can be asked of a running system. Called on a thread that may wait, never on the data path.
pub trait Actions: Send + Sync {
    /// Hands the service from the domain that serves to `to`, or to any standby; the one that
    /// served is then built anew.
    ///
    /// # Errors
    /// Nothing was changed.
    fn switch(&self, to: Option<&str>) -> Result<Switched, OperatorError>;
}

/// What a switch did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Switched {
    /// The domain that served.
    pub from: String,
    /// The domain that serves now.
    pub to: String,
}

impl Actions for Operator {
    fn switch(&self, to: Option<&str>) -> Result<Switched, OperatorError> {
        let (from, to) = Self::switch(self, to)?;
        Ok(Switched { from: self.name(from).to_owned(), to: self.name(to).to_owned() })
    }
}

impl From<OperatorError> for ApiError {
    fn from(error: OperatorError) -> Self {
        let code = match &error {
            OperatorError::UnknownDomain(_) => ErrorCode::UnknownDomain,
            OperatorError::NoActive => ErrorCode::NoActive,
            OperatorError::NoStandby => ErrorCode::NoStandby,
            OperatorError::NotStandby { .. } => ErrorCode::NotStandby,
            OperatorError::Overtaken => ErrorCode::Busy,
        };
        Self::new(code, error.to_string())
    }
}
