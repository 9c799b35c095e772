//! The switchboard between a socket and nothing.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use microvm::domain::DomainId;
use switchboard::vhost_user::{VhostUserConfig, VhostUserServer};
use switchboard::{Counters, Switchboard};

use super::ends::EPOCH;
use super::null::{NullDomain, NullSlot};
use crate::frontend::GUEST_MAC;

/// It serves the guest [`GUEST_MAC`]. In this order things end.
pub(super) struct Alone {
    _domain: NullDomain,
    _server: VhostUserServer,
    switchboard: Switchboard,
    _null: NullSlot,
    socket: PathBuf,
}

impl Alone {
    /// Front-ends may connect. `source` is the frame that comes from nowhere, if any does.
    pub(super) fn start(source: Option<Vec<u8>>) -> Result<Self> {
        let null = NullSlot::new()?;
        let switchboard = null.switchboard(GUEST_MAC)?;
        let socket = format!("warmspare-bench-{}.sock", std::process::id());
        let socket = std::env::temp_dir().join(socket);
        let config = VhostUserConfig { socket: socket.clone(), mac: GUEST_MAC };
        let server = VhostUserServer::spawn(config, switchboard.port(0).context("no port")?)?;
        switchboard.install(DomainId(0), EPOCH)?;
        let domain = null.start(source)?;
        switchboard.activate(DomainId(0), EPOCH)?;
        Ok(Self { _domain: domain, _server: server, switchboard, _null: null, socket })
    }

    /// Where front-ends connect.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// What the switchboard counts.
    pub(super) fn counters(&self) -> &Counters {
        self.switchboard.counters()
    }
}
