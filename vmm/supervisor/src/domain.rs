//! What the supervisor needs of a domain, all in one place.
//!
//! ```text
//!  Domain: permanent                        LifeHandle: from one rebuild to the next
//!   name, NIC: link, filters, silence        start ─▶ release, stand by, drill, check, kick
//!   drill and probe evidence                 evidence: sample, crash summary, dump
//!   rebuild: quiesce, reset, prepare         end
//! ```
//! The rest of the supervisor decides by roles and epochs, and acts on a domain through these two
//! types. They are the one file that knows that a domain is a micro-VM with a NIC of the igb family
//! (beside the samples of [`crate::detect`] and the dumps of [`crate::coredump`], which are made of
//! what such a domain shows), so another kind of domain is another implementation of this file.
//!
//! On the failover path are [`Domain::silence`], [`Domain::open_filters`], [`Domain::link_is_up`],
//! [`Domain::arm_first_sent`] and [`LifeHandle::release`]: register accesses, atomics and an
//! eventfd write, forwarded without another allocation, lock or dynamic call.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use shared_ring::probe::probe_mac;
use shared_ring::status::drill as proof;
use shared_ring::{DomainState, Role};
use vmm_sys_util::eventfd::EventFd;

use crate::coredump::{Capture, CaptureConfig, LiveCapture};
use crate::detect::{Sample, Sampler};
use microvm::domain::{
    DebugAccess, DomainEvents, DomainId, DomainSlot, Hold, Life, LifeError, LifeView, PrepareConfig,
};
use microvm::kvm::Image;
use nic::{AddedAddresses, NicError};
use platform::memory::MemoryError;
use switchboard::QUESTION_BUFFER;

/// The permanent part of a domain: its memory and its NIC.
#[derive(Clone)]
pub(super) struct Domain {
    slot: Arc<DomainSlot>,
}

/// What a standby and its NIC say of a drill.
#[derive(Clone, Copy, Debug)]
pub(super) struct DrillProof {
    /// The domain says that its NIC has sent the question.
    pub(super) sent: bool,
    /// The domain says that it got the answer.
    pub(super) answered: bool,
    /// Frames that the NIC counted as sent since the drill began.
    pub(super) nic_sent: u32,
    /// Frames that the NIC counted as received since the drill began.
    pub(super) nic_received: u32,
}

impl Domain {
    pub(super) fn new(slot: Arc<DomainSlot>) -> Self {
        Self { slot }
    }

    #[inline]
    pub(super) fn id(&self) -> DomainId {
        self.slot.id
    }

    /// The name in the topology.
    pub(super) fn name(&self) -> &str {
        &self.slot.name
    }
}

/// The NIC while the domain stands by, serves or fails.
impl Domain {
    /// Switches the NIC's receive and transmit units off.
    #[inline]
    pub(super) fn silence(&self) {
        self.slot.nic.shut_units();
    }

    /// Lets the NIC receive what is sent to the guests.
    #[inline]
    pub(super) fn open_filters(&self) {
        self.slot.nic.open_filters();
    }

    /// What the NIC is to receive beside the guests' own addresses, as soon as its filters are open.
    pub(super) fn set_added(&self, added: &AddedAddresses) {
        self.slot.nic.set_added(added);
    }

    /// Keeps the NIC from receiving anything.
    pub(super) fn shut_filters(&self) {
        self.slot.nic.shut_filters();
    }

    #[inline]
    pub(super) fn link_is_up(&self) -> bool {
        self.slot.nic.link_up()
    }

    /// Has the NIC stamp the next frame that it sends.
    #[inline]
    pub(super) fn arm_first_sent(&self) {
        self.slot.nic.arm_first_sent();
    }

    /// Returns true if the NIC can stamp frames.
    pub(super) fn stamps_first_sent(&self) -> bool {
        self.slot.nic.stamps_first_sent()
    }

    /// Returns true if the NIC is a device of its own, with a cable and a switch port that nobody
    /// here can look into.
    pub(super) fn is_hardware(&self) -> bool {
        !self.slot.nic.stamps_first_sent()
    }

    /// When the first frame after [`Self::arm_first_sent`] left the NIC.
    pub(super) fn first_sent_ns(&self) -> Option<u64> {
        self.slot.nic.first_sent_ns()
    }

    /// When the oldest received frame arrived that the domain has not published, if its NIC can
    /// tell. `CLOCK_MONOTONIC` nanoseconds.
    pub(super) fn unpublished_since_ns(&self) -> Option<u64> {
        let next = self.slot.status().rx_next.load(Ordering::Acquire);
        self.slot.nic.unpublished_since_ns(next)
    }

    pub(super) fn nic_name(&self) -> &str {
        self.slot.nic.name()
    }

    /// Readable when the link may have changed.
    pub(super) fn link_event(&self) -> &EventFd {
        self.slot.nic.link_event()
    }

    /// Takes the link event; returns whether the link is up.
    pub(super) fn acknowledge_link(&self) -> bool {
        let _ = self.slot.nic.link_event().read();
        self.slot.nic.acknowledge_link()
    }

