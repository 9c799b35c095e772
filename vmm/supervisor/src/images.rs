//! The images from which domains are built.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use microvm::domain::DomainId;
use microvm::kvm::Image;

/// The images in use, and an image on trial.
pub(super) struct Images(Mutex<Inner>);

struct Inner {
    /// The driver's and the spare's. Lives alternate between them, so that both stay exercised.
    current: [Arc<Image>; 2],
    trial: Option<(DomainId, Arc<Image>)>,
}

impl Images {
    pub(super) fn new(current: [Arc<Image>; 2]) -> Self {
        Self(Mutex::new(Inner { current, trial: None }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change is one assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The images in use.
    pub(super) fn current(&self) -> [Arc<Image>; 2] {
        self.inner().current.clone()
    }

    /// Uses other images for the lives that begin from now on.
    pub(super) fn replace(&self, current: [Arc<Image>; 2]) {
        self.inner().current = current;
    }

    /// Builds the next life of this domain from `image`, once: whatever happens to that life, the
    /// next one is built from a trusted image.
    pub(super) fn try_once(&self, id: DomainId, image: Arc<Image>) {
        self.inner().trial = Some((id, image));
    }

    /// Ends a trial: no life is built from the image on trial any more.
    pub(super) fn withdraw(&self) {
        self.inner().trial = None;
    }

    /// The image of a new life. The first domain starts with the driver's image, the others with
    /// the spare's; after that each life has the image that the life before it did not have.
    pub(super) fn take_for(&self, id: DomainId, epoch: u32) -> Arc<Image> {
        let mut inner = self.inner();
        if let Some((_, image)) = inner.trial.take_if(|(domain, _)| *domain == id) {
            return image;
        }
        let first = usize::from(id.index() > 0);
        inner.current[(first + epoch as usize + 1) % 2].clone()
    }
}
