//! Where the driver spends its time under traffic: its instruction pointer, sampled.

use std::path::Path;
use std::time::{Duration, Instant};

use super::manifest::{Profile, ProfiledFunction};
use crate::injection::{
    Configuration, Emulated, Serving, Setup, SetupError, SystemUnderTest, Target,
};
use microvm::domain::VcpuState;
use platform::budget::CAMPAIGN;

/// Functions are chosen until they hold this share of the samples: the rest of the driver hardly
/// ever runs. The share is high because a function that never leaves the guest is short, and few
/// samples fall into it.
const ENOUGH: f64 = 0.995;
/// Between two samples, at random in this range, so that they do not keep step with the traffic.
const PAUSE_US: std::ops::Range<u64> = 20..120;

/// Samples the driver of a fresh system under traffic.
///
/// # Errors
/// The system does not come up.
pub(super) fn sample(
    target: &Target,
    period_us: u32,
    folder: &Path,
) -> Result<Profile, SetupError> {
    let setup = Setup {
        configuration: Configuration::FastSpare,
        period: Duration::from_micros(period_us.into()),
        folder,
        dumps: None,
    };
    let under_test = SystemUnderTest::start(&Emulated, &setup)?;
    let Serving { life, .. } = under_test.serving()?;
    let mut random = fastrand::Rng::new();
    life.begin_samples();
    let end = Instant::now() + CAMPAIGN.profile;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_micros(random.u64(PAUSE_US)));
        // A vCPU that is kicked anywhere else would be sampled where it left the guest.
        if life.state() == VcpuState::InGuest {
            life.interrupt();
        }
    }
    Ok(choose(target, &life.end_samples()))
}

/// Chooses the functions that hold most samples.
fn choose(target: &Target, samples: &[u64]) -> Profile {
    let mut counts: Vec<(usize, u64)> = Vec::new();
    let mut functions = target.functions().to_vec();
    functions.sort_by_key(|function| function.address);
    let mut all = vec![0u64; functions.len()];
    for sample in samples {
        let after = functions.partition_point(|f| f.address <= *sample);
        let within = |n: &usize| *sample < functions[*n].address + functions[*n].len;
        if let Some(n) = after.checked_sub(1).filter(within) {
            all[n] += 1;
        }
    }
    counts.extend(all.iter().copied().enumerate().filter(|(_, count)| *count > 0));
    counts.sort_by_key(|&(n, count)| (std::cmp::Reverse(count), n));
    let total: u64 = all.iter().sum();
    let mut profile =
        Profile { samples: total, text_bytes: target.text_bytes(), ..Profile::default() };
    let (mut taken, mut bytes) = (0, 0);
    for (n, samples) in counts {
        if taken as f64 >= ENOUGH * total as f64 {
            break;
        }
        let function = &functions[n];
        taken += samples;
        bytes += function.len;
        profile.functions.push(ProfiledFunction {
            name: function.name.clone(),
            samples,
            bytes: function.len,
        });
    }
    profile.sample_share = taken as f64 / total.max(1) as f64;
    profile.code_share = bytes as f64 / target.text_bytes().max(1) as f64;
    profile
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_sampled_functions_are_chosen_until_it_is_enough() {
        let target = Target::new(guest_images::DRIVER_DOMAIN).unwrap();
        let at = |name: &str| target.function(name).unwrap().address + 3;
        let mut samples = vec![at("domain_loop_turn"); 60];
        samples = samples.repeat(10);
        samples.extend([at("domain_rx_path"); 396]);
        samples.extend([at("domain_main"); 4]);
        // Outside of the text: the stub.
        samples.extend([0x1_0000; 50]);

        let profile = choose(&target, &samples);

        let names: Vec<&str> = profile.functions.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["domain_loop_turn", "domain_rx_path"]);
        assert_eq!((profile.samples, profile.sample_share), (1000, 0.996));
        assert!(profile.code_share > 0.01 && profile.code_share < 0.5);
    }
}