    /// Readable when somebody wants the NIC back, if anybody can.
    pub(super) fn request_event(&self) -> Option<&EventFd> {
        self.slot.nic.request_event()
    }

    /// The NIC is taken away, or has failed on the bus: it is let go of before the next life.
    pub(super) fn give_nic_back(&self) {
        self.slot.nic.leave();
    }

    /// Returns true if the NIC, or the wire of one in software, is there.
    pub(super) fn nic_is_present(&self) -> bool {
        self.slot.nic.is_present()
    }

    /// Opens the NIC if it is not open.
    ///
    /// # Errors
    /// It is not there, or cannot be used yet.
    pub(super) fn reopen_nic(&self) -> Result<(), NicError> {
        self.slot.nic.reopen()
    }

    /// Readable when the bus reports an error of the NIC, if it can.
    pub(super) fn error_event(&self) -> Option<&EventFd> {
        self.slot.nic.error_event()
    }

    /// Returns true if both domains have the same NIC.
    pub(super) fn shares_nic(&self, other: &Self) -> bool {
        self.slot.shares_nic(&other.slot)
    }

    /// Returns true if the driver of this life has attached the NIC.
    pub(super) fn is_attached(&self, epoch: u32) -> bool {
        self.slot.is_attached(epoch)
    }
}

/// What a domain that runs shows, and how it is notified.
impl Domain {
    /// Samples a domain that serves.
    pub(super) fn sample(&self, sampler: &Sampler, life: &LifeHandle) -> Sample {
        sampler.sample(&self.slot, &life.life)
    }

    /// Samples a domain that stands by.
    pub(super) fn sample_standby(&self, sampler: &Sampler, life: &LifeHandle) -> Sample {
        sampler.sample_standby(&self.slot, &life.life)
    }

    /// Samples a domain without reading its NIC.
    pub(super) fn sample_blindly(&self, sampler: &Sampler, life: &LifeHandle) -> Sample {
        sampler.sample_blindly(&self.slot, &life.life)
    }

    /// Notifies the switchboard in the domain's place.
    pub(super) fn notify_switchboard(&self) {
        // Only a full counter refuses the write, and then the switchboard is notified already.
        let _ = self.slot.notify.write(1);
    }

    /// Returns true if the driver has reached this state, by its own word.
    pub(super) fn has_state(&self, state: DomainState) -> bool {
        self.slot.status().state.load(Ordering::Acquire) == state as u32
    }

    /// Returns true if received frames of the domain wait for the switchboard.
    pub(super) fn received_frames_wait(&self) -> bool {
        let taken = self.slot.control().rx_done_consumed.0.load(Ordering::Acquire);
        self.slot.status().rx_done_published.0.load(Ordering::Acquire) != taken
    }

    /// Lets the NIC receive probes to its probe address too, or no longer.
    pub(super) fn accept_probes(&self, accept: bool) {
        let address = || probe_mac(self.slot.control().mac(), self.id().0);
        self.slot.nic.accept_probes(accept.then(address));
    }

    /// Prepares a standby for this drill, and counts its NIC's frames from here on.
    pub(super) fn prepare_drill(&self, number: u32) {
        self.slot.nic.take_sent();
        self.slot.nic.take_received();
        let control = self.slot.control();
        control.probe_iova.store(DomainSlot::tx_iova(QUESTION_BUFFER), Ordering::Relaxed);
        control.drill.store(number, Ordering::Release);
    }

    /// Returns true if the standby has ended this drill.
    pub(super) fn has_ended_drill(&self, number: u32) -> bool {
        self.slot.status().drill.load(Ordering::Acquire) == number
    }

    /// What the standby's driver says of its last drill, and what its NIC has counted.
    pub(super) fn take_drill_proof(&self) -> DrillProof {
        let words = self.slot.status().drill_proof.load(Ordering::Relaxed);
        let nic_received = self.slot.nic.take_received();
        self.slot.accounts.note_kept(nic_received.into());
        DrillProof {
            sent: words & proof::SENT != 0,
            answered: words & proof::ANSWERED != 0,
            nic_sent: self.slot.nic.take_sent(),
            nic_received,
        }
    }
}

/// Building a domain anew, and dumps.
impl Domain {
    /// Waits until the NIC has stopped to access memory.
    ///
    /// # Errors
    /// It does not stop.
    pub(super) fn quiesce(&self) -> Result<(), NicError> {
        self.slot.nic.quiesce()
    }

    /// Resets the NIC.
    ///
    /// # Errors
    /// It does not come back.
    pub(super) fn reset(&self) -> Result<(), NicError> {
        self.slot.nic.reset()
    }

    /// A life has ended, its NIC is silent, and the switchboard has let go of it: settles what
    /// became of the frames that the NIC received.
    pub(super) fn end_accounts(&self) {
        self.slot.accounts.end(self.slot.nic.counters().received);
    }

    /// A life begins: what its NIC has received so far is none of its frames.
    pub(super) fn begin_accounts(&self) {
        self.slot.accounts.begin(self.slot.nic.counters().received);
    }

