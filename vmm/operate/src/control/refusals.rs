//! How the supervisor's errors are answered: each kind with a stable code.

use std::error::Error;

use super::error::{ApiError, ErrorCode};
use microvm::domain::HoldError;
use platform::one_line::one_line;
use supervisor::{DrillError, ExamineError, SwitchError, UpgradeError};

/// An error with all its causes, in one sentence.
pub(super) fn refuse(code: ErrorCode, error: &dyn Error) -> ApiError {
    ApiError::new(code, one_line(error))
}

impl From<ExamineError> for ApiError {
    fn from(error: ExamineError) -> Self {
        let code = match &error {
            ExamineError::NotRunning { .. } => ErrorCode::NotRunning,
            ExamineError::Serves { .. } => ErrorCode::Serves,
            ExamineError::NotPaused { .. } => ErrorCode::NotPaused,
            ExamineError::Debugged { .. } => ErrorCode::Debugged,
            ExamineError::Busy => ErrorCode::Busy,
            ExamineError::Hold(HoldError::Released) => ErrorCode::Overtaken,
            ExamineError::NoDumps => ErrorCode::NoDumps,
            ExamineError::Hold(HoldError::TimedOut)
            | ExamineError::Registers(_)
            | ExamineError::Dump(_) => ErrorCode::Failed,
        };
        refuse(code, &error)
    }
}

impl From<SwitchError> for ApiError {
    fn from(error: SwitchError) -> Self {
        let code = match &error {
            SwitchError::NobodyServes => ErrorCode::NoActive,
            SwitchError::NoSpare => ErrorCode::NoStandby,
            SwitchError::NotStandby { .. } => ErrorCode::NotStandby,
            SwitchError::Unhealthy { .. } => ErrorCode::Unhealthy,
            SwitchError::NotAttached { .. } => ErrorCode::NotAttached,
            SwitchError::Busy => ErrorCode::Busy,
            SwitchError::Debugged { .. } => ErrorCode::Debugged,
            SwitchError::Interrupted => ErrorCode::Overtaken,
            SwitchError::Unready { .. }
            | SwitchError::Handover(_)
            | SwitchError::Switchboard(_) => ErrorCode::Failed,
        };
        refuse(code, &error)
    }
}

impl From<DrillError> for ApiError {
    fn from(error: DrillError) -> Self {
        let code = match &error {
            DrillError::NoStandby => ErrorCode::NoStandby,
            DrillError::NotAttached => ErrorCode::NotAttached,
            DrillError::LinkDown | DrillError::ActiveLinkDown | DrillError::Aside => {
                ErrorCode::Unhealthy
            }
            DrillError::NobodyServes => ErrorCode::NoActive,
            DrillError::Busy => ErrorCode::Busy,
            DrillError::Abandoned => ErrorCode::Overtaken,
            DrillError::Switchboard(_) => ErrorCode::Failed,
        };
        refuse(code, &error)
    }
}

impl From<UpgradeError> for ApiError {
    fn from(error: UpgradeError) -> Self {
        let code = match &error {
            UpgradeError::Image(_) | UpgradeError::Unfit(_) => ErrorCode::BadImage,
            UpgradeError::NoSpare => ErrorCode::NoStandby,
            UpgradeError::Busy => ErrorCode::Busy,
            UpgradeError::RolledBack { .. } => ErrorCode::RolledBack,
        };
        refuse(code, &error)
    }
}
