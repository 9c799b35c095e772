//! Timeouts, periods and time budgets of the failover path, of building domains, of the NICs and of
//! the guests' connections, each with its reason. What a driver domain waits for stands in
//! `driver-domain/src/budget.rs`.

use std::time::Duration;

// ---- Domains and their vCPU threads ----

/// How long a vCPU that was told to leave the guest may take. 154 µs was the worst of an idle
/// development machine, 4.7 ms of the nested one; past it the failover goes on without it.
pub const PAUSE_DEADLINE: Duration = Duration::from_millis(5);

/// From starting a domain to its READY call: the driver's bounded polls add up to some 200 ms on a
/// real i210, copper link negotiation excluded.
pub const READY_DEADLINE: Duration = Duration::from_secs(3);

/// How long a parked vCPU thread sleeps at most before it checks again whether it should end. Every
/// reason to wake has an eventfd; this only bounds what a lost one could cost. Rare enough that a
/// paused spare shows no CPU time.
pub const PARK_RECHECK: Duration = Duration::from_secs(1);

/// How long a vCPU thread that was forced out of the guest may take to end, when a life is torn
/// down. Off the failover path: generous, since all that comes after it is giving the thread up.
pub const LIFE_END_DEADLINE: Duration = Duration::from_secs(2);

/// How long a vCPU that is held may take to do what somebody asks of its thread. It is kicked out of
/// the guest and answers in well under a millisecond; the rest is for a stalled machine.
pub const HELD_VCPU_DEADLINE: Duration = Duration::from_secs(1);

/// How often a held vCPU is asked again within that time: one that was still on its way out of the
/// guest ignores the first request.
pub const HELD_VCPU_RETRY: Duration = Duration::from_millis(50);

/// For how long the time stamp counter is measured where KVM does not know its frequency: long
/// against the two clock readings, and a rebuild of some 30 ms does not feel it.
pub const TSC_MEASUREMENT: Duration = Duration::from_millis(2);

// ---- Serving: confirmation, announcements, duplicates ----

/// How often the switchboard asks the NIC which claimed frames it really sent. Bounds how long a
/// frame stays unconfirmed, and so how many a failover sends twice.
pub const CONFIRM_TICK: Duration = Duration::from_millis(1);

/// How long the switchboard may take to reach a loop boundary and answer a change that somebody
/// waits for. A turn of its loop takes well under a millisecond; the rest is for a stalled machine.
pub const BOUNDARY_DEADLINE: Duration = Duration::from_secs(1);

/// When announcements of the guest's MAC follow a takeover, beside the one at once: a late frame of
/// the failed NIC can pull the MAC back to the wrong switch port.
pub const ANNOUNCE_AGAIN: [Duration; 3] =
    [Duration::from_millis(1), Duration::from_millis(5), Duration::from_millis(20)];

/// Most repetitions in a schedule of announcements.
pub const MAX_ANNOUNCE_AGAIN: usize = 16;

/// Between two groups of announcements: a guest with many addresses must not make its own frames
/// wait behind them.
pub const ANNOUNCE_PACE: Duration = Duration::from_micros(100);

/// For so long after a takeover a frame that carries the source of one of a guest's further addresses
/// is taken for the guest's own, come back through the other port: what waits in the queues of the
/// network and in those of a failed NIC until that is silent. Later it shows that the address has
/// moved.
pub const OWN_RETURN_WINDOW: Duration = Duration::from_millis(100);

/// For how long a guest's learned address lives without a frame: the usual ageing time of bridges
/// (IEEE 802.1Q, 8.8.3).
pub const MAC_AGE: Duration = Duration::from_secs(300);

/// A learned address that was silent for less than this makes no room for another: routers that share
/// a virtual address speak once a second (RFC 9568, 5.2.7).
pub const MAC_GRACE: Duration = Duration::from_millis(1500);

/// How much later than one NIC's copy of a frame the other NIC's copy is recognised: what queues on
/// the wire and a busy processor put between the two.
pub const DEDUP_WINDOW: Duration = Duration::from_millis(20);

