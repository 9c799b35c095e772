//! A NIC that refuses to do what a rebuild needs.

use super::*;

/// An emulated NIC that can be made stubborn.
pub(super) struct StubbornNic {
    pub(super) nic: Arc<EmulatedNic>,
    pub(super) restless: AtomicBool,
    pub(super) refused: AtomicU32,
    /// A reset makes it fall silent again.
    pub(super) mended_by_reset: AtomicBool,
    /// How often it was reset.
    pub(super) resets: AtomicU32,
    /// Stamps nothing, as hardware does.
    pub(super) stampless: AtomicBool,
    /// Stamps, but has sent nothing yet.
    pub(super) mute: AtomicBool,
    /// How often somebody asked for its stamp.
    pub(super) asked: AtomicU32,
    /// The thread whose next call panics; the name's beginning.
    pub(super) ends: Mutex<Option<&'static str>>,
    /// When it was last told to fall silent.
    pub(super) quieted: Mutex<Option<Instant>>,
}

impl StubbornNic {
    fn refuse(&self) -> NicError {
        self.refused.fetch_add(1, Ordering::SeqCst);
        let source = std::io::ErrorKind::TimedOut.into();
        NicError::System { name: self.nic.name().to_owned(), what: "fall silent", source }
    }
}

impl StubbornNic {
    /// Panics if this is the thread that is to end, once.
    fn perhaps_panic(&self) {
        let mut ends = self.ends.lock().unwrap();
        let here = std::thread::current();
        let named = |end: &&str| here.name().is_some_and(|name| name.starts_with(*end));
        if ends.filter(named).is_some() {
            *ends = None;
            drop(ends);
            panic!("the defect of this test");
        }
    }
}

impl Nic for StubbornNic {
    fn name(&self) -> &str {
        self.nic.name()
    }
    fn shut_units(&self) {
        self.nic.shut_units();
    }
    fn open_filters(&self) {
        self.nic.open_filters();
    }
    fn set_added(&self, added: &nic::AddedAddresses) {
        self.nic.set_added(added);
    }
    fn driver_opened(&self) {
        self.nic.driver_opened();
    }
    fn is_promiscuous(&self) -> bool {
        self.nic.is_promiscuous()
    }
    fn take_sent(&self) -> u32 {
        self.perhaps_panic();
        self.nic.take_sent()
    }
    fn take_received(&self) -> u32 {
        self.nic.take_received()
    }
    fn accept_probes(&self, to: Option<[u8; 6]>) {
        self.nic.accept_probes(to);
    }
    fn link_up(&self) -> bool {
        self.nic.link_up()
    }
    fn shut_filters(&self) {
        self.nic.shut_filters();
    }
    fn queue_event(&self) -> &EventFd {
        self.nic.queue_event()
    }
    fn link_event(&self) -> &EventFd {
        self.nic.link_event()
    }
    fn acknowledge_link(&self) -> bool {
        self.nic.acknowledge_link()
    }
    fn map_dma(&self, areas: &[DmaArea]) -> Result<(), NicError> {
        self.nic.map_dma(areas)
    }
    fn quiesce(&self) -> Result<(), NicError> {
        self.perhaps_panic();
        *self.quieted.lock().unwrap() = Some(Instant::now());
        match self.restless.load(Ordering::SeqCst) {
            true => Err(self.refuse()),
            false => self.nic.quiesce(),
        }
    }
    fn enable_bus_master(&self) -> Result<(), NicError> {
        self.nic.enable_bus_master()
    }
    fn reset(&self) -> Result<(), NicError> {
        self.resets.fetch_add(1, Ordering::SeqCst);
        if self.mended_by_reset.load(Ordering::SeqCst) {
            self.restless.store(false, Ordering::SeqCst);
        }
        self.nic.reset()
    }
    fn bar(&self) -> BarAccess<'_> {
        self.nic.bar()
    }
    fn stamps_first_sent(&self) -> bool {
        !self.stampless.load(Ordering::SeqCst)
    }
    fn arm_first_sent(&self) {
        self.nic.arm_first_sent();
    }
    fn first_sent_ns(&self) -> Option<u64> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.nic.first_sent_ns().filter(|_| !self.mute.load(Ordering::SeqCst))
    }
    fn progress(&self) -> u64 {
        self.nic.progress()
    }
    fn peek(&self, register: u32) -> u32 {
        self.perhaps_panic();
        self.nic.peek(register)
    }
    fn poke(&self, register: u32, value: u32) {
        self.nic.poke(register, value);
    }
}
