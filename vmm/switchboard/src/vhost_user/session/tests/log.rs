use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::*;
use crate::fakes::{LOG_BYTES, marked_pages};

/// Where the tests have the used ring's marks: not its own address, so that a mix-up shows.
const USED_IN_LOG: u64 = 0x3_0000;
const USED_MARK: usize = 0x30;
const LOG_SHMFD: u64 = request::OFFERED_PROTOCOL.bits() & 2;

impl Bench {
    fn set_log(
        &mut self,
        file: &File,
        bytes: u64,
        offset: u64,
        wants_reply: bool,
    ) -> Result<Option<Vec<u8>>, ConnectionError> {
        let request = FrontendReq::SET_LOG_BASE as u32;
        let files = vec![file.try_clone().unwrap()];
        self.handle(request, wants_reply, &words(&[bytes, offset]), files)
    }

    /// Describes the transmit ring with marks, or without.
    fn set_marked(&mut self, marked: bool) {
        let mut body = addresses(&self.guest.tx);
        body[4..8].copy_from_slice(&u32::from(marked).to_ne_bytes());
        let end = body.len();
        body[end - 8..].copy_from_slice(&USED_IN_LOG.to_ne_bytes());
        assert_eq!(self.ask(FrontendReq::SET_VRING_ADDR, &body), 0);
    }

    fn set_features(&mut self, features: u64) {
        assert_eq!(self.ask(FrontendReq::SET_FEATURES, &number(features)), 0);
    }

    /// Sends a frame into the disabled ring, which throws it away: it comes back as used.
    fn send_one(&mut self) {
        self.guest.tx.send(&[0; 60]);
        self.guest.tx.kick();
        let end = Instant::now() + Duration::from_secs(5);
        while self.guest.tx.take_used().is_none() {
            assert!(Instant::now() < end, "the frame does not come back");
        }
    }

    /// Running, disabled, without logging.
    fn discarding() -> Self {
        let mut bench = Self::ready();
        bench.set_features(ALL_FEATURES & !request::LOG_ALL);
        assert_eq!(bench.enable(0), 0);
        bench.start_ring();
        bench
    }
}

fn log_file() -> File {
    memfd(LOG_BYTES)
}

fn all_memory() -> Vec<usize> {
    let first = GUEST_BASE as usize / 4096;
    (first..first + GUEST_BYTES as usize / 4096).collect()
}

#[test]
fn marks_come_and_go_with_the_flag_while_the_ring_runs() {
    let mut bench = Bench::discarding();
    let file = log_file();
    bench.set_log(&file, LOG_BYTES, 0, false).unwrap().unwrap();
    bench.send_one();
    assert_eq!(marked_pages(&file), [0; 0], "nobody asked for marks");
    bench.set_marked(true);
    bench.send_one();
    assert_eq!(marked_pages(&file), [USED_MARK]);
    bench.set_marked(false);
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; LOG_BYTES as usize], 0).unwrap();
    bench.send_one();
    bench.set_features(ALL_FEATURES);
    bench.send_one();
    assert_eq!(bench.stop_ring(), 4, "no frame was lost or taken twice");
    assert_eq!(marked_pages(&file), [0; 0]);
}

#[test]
fn a_log_is_answered_always_and_takes_the_place_of_the_one_before() {
    let mut bench = Bench::discarding();
    let (first, second) = (log_file(), memfd(2 * LOG_BYTES));
    assert_eq!(bench.set_log(&first, LOG_BYTES, 0, false).unwrap(), Some(number(0)));
    bench.set_marked(true);
    assert_eq!(bench.set_log(&second, LOG_BYTES, LOG_BYTES, true).unwrap(), Some(number(0)));
    let before = marked_pages(&first);
    bench.send_one();
    assert_eq!(marked_pages(&first), before);
    assert_eq!(marked_pages(&second), [8 * LOG_BYTES as usize + USED_MARK]);
}