/// How often a guest's ring is polled whose kick descriptor can never signal (none, or neither an
/// eventfd nor a pipe). No real front-end does that; it must work, not be fast.
pub const SILENT_KICK_POLL: Duration = Duration::from_millis(1);

/// How long the front-end of a guest that stops waits for the guest's last frames: a failover takes
/// 10 ms at worst, and QEMU grants a guest that moves 300 ms in all. 0.1 ms is usual.
pub const GUEST_DRAIN_DEADLINE: Duration = Duration::from_millis(20);

// ---- What is known of the guests' addresses ----

/// How long an IP address that a guest uses no more is announced as its own: as long as switches
/// remember by default (IEEE 802.1Q, 8.8.3). After that its MAC address alone is announced, which
/// is what moves it.
pub const ADDRESS_AGE: Duration = Duration::from_secs(300);

/// How long a question for a guest's address may stay unanswered before the address is announced no
/// more. The guest answers within milliseconds, and clocks here have whole seconds.
pub const ADDRESS_ANSWER: Duration = Duration::from_secs(2);

/// How much longer than the guest's last frame a station of it (a MAC address in a VLAN) may be
/// silent and still be one that the guest uses.
/// An unused one costs a frame in each round of announcements, and 50 ms in a planned switch where
/// the network does not have it any more.
pub const VLAN_AGE: Duration = Duration::from_secs(3600);

// ---- Planned switches ----

/// How long the guest's frames wait at most for the serving domain to get rid of what it holds in a
/// planned switch. 0.1 ms is usual; past it the switch is given up and the domain keeps the ring.
pub const HANDOVER_DRAIN: Duration = Duration::from_millis(5);

/// How often the NIC is asked during that: a NIC may report a frame done before it counts it.
pub const HANDOVER_POLL: Duration = Duration::from_micros(50);

/// How long both NICs receive at most after the ring has changed hands. It ends when the guests'
/// announcements have come round to the port that was left, a fraction of a millisecond as a rule;
/// this is for a network that does not bring them there.
pub const HANDOVER_OVERLAP: Duration = Duration::from_millis(50);

/// From shutting a NIC's filters until the frames that had passed them are with its domain; and how
/// far frames may overtake each other on a switch that is a program on several processors.
pub const FILTERS_SETTLE: Duration = Duration::from_micros(300);

/// How long a domain may take to change its role in a planned switch: a wake-up, 0.1 ms as a rule.
/// One that needs longer is not fit to serve and is rebuilt.
pub const ROLE_DEADLINE: Duration = Duration::from_millis(50);

/// How long a planned operation waits for another one to end: for a drill, not for an upgrade.
pub const PLANNED_WAIT: Duration = Duration::from_millis(500);

/// How long a new driver must serve without a fault before it is trusted, unless the operator says
/// otherwise. Long enough for a drill and some traffic of every kind.
pub const PROBATION: Duration = Duration::from_secs(10);

// ---- Links ----

/// How long a domain without a link keeps the ring although a standby has one that is not healthy:
/// until a drill or a pause of moments and the first hold-down of a link are over. No frame passes
/// meanwhile.
pub const LINK_GRACE: Duration = Duration::from_millis(100);

// ---- Drills ----

/// Between two drills of a standby, unless the topology says otherwise. A drill costs three frames
/// and a millisecond of a sleeping thread; a fault in a spare stays hidden for at most that long.
pub const DRILL_EVERY: Duration = Duration::from_secs(60);

/// How long a drill may last, unless the topology says otherwise. A round trip takes 0.5 ms on a
/// development machine, most of it register accesses that leave the guest.
pub const DRILL_LIMIT: Duration = Duration::from_millis(1);

/// Drills that must fail in a row before a standby has failed: this machine may have stood still
/// for longer than one lasts.
pub const DRILL_ATTEMPTS: u32 = 3;

// ---- Rebuilding a failed domain ----

/// How long the rebuild thread waits for the spare's first frame and the switchboard's figures of a
/// takeover: they are there within a millisecond, unless the machine stands still.
pub const FIRST_FRAME_DEADLINE: Duration = Duration::from_millis(500);

/// How often a rebuild thread checks what it waits for. It checks while the spare takes over, which
/// needs the processors: with five times as many checks that took 2 ms longer in the nested machine.
pub const REBUILD_POLL: Duration = Duration::from_millis(1);