    /// Makes the domain's memory as if new, for the next life.
    ///
    /// # Errors
    /// The memory cannot be written.
    pub(super) fn prepare(&self, config: &PrepareConfig<'_>) -> Result<(), MemoryError> {
        self.slot.prepare(config)
    }

    /// Lets the NIC access memory again, with its filters shut.
    ///
    /// # Errors
    /// It refuses.
    pub(super) fn enable_nic(&self) -> Result<(), NicError> {
        self.slot.nic.shut_filters();
        self.slot.nic.enable_bus_master()
    }

    /// Starts a life from this image in memory that is prepared for it.
    ///
    /// # Errors
    /// See [`LifeError`].
    pub(super) fn start(
        &self,
        image: Arc<Image>,
        epoch: u32,
        events: Arc<dyn DomainEvents>,
    ) -> Result<LifeHandle, LifeError> {
        let life = Life::start(self.slot.clone(), image, epoch, events)?;
        Ok(LifeHandle { life: Arc::new(life) })
    }

    /// Copies what a failed life has left.
    pub(super) fn capture(&self, life: &LifeHandle, config: CaptureConfig) -> Capture {
        Capture::of(&self.slot, &life.life, config)
    }

    /// Makes room for the copy of a life that goes on.
    pub(super) fn prepare_capture(&self, life: &LifeHandle, is_active: bool) -> LiveCapture {
        LiveCapture::prepare(&self.slot, &life.life, is_active)
    }

    /// Copies a life that is held.
    pub(super) fn take_capture(
        &self,
        room: LiveCapture,
        life: &LifeHandle,
        hold: &Hold,
    ) -> Result<Capture, microvm::domain::DebugError> {
        Ok(room.take(&self.slot, &life.life, hold.registers()?))
    }
}

/// One life of a domain: what runs between two rebuilds.
#[derive(Clone)]
pub(super) struct LifeHandle {
    life: Arc<Life>,
}

impl LifeHandle {
    /// The micro-VM, for those who look into it: injectors, debuggers, tests.
    pub(super) fn micro_vm(&self) -> &Arc<Life> {
        &self.life
    }

    #[inline]
    pub(super) fn id(&self) -> DomainId {
        self.life.id()
    }

    /// Number of this life.
    #[inline]
    pub(super) fn epoch(&self) -> u32 {
        self.life.epoch()
    }

    /// Makes the domain the active one and wakes it, whoever holds it.
    #[inline]
    pub(super) fn release(&self) {
        self.life.release();
    }

    /// Has the domain stand by.
    pub(super) fn stand_by(&self) {
        self.life.set_role(Role::Standby);
    }

    /// Has a standby that is prepared for a drill send its question.
    pub(super) fn begin_drill(&self) {
        self.life.set_role(Role::Drill);
    }

    /// Wakes the domain for a sign of life.
    pub(super) fn check(&self) {
        self.life.check();
    }

    /// Kicks the vCPU out of the guest and lets it in again.
    pub(super) fn kick(&self) {
        self.life.interrupt();
    }

    /// Orders the domain out of the guest for good; returns true if it was out within `patience`.
    pub(super) fn end(&self, patience: Duration) -> bool {
        self.life.force_out();
        self.life.wait_until_out(Instant::now() + patience)
    }

    /// Orders the domain out of the guest for good, without waiting.
    pub(super) fn order_out(&self) {
        self.life.force_out();
    }

    /// Returns true if the life has ended or is about to.
    pub(super) fn is_stopped(&self) -> bool {
        self.life.is_stopped()
    }

    /// Returns true if everything that the life leaves behind is collected.
    pub(super) fn is_collected(&self) -> bool {
        self.life.outcome().is_some()
    }

    /// When the vCPU last entered the guest, `CLOCK_MONOTONIC` nanoseconds.
    pub(super) fn last_entry_ns(&self) -> u64 {
        self.life.last_entry_ns()
    }

    pub(super) fn is_attached(&self) -> bool {
        self.life.is_attached()
    }

    /// Returns true if the driver has reported that it is ready.
    pub(super) fn is_ready(&self) -> bool {
        self.life.is_ready()
    }

    /// Returns true if this image is what runs.
    pub(super) fn runs_image(&self, image: &Arc<Image>) -> bool {
        Arc::ptr_eq(&self.life.image_handle(), image)
    }

    /// What a failed life has left, in one line for people; empty while it lives.
    pub(super) fn crash_summary(&self) -> String {
        self.life.crash_summary()
    }

    /// Keeps the vCPU out of the guest, visibly, as long as the hold lives.
    pub(super) fn hold(&self) -> Hold {
        self.life.hold()
    }

    /// The life as a debugger sees it, unless there is a debugger already.
    pub(super) fn debug(&self) -> Option<DebugAccess> {
        self.life.debug()
    }

    /// A view of the counters that does not keep the life alive.
    pub(super) fn view(&self) -> LifeView {
        self.life.view()
    }

    /// The memory is about to be another life's: a debugger that is still there writes nothing
    /// more.
    pub(super) fn revoke_memory(&self) {
        self.life.revoke_memory();
    }
}
