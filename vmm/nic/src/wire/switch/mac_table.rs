//! Which station is behind which port.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use platform::budget::SWITCH_STATION_AGE;

const BUCKETS: usize = 64;
const WAYS: usize = 4;
const AGE_NS: u64 = SWITCH_STATION_AGE.as_nanos() as u64;
const PORT_SHIFT: u32 = 48;

/// A station's address.
pub(super) type Mac = [u8; 6];

/// A place of the table: address in bits 47:0, port + 1 above; 0 is empty.
#[derive(Default)]
struct Place {
    key: AtomicU64,
    seen_ns: AtomicU64,
}

/// A bounded table, four places for each of 64 hash values; the station that was silent the longest
/// makes room. Looking up and seeing a known station again take no lock; only a station that is
/// new or has moved does.
pub(super) struct MacTable {
    places: Box<[[Place; WAYS]]>,
    changing: Mutex<()>,
}

impl MacTable {
    pub(super) fn new() -> Self {
        let places = (0..BUCKETS).map(|_| std::array::from_fn(|_| Place::default())).collect();
        Self { places, changing: Mutex::new(()) }
    }

    /// The port behind which `mac` was last seen.
    pub(super) fn lookup(&self, mac: Mac, now_ns: u64) -> Option<usize> {
        let place = self.find(mac)?;
        let key = place.key.load(Ordering::Acquire);
        let age_ns = now_ns.saturating_sub(place.seen_ns.load(Ordering::Relaxed));
        // Another station may have taken the place since: then this one is unknown.
        (address_of(key) == number_of(mac) && age_ns < AGE_NS).then(|| port_of(key)).flatten()
    }

    /// Notes that `mac` sent from `port`.
    pub(super) fn learn(&self, mac: Mac, port: usize, now_ns: u64) {
        let key = number_of(mac) | (port as u64 + 1) << PORT_SHIFT;
        if let Some(place) = self.find(mac)
            && place.key.load(Ordering::Acquire) == key
        {
            place.seen_ns.store(now_ns, Ordering::Relaxed);
            return;
        }
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked for once more under the lock, so that no station ever has two places.
        let place = self.find(mac).unwrap_or_else(|| self.oldest(mac));
        place.seen_ns.store(now_ns, Ordering::Relaxed);
        place.key.store(key, Ordering::Release);
    }

    /// Forgets every station behind `port`.
    pub(super) fn flush(&self, port: usize) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        for place in self.places.iter().flatten() {
            if port_of(place.key.load(Ordering::Acquire)) == Some(port) {
                place.key.store(0, Ordering::Release);
            }
        }
    }

    fn find(&self, mac: Mac) -> Option<&Place> {
        let number = number_of(mac);
        self.bucket(mac).iter().find(|place| {
            let key = place.key.load(Ordering::Acquire);
            key != 0 && address_of(key) == number
        })
    }

    fn oldest(&self, mac: Mac) -> &Place {
        let mut oldest = &self.bucket(mac)[0];
        let mut oldest_ns = u64::MAX;
        for place in self.bucket(mac) {
            let empty = place.key.load(Ordering::Relaxed) == 0;
            let seen_ns = if empty { 0 } else { place.seen_ns.load(Ordering::Relaxed) };
            if seen_ns < oldest_ns {
                (oldest, oldest_ns) = (place, seen_ns);
            }
        }
        oldest
    }

    fn bucket(&self, mac: Mac) -> &[Place; WAYS] {
        // Stations of one maker differ in the last bytes; a multiplicative hash spreads them.
        let hash = number_of(mac).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        &self.places[hash as usize % BUCKETS]
    }
}

fn number_of(mac: Mac) -> u64 {
    mac.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn address_of(key: u64) -> u64 {
    key & ((1 << PORT_SHIFT) - 1)
}

fn port_of(key: u64) -> Option<usize> {
    ((key >> PORT_SHIFT) as usize).checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_station_that_moves_is_found_at_its_new_port_only() {
        let table = MacTable::new();
        table.learn([2, 0, 0, 0, 0, 1], 3, 0);
        table.learn([2, 0, 0, 0, 0, 1], 0, 1);
        assert_eq!(table.lookup([2, 0, 0, 0, 0, 1], 2), Some(0));
        table.flush(0);
        assert_eq!(table.lookup([2, 0, 0, 0, 0, 1], 2), None);
    }

    #[test]
    fn silent_stations_are_forgotten() {
        let table = MacTable::new();
        table.learn([2; 6], 1, 0);
        assert_eq!(table.lookup([2; 6], AGE_NS - 1), Some(1));
        assert_eq!(table.lookup([2; 6], AGE_NS), None);
    }

    #[test]
    fn a_flood_of_stations_stays_bounded_and_the_newest_is_known() {
        let table = MacTable::new();
        for number in 0..10_000_u32 {
            let [a, b, c, d] = number.to_be_bytes();
            table.learn([2, 0, a, b, c, d], 1, u64::from(number));
            assert_eq!(table.lookup([2, 0, a, b, c, d], u64::from(number)), Some(1));
        }
        assert_eq!(table.places.iter().flatten().count(), BUCKETS * WAYS);
    }
}
