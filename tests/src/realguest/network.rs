//! The networks that QEMU can give a Linux guest.

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
        /// Path of the back-end's socket.
        socket: PathBuf,
        /// The NIC's address.
        mac: String,
        /// How long QEMU waits before it connects again.
        reconnect_ms: u32,
    },
    /// One virtio NIC on the first TAP of a LAN, with QEMU's own back-end.
    Tap {
        /// The namespace of the TAP.
        namespace: String,
        /// The NIC's address.
        mac: String,
    },
    /// Two igb NICs, one on each TAP of a LAN; their names for
    /// [`super::guest::LinuxGuest::set_link`] are [`PAIR`].
    TwoIgb {
        /// The namespace of the TAPs.
        namespace: String,
    },
}

/// Names of the two igb NICs.
pub(crate) const PAIR: [&str; 2] = ["nic0", "nic1"];
/// MAC addresses of the two igb NICs.
pub(crate) const PAIR_MACS: [&str; 2] = ["52:54:00:77:73:10", "52:54:00:77:73:11"];

impl Network {
    /// Returns the driver that the guest needs.
    pub(crate) fn driver(&self) -> Driver {
        match self {
            Self::VhostUser { .. } | Self::Tap { .. } => Driver::Virtio,
            Self::TwoIgb { .. } => Driver::Igb,
        }
    }

    /// The value of `warmspare.nics` on the kernel's command line, which tells the guest's init how
    /// many NICs it has.
    pub(super) fn boot_word(&self) -> &'static str {
        match self.driver() {
            Driver::Virtio => "one",
            Driver::Igb => "pair",
        }
    }

    /// The words before QEMU on the command line, which run it in the namespace of its TAPs.
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
                    // An igb is a PCIe device, so each is behind its own root port.
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