/// How long a rebuild lets the service on hardware come back first, where nothing comes in or goes
/// out that would tell: as long as that takes in the nested machine.
pub const REBUILD_YIELD: Duration = Duration::from_millis(20);

/// Pause before a NIC that is not there is looked for again: the kernel takes some tens of
/// milliseconds to bind a driver. It doubles with each look.
pub const NIC_RETRY_FIRST: Duration = Duration::from_millis(100);

/// Longest such pause. A look reads a few small files.
pub const NIC_RETRY_LONGEST: Duration = Duration::from_secs(2);

/// Attempts to build a domain before it is given up.
pub const BUILD_ATTEMPTS: u32 = 6;

/// Pause after the first failed attempt; it doubles with each. Six attempts make 640 ms in all,
/// enough for a NIC that is in the middle of a reset of its own.
pub const REBUILD_BACKOFF: Duration = Duration::from_millis(10);

// ---- NICs ----

/// How long a NIC's queues may take to send what they had fetched when they are switched off:
/// 24 frames of full size take 0.3 ms at 1 Gb/s; the budget is that of the igb drivers. With the
/// link down they never finish, and the bus is cut instead.
pub const NIC_DRAIN_DEADLINE: Duration = Duration::from_millis(10);

/// How often that is checked on a real NIC. Each check reads a register of every queue (32 of an
/// 82576) over PCI Express.
pub const NIC_DRAIN_POLL: Duration = Duration::from_micros(50);

/// How long a NIC may take to answer after the kernel has reset it. The kernel itself waits out the
/// 100 ms that PCI Express grants; this is for a slow one.
pub const RESET_DEADLINE: Duration = Duration::from_secs(1);

// ---- Emulated NICs and their wires ----

/// How long the engine of an emulated NIC sleeps at most, so that its progress stamp shows life
/// even where nothing happens.
pub const NIC_HEARTBEAT: Duration = Duration::from_millis(100);

/// How long a TAP may be out of its bridge, or its port not forward, before its link counts as down:
/// several commands of whoever changes the bridge. The spanning tree takes seconds.
pub const TAP_PORT_GRACE: Duration = Duration::from_millis(250);

/// How often a TAP that is not there is looked for, beside the times when the kernel tells of one:
/// for what it does not tell, such as a right that is granted. An attempt takes a few system calls.
pub const TAP_RETRY: Duration = Duration::from_secs(1);

/// How long the engine of an emulated NIC lets frames gather on the wire that arrive in quick
/// succession: some dozens of a gigabit's flood, and far below what an interruption takes.
pub const NIC_GATHER: Duration = Duration::from_micros(50);

/// How long the engine of an emulated NIC may take to reach the next turn of its loop. A turn takes
/// well under a millisecond; the rest is for a stalled machine.
pub const NIC_BOUNDARY_DEADLINE: Duration = Duration::from_secs(1);

/// How long a driver that polls a register which waits for an emulated NIC's engine makes room for
/// that engine: some of its turns.
pub const NIC_ENGINE_TURN: Duration = Duration::from_micros(50);

/// How often an emulated NIC's queues are checked while they drain, within [`NIC_DRAIN_DEADLINE`]:
/// some turns of the engine, which needs the processor meanwhile.
pub const EMULATED_DRAIN_POLL: Duration = Duration::from_micros(200);

/// How long the PHY of an emulated NIC negotiates. Real copper takes 2 to 4 s; this is as long as
/// QEMU's takes, long enough that nobody mistakes it for free.
pub const EMULATED_NEGOTIATION: Duration = Duration::from_millis(500);

/// How long an access to the PHY of an emulated NIC takes: the longest that the real part takes
/// (i210 datasheet §8.2, MDIC).
pub const EMULATED_PHY_ACCESS: Duration = Duration::from_micros(64);

/// How long the in-process switch remembers a station that sends nothing (IEEE 802.1Q table 8-6).
pub const SWITCH_STATION_AGE: Duration = Duration::from_secs(300);

// ---- vhost-user ----

