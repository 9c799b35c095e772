//! The switchboard alone, with testpmd's virtio front-end as the source. That front-end polls, and
//! another processor has just written each frame that it sends, as with a guest.
//!
//! testpmd has a processor of its own. The switchboard and the sink behind it share the other one:
//! the switchboard runs first, and sleeps when the pool is full of frames that the sink has not
//! taken. So the measured rate is that of both in turn. The rate that the switchboard could reach
//! by itself is given beside it, computed from the time that its own thread ran.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use platform::realtime;
use supervisor::topology::MacAddress;

use super::PATH_GROUP as GROUP;
use super::testpmd::{BACKEND_PROCESSOR, Frontend, Mode};
use crate::bench::alone::Alone;
use crate::bench::path::SIZES;
use crate::bench::sample::{Row, Sample};
use crate::bench::{BenchArgs, Figure};
use crate::frontend::GUEST_MAC;
use crate::realguest::lan::Namespace;

/// From the front-end's first figures until traffic is steady.
const WARM_UP: Duration = Duration::from_millis(200);

/// Measures the rows of this group.
pub(super) fn measure(namespace: &Namespace, args: &BenchArgs) -> Vec<Figure> {
    let rows = SIZES.into_iter().flat_map(|(size, bytes)| {
        let row = format!("switchboard alone, testpmd, {size}, guest to wire");
        eprintln!("bench: {row}");
        let samples: Result<Vec<_>> =
            (0..args.runs).map(|_| sample(namespace, args.time(), bytes)).collect();
        match samples {
            Ok(samples) => {
                Row { group: GROUP, name: &row, samples: &samples }.alone(size == "64 B")
            }
            Err(why) => {
                vec![Figure::missing(GROUP, &row, ("rate", "frames/s"), &format!("{why:#}"))]
            }
        }
    });
    rows.collect()
}

fn sample(namespace: &Namespace, time: Duration, bytes: usize) -> Result<Sample> {
    let alone = on_processor(BACKEND_PROCESSOR, || Alone::start(None))?;
    let mac = MacAddress(GUEST_MAC).to_string();
    let frontend = Frontend::start(namespace, alone.socket(), &mac, Mode::Send, bytes)?;
    std::thread::sleep(WARM_UP);
    let counters = alone.counters();
    let sample = Sample::take(counters, || {
        let before = counters.tx_frames.get();
        std::thread::sleep(time);
        counters.tx_frames.get() - before
    });
    frontend.end()?;
    ensure!(sample.frames > 0, "no frame arrived");
    Ok(sample)
}

/// Calls a function whose thread, and every thread that it starts, stays on one processor.
fn on_processor<T: Send>(processor: usize, run: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let pinned = || {
        let pinned = realtime::pin_to(processor..processor + 1);
        pinned.with_context(|| format!("processor {processor} may not be used"))?;
        run()
    };
    std::thread::scope(|scope| match scope.spawn(pinned).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