#[test]
fn an_impossible_log_is_refused_and_the_one_before_stays() {
    let mut bench = Bench::discarding();
    let (good, small) = (log_file(), memfd(16));
    bench.set_log(&good, LOG_BYTES, 0, false).unwrap();
    bench.set_marked(true);
    for (bytes, offset) in
        [(0, 0), (17, 0), (16, 1), (8, u64::MAX - 4), (u64::MAX, 0), (1, 1 << 62)]
    {
        assert_eq!(bench.set_log(&small, bytes, offset, true).unwrap(), Some(number(1)));
        let unanswered = bench.set_log(&small, bytes, offset, false);
        assert!(matches!(unanswered, Err(ConnectionError::Refused { .. })));
    }
    for path in ["/dev/zero", "/proc/self/exe"] {
        let file = File::open(path).unwrap();
        assert_eq!(bench.set_log(&file, 8, 0, true).unwrap(), Some(number(1)), "{path}");
    }
    bench.send_one();
    assert_eq!(marked_pages(&good), [USED_MARK]);
}

#[test]
fn a_log_needs_its_protocol_feature_one_descriptor_and_a_whole_body() {
    let request = FrontendReq::SET_LOG_BASE as u32;
    let body = words(&[8, 0]);
    let mut bench = Bench::ready();
    let malformed = |result| matches!(result, Err(ConnectionError::Malformed(_)));
    assert!(malformed(bench.handle(request, true, &body, vec![])));
    assert!(malformed(bench.handle(request, true, &body, vec![memfd(8), memfd(8)])));
    assert!(malformed(bench.handle(request, true, &body[..8], vec![memfd(8)])));
    assert!(malformed(bench.handle(FrontendReq::SET_LOG_FD as u32, true, &[], vec![])));
    let protocol = number(OFFERED_PROTOCOL.bits() & !LOG_SHMFD);
    bench.send(FrontendReq::SET_PROTOCOL_FEATURES, &protocol).unwrap();
    assert_eq!(bench.handle(request, true, &body, vec![memfd(8)]).unwrap(), Some(number(1)));
}

#[test]
fn what_was_written_before_a_log_came_is_marked_when_it_comes() {
    let mut bench = Bench::ready();
    assert_eq!(bench.enable(0), 0);
    bench.start_ring();
    let file = log_file();
    bench.set_log(&file, LOG_BYTES, 0, false).unwrap();
    assert_eq!(marked_pages(&file), all_memory());
    let next = log_file();
    bench.set_log(&next, LOG_BYTES, 0, false).unwrap();
    assert_eq!(marked_pages(&next), [0; 0], "by now nothing is missing");
}

#[test]
fn a_used_ring_that_was_to_be_marked_before_a_log_came_is_too() {
    let mut bench = Bench::discarding();
    bench.set_marked(true);
    let file = log_file();
    bench.set_log(&file, LOG_BYTES, 0, false).unwrap();
    assert_eq!(marked_pages(&file), [vec![USED_MARK], all_memory()].concat());
}

#[test]
fn a_log_that_does_not_reach_the_guests_memory_is_taken() {
    let mut bench = Bench::discarding();
    let file = memfd(1);
    assert_eq!(bench.set_log(&file, 1, 0, true).unwrap(), Some(number(0)));
    bench.set_marked(true);
    bench.set_features(ALL_FEATURES);
    bench.send_one();
    assert_eq!(marked_pages(&file), [0; 0]);
}

#[test]
fn a_front_end_is_told_of_marks_by_the_descriptor_it_gave() {
    let mut bench = Bench::discarding();
    let event = EventFd::new(EFD_NONBLOCK).unwrap();
    let request = FrontendReq::SET_LOG_FD as u32;
    let files = vec![File::from(event.as_fd_owned())];
    assert_eq!(bench.handle(request, true, &[], files).unwrap(), Some(number(0)));
    bench.send_one();
    assert!(event.read().is_err(), "nothing is marked");
    bench.set_log(&log_file(), LOG_BYTES, 0, false).unwrap();
    bench.set_marked(true);
    bench.send_one();
    assert!(event.read().is_ok());
}