/// How long a vhost-user back-end may take for one handshake with the application guest's
/// front-end: more than [`BOUNDARY_DEADLINE`], which our own may need to answer.
pub const BACKEND_DEADLINE: Duration = Duration::from_secs(2);

/// First pause before a front-end tries a back-end again that went away: one that is restarted at
/// once is back within milliseconds, and each is lost traffic.
pub const RECONNECT_FIRST: Duration = Duration::from_millis(1);

/// Longest such pause; they double up to it. A connection attempt costs some 20 µs.
pub const RECONNECT_LONGEST: Duration = Duration::from_millis(100);

/// Pause after a front-end that could not be accepted, for want of descriptors most likely.
pub const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Between two attempts to connect to a VMM that listens itself. An attempt costs some
/// microseconds, and each millisecond after the start of a VMM is lost traffic.
pub const CONNECT_RETRY: Duration = Duration::from_millis(10);

/// How long a front-end may take for the rest of a message it has begun, or to take a reply. Both
/// are a few hundred bytes to a local socket; past it the connection ends and another can be made.
pub const MESSAGE_DEADLINE: Duration = Duration::from_secs(1);

/// Between two announcements that a front-end asks for (SEND_RARP): the repetitions of one take 20 ms,
/// and QEMU asks every 50 ms at most.
pub const RARP_PACE: Duration = Duration::from_millis(25);

// ---- Dumps and debuggers ----

/// How long whoever asked for a dump waits for it: a disk writes a few megabytes in some tens of
/// milliseconds, unless others keep it busy.
pub const DUMP_ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// How long the end of a system waits for its last dump. Writing one takes some ten milliseconds;
/// past it the disk is stuck, and the dump is given up.
pub const DUMP_END_DEADLINE: Duration = Duration::from_secs(2);

/// How long a GDB server waits for its debugger: for a person to type a command.
pub const DEBUGGER_CONNECT_DEADLINE: Duration = Duration::from_secs(120);

/// How long a debugger may take to read an answer. One that does not read keeps no domain stopped.
pub const DEBUGGER_READ_DEADLINE: Duration = Duration::from_secs(5);

// ---- Campaigns ----

/// The waits of a fault-injection campaign.
#[derive(Clone, Copy, Debug)]
pub struct CampaignBudget {
    /// Between two samples of the system: the sender's period.
    pub look: Duration,
    /// Until a fresh system is whole and echoes; it takes some 50 ms.
    pub up: Duration,
    /// Clean echoes and a whole system for so long after a failure: it is recovered. Longer than the
    /// last repeated announcement takes, and than any detector.
    pub clean: Duration,
    /// How late an echo may be beyond four periods: what a busy machine does to it every second.
    pub slack: Duration,
    /// How much longer a service that stands still is watched when nobody has noticed it. All
    /// detectors find what they find within a tenth of a second, idle domains included.
    pub silence: Duration,
    /// Until redundancy is back after a failure; a rebuild takes some 30 ms, and a few may fail.
    pub recovery: Duration,
    /// The same where nothing recovers by design: only the last frames are waited for.
    pub no_recovery: Duration,
    /// Until a worker process has done one injection, whatever it was; then it is ended.
    pub trial: Duration,
    /// For how long the driver is sampled.
    pub profile: Duration,
}

impl CampaignBudget {
    /// For a machine that is so many times slower. The sampling period stays, and so does what is not a trial's own.
    pub fn times(self, slowness: u32) -> Self {
        Self {
            up: self.up * slowness,
            clean: self.clean * slowness,
            slack: self.slack * slowness,
            silence: self.silence * slowness,
            recovery: self.recovery * slowness,
            no_recovery: self.no_recovery * slowness,
            ..self
        }
    }
}

/// The waits of a campaign on this machine, see [`CampaignBudget`].
pub const CAMPAIGN: CampaignBudget = CampaignBudget {
    look: Duration::from_millis(1),
    up: Duration::from_secs(10),
    clean: Duration::from_millis(35),
    slack: Duration::from_millis(4),
    silence: Duration::from_millis(1_000),
    recovery: Duration::from_secs(4),
    no_recovery: Duration::from_millis(50),
    trial: Duration::from_secs(60),
    profile: Duration::from_secs(2),
};
