//! Who serves, and who receives: the one place that answers it.
//!
//! ```text
//!                 begin_overlap       drain               change_hands     end_overlap
//!   one serves ──────▶ Overlapping ────────▶ Draining ──────────▶ Leaving ──────────▶ one serves
//!                      both receive                    │          both receive
//!                                                      └─ keep ──▶
//! ```
//! Today a set of serving paths has at most one member. Everything outside asks by
//! [`Serving::path`], [`Serving::serves`] and [`Serving::receivers`] and holds no copy of the
//! answer.
//!
//! Invariants: while two domains overlap, the one that serves is one of them; it is `from` until
//! the ring changes hands.

/// How far an overlap has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Both domains receive.
    Overlapping,
    /// The guests' frames wait in their rings until the serving domain has none left.
    Draining { began_ns: u64 },
    /// The ring has changed hands, or will not; late receptions of the other are still taken.
    Leaving,
}

/// Two domains that receive both, in a planned switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overlap {
    /// The domain that served when it began.
    pub(crate) from: usize,
    /// Its successor.
    pub(crate) to: usize,
    /// The successor's life.
    pub(crate) epoch: u32,
    pub(crate) step: Step,
}

impl Overlap {
    /// The other one of the two domains; `None` if this is neither.
    pub(crate) fn partner(&self, domain: usize) -> Option<usize> {
        match domain {
            domain if domain == self.from => Some(self.to),
            domain if domain == self.to => Some(self.from),
            _ => None,
        }
    }
}

/// Who serves. Plain data; its writers are the takeover and the handover, on the switchboard's
/// thread.
#[derive(Debug, Default)]
pub(crate) struct Serving {
    /// The domain that the guests' frames are given to.
    path: Option<usize>,
    overlap: Option<Overlap>,
    /// Takeovers so far.
    takeovers: u64,
}

impl Serving {
    /// The domain that the guests' frames are given to.
    #[inline]
    pub(crate) fn path(&self) -> Option<usize> {
        self.path
    }

    /// Returns true if this domain is given the guests' frames.
    pub(crate) fn serves(&self, domain: usize) -> bool {
        self.path == Some(domain)
    }

    /// Domains whose receptions are the guests', in the order in which they are read.
    #[inline]
    pub(crate) fn receivers(&self) -> impl Iterator<Item = usize> + use<> {
        let receivers = match &self.overlap {
            Some(overlap) => [Some(overlap.from), Some(overlap.to)],
            None => [self.path, None],
        };
        receivers.into_iter().flatten()
    }

    /// Returns true if this domain's receptions are the guests'.
    pub(crate) fn receives(&self, domain: usize) -> bool {
        self.receivers().any(|receiver| receiver == domain)
    }

    /// The planned switch that is under way.
    pub(crate) fn overlap(&self) -> Option<&Overlap> {
        self.overlap.as_ref()
    }

    /// Returns true if the guests' frames wait for a handover.
    #[inline]
    pub(crate) fn is_draining(&self) -> bool {
        matches!(&self.overlap, Some(Overlap { step: Step::Draining { .. }, .. }))
    }

    /// Takeovers so far.
    pub(crate) fn takeovers(&self) -> u64 {
        self.takeovers
    }

    /// Counts a takeover that begins. Returns its number.
    pub(super) fn count_takeover(&mut self) -> u64 {
        self.takeovers += 1;
        self.takeovers
    }

    /// A domain serves from now on; none did before.
    pub(super) fn begin(&mut self, domain: usize) {
        debug_assert!(self.path.is_none(), "the one before is ended first");
        self.path = Some(domain);
    }

    /// No domain serves from now on.
    pub(super) fn end(&mut self) {
        self.path = None;
    }

    /// `to` receives from now on, beside the domain that serves, if [`Self::may_overlap`].
    pub(super) fn begin_overlap(&mut self, to: usize, epoch: u32) {
        debug_assert!(self.may_overlap(to));
        let overlap = |from| Overlap { from, to, epoch, step: Step::Overlapping };
        self.overlap = self.path.map(overlap);
    }

    /// Returns true if a domain serves, this is another one, and no switch is under way.
    pub(super) fn may_overlap(&self, to: usize) -> bool {
        self.path.is_some_and(|from| from != to) && self.overlap.is_none()
    }

    /// The guests' frames wait from now on. Returns false if the two domains have not just begun to
    /// overlap.
    pub(super) fn begin_draining(&mut self, now_ns: u64) -> bool {
        match &mut self.overlap {
            Some(overlap) if overlap.step == Step::Overlapping => {
                overlap.step = Step::Draining { began_ns: now_ns };
                true
            }
            _ => false,
        }
    }

    /// The draining is over: the ring has changed hands or will not.
    pub(super) fn end_draining(&mut self) {
        if let Some(overlap) = &mut self.overlap {
            overlap.step = Step::Leaving;
        }
    }

    /// The switch is over, wherever it stood; whoever serves goes on. Returns what it was.
    pub(super) fn end_overlap(&mut self) -> Option<Overlap> {
        self.overlap.take()
    }
}
