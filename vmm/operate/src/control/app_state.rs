//! What every request handler works with.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::actions::Actions;
use crate::observe::{Observer, Sampler};

/// What every request handler works with.
#[derive(Clone)]
pub(super) struct AppState {
    pub(super) observer: Observer,
    pub(super) sampler: Arc<Sampler>,
    pub(super) actions: Arc<dyn Actions>,
    /// Folder with the dumps of failed domains.
    pub(super) dumps: Option<PathBuf>,
    /// Each new state as JSON, for the live feed.
    pub(super) states: Arc<watch::Sender<Arc<str>>>,
}

impl AppState {
    /// The state of the system now, as JSON.
    pub(super) fn state_json(&self) -> Arc<str> {
        let state = serde_json::to_string(&self.observer.snapshot(&self.sampler));
        // Serializing fails only for maps whose keys are not strings.
        state.unwrap_or_default().into()
    }
}
