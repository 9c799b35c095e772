//! The switchboard between a vhost-user socket and a null domain.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use microvm::domain::DomainId;
use switchboard::vhost_user::{SocketConfig, SocketRights, VhostUserConfig, VhostUserServer};
use switchboard::{Counters, Switchboard};

use super::ends::EPOCH;
use super::null::{NullDomain, NullSlot};
use crate::frontend::GUEST_MAC;

/// A switchboard that serves the guest [`GUEST_MAC`]. Its fields are dropped in this order.
pub(super) struct Alone {
    _domain: NullDomain,
    _server: VhostUserServer,
    switchboard: Switchboard,
    _null: NullSlot,
    socket: PathBuf,
}

impl Alone {
    /// Starts it; front-ends may connect from then on. `source`, if given, is the frame that the
    /// guest receives over and over.
    pub(super) fn start(source: Option<Vec<u8>>) -> Result<Self> {
        let null = NullSlot::new()?;
        let switchboard = null.switchboard(GUEST_MAC)?;
        let socket = format!("warmspare-bench-{}.sock", std::process::id());
        let socket = std::env::temp_dir().join(socket);
        let listen =
            SocketConfig::Listen { path: socket.clone(), rights: SocketRights::OWNER_ONLY };
        let config = VhostUserConfig { socket: listen, mac: GUEST_MAC };
        let server = VhostUserServer::spawn(config, switchboard.port(0).context("no port")?)?;
        switchboard.install(DomainId(0), EPOCH)?;
        let domain = null.start(source)?;
        switchboard.activate(DomainId(0), EPOCH)?;
        Ok(Self { _domain: domain, _server: server, switchboard, _null: null, socket })
    }

    /// The socket that front-ends connect to.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The switchboard's counters.
    pub(super) fn counters(&self) -> &Counters {
        self.switchboard.counters()
    }
}
