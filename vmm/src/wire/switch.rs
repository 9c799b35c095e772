//! Placeholder until the switch lands.
/// A learning Ethernet switch.
pub struct EthernetSwitch;
/// One of its ports.
pub struct Port;
