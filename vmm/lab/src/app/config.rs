//! The configuration of the application guest.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

/// The port of the echo service (RFC 862).
pub(super) const ECHO_PORT: u16 = 7;

/// An IPv4 address with the length of its network prefix, written `10.0.0.2/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Cidr {
    /// The address.
    pub address: Ipv4Addr,
    /// 0 to 32.
    pub prefix_len: u8,
}

/// A MAC address of one station, written `52:54:00:00:00:02`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StationMac(pub [u8; 6]);

/// What the application guest is to be, and where its back-end is.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct AppConfig {
    /// vhost-user socket of the network back-end
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,
    /// MAC address, where the back-end does not name one
    #[arg(long, value_name = "MAC", default_value = "52:54:00:00:00:02")]
    pub mac: StationMac,
    /// IPv4 address and length of the network prefix
    #[arg(long = "ip", value_name = "A.B.C.D/LEN", default_value = "10.0.0.2/24")]
    pub address: Ipv4Cidr,
    /// UDP port that echoes
    #[arg(long, value_name = "PORT", default_value_t = ECHO_PORT,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub udp_port: u16,
}

/// Why an address on the command line is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not `A.B.C.D/LEN`.
    #[error("write it as A.B.C.D/LEN, for example 10.0.0.2/24")]
    CidrForm,
    /// Not the address of one station.
    #[error("it is not the address of a single station")]
    NotAStation,
    /// Not six bytes in hexadecimal.
    #[error("write it as six bytes in hexadecimal, for example 52:54:00:00:00:02")]
    MacForm,
}

impl FromStr for Ipv4Cidr {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (address, prefix_len) = text.split_once('/').ok_or(AddressError::CidrForm)?;
        let address: Ipv4Addr = address.parse().map_err(|_| AddressError::CidrForm)?;
        let prefix_len: u8 = prefix_len.parse().map_err(|_| AddressError::CidrForm)?;
        if prefix_len > 32 {
            return Err(AddressError::CidrForm);
        }
        if address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
            return Err(AddressError::NotAStation);
        }
        Ok(Self { address, prefix_len })
    }
}

impl FromStr for StationMac {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part =
                parts.next().filter(|part| is_hex_byte(part)).ok_or(AddressError::MacForm)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| AddressError::MacForm)?;
        }
        if parts.next().is_some() {
            return Err(AddressError::MacForm);
        }
        if !is_station(bytes) {
            return Err(AddressError::NotAStation);
        }
        Ok(Self(bytes))
    }
}

impl std::fmt::Display for StationMac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Returns true if this is two digits, without a sign, which the parser of numbers lets pass.
fn is_hex_byte(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Returns true if a MAC address can be that of one station: not zero, group bit clear.
pub(super) fn is_station(mac: [u8; 6]) -> bool {
    mac != [0; 6] && mac[0] & 1 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_written() {
        let cidr: Ipv4Cidr = "192.168.7.2/16".parse().unwrap();
        assert_eq!((cidr.address, cidr.prefix_len), (Ipv4Addr::new(192, 168, 7, 2), 16));
        let mac: StationMac = "52:54:00:ab:0C:01".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:ab:0c:01");
    }

    #[test]
    fn impossible_addresses_are_refused() {
        for text in ["", "10.0.0.2", "10.0.0.2/33", "10.0.0/8", "10.0.0.2/-1", "10.0.0.2/24/1"] {
            assert_eq!(text.parse::<Ipv4Cidr>(), Err(AddressError::CidrForm), "{text}");
        }
        for text in ["0.0.0.0/0", "224.0.0.1/4", "255.255.255.255/32"] {
            assert_eq!(text.parse::<Ipv4Cidr>(), Err(AddressError::NotAStation), "{text}");
        }
        for text in ["", "52:54:00:00:00", "52:54:00:00:00:02:03", "52:54:00:00:00:+2", "5:54"] {
            assert_eq!(text.parse::<StationMac>(), Err(AddressError::MacForm), "{text}");
        }
        for text in ["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01"] {
            assert_eq!(text.parse::<StationMac>(), Err(AddressError::NotAStation), "{text}");
        }
    }
}
