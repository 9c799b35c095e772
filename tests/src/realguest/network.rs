//! What QEMU gives a Linux guest for a network.

use std::path::PathBuf;

use super::lan::TAPS;

/// Driver of the guest's NICs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// virtio_net.
    Virtio,
    /// igb, and bonding over two of them.
    Igb,
}

/// The guest's NICs, and what is behind them.
pub(crate) enum Network {
    /// One virtio NIC on a vhost-user socket.
    VhostUser {
        /// The back-end's.
        socket: PathBuf,
        /// The NIC's address.
        mac: String,
        /// How long QEMU waits before it connects again.
        reconnect_ms: u32,
    },
    /// One virtio NIC on the first TAP of a LAN, by QEMU's own back-end.
    Tap {
        /// The namespace of the TAP.
        namespace: String,
        /// The NIC's address.
        mac: String,
    },
    /// Two igb, one on each TAP of a LAN; their names for [`super::guest::LinuxGuest::set_link`] are
    /// [`PAIR`].
    TwoIgb {
        /// The namespace of the TAPs.
        namespace: String,
    },
}

/// The two igb's names.
pub(crate) const PAIR: [&str; 2] = ["nic0", "nic1"];
/// Their addresses.
pub(crate) const PAIR_MACS: [&str; 2] = ["52:54:00:77:73:10", "52:54:00:77:73:11"];

impl Network {
    /// Which driver the guest needs.
    pub(crate) fn driver(&self) -> Driver {
        match self {
            Self::VhostUser { .. } | Self::Tap { .. } => Driver::Virtio,
            Self::TwoIgb { .. } => Driver::Igb,
        }
    }

    /// What the guest's init is told of it.
    pub(super) fn boot_word(&self) -> &'static str {
        match self.driver() {
            Driver::Virtio => "one",
            Driver::Igb => "pair",
        }
    }

    /// What stands before QEMU on the command line, to run it where its TAPs are.
    pub(super) fn entrance(&self) -> Vec<String> {
        match self {
            Self::VhostUser { .. } => Vec::new(),
            Self::Tap { namespace, .. } | Self::TwoIgb { namespace } => {
                ["ip", "netns", "exec", namespace].map(str::to_owned).to_vec()
            }
        }
    }

    /// QEMU's arguments, with single spaces.
    pub(super) fn arguments(&self) -> String {
        match self {
            Self::VhostUser { socket, mac, reconnect_ms } => format!(
                "-chardev socket,id=c,path={},reconnect-ms={reconnect_ms} \
                 -netdev vhost-user,id=n,chardev=c,queues=1 \
                 -device virtio-net-pci,netdev=n,mac={mac},romfile=",
                socket.display()
            ),
            Self::Tap { mac, .. } => {
                format!("{} -device virtio-net-pci,netdev=n,mac={mac},romfile=", tap("n", TAPS[0]))
            }
            Self::TwoIgb { .. } => {
                let nic = |n: usize| {
                    let (name, mac, tap) = (PAIR[n], PAIR_MACS[n], tap(&format!("n{n}"), TAPS[n]));
                    // As a PCIe device: behind a root port of its own.
                    format!(
                        "{tap} -device pcie-root-port,id=port{n},chassis={n} \
                         -device igb,id={name},netdev=n{n},mac={mac},bus=port{n},romfile="
                    )
                };
                format!("{} {}", nic(0), nic(1))
            }
        }
    }
}

fn tap(id: &str, name: &str) -> String {
    format!("-netdev tap,id={id},ifname={name},script=no,downscript=no")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_words_between_single_spaces() {
        let namespace = "ns".to_owned();
        let all = [
            Network::VhostUser { socket: "/s".into(), mac: "m".into(), reconnect_ms: 1 },
            Network::Tap { namespace: namespace.clone(), mac: "m".into() },
            Network::TwoIgb { namespace },
        ];
        for network in all {
            assert!(network.arguments().split(' ').all(|word| !word.is_empty()));
        }
    }
}
