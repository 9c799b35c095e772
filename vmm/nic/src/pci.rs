//! PCI addresses, and which PCI devices are NICs that the driver knows.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Vendor number of Intel.
pub const VENDOR_INTEL: u16 = 0x8086;

/// Where a PCI function sits: domain, bus, device, function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciAddress {
    domain: u16,
    bus: u8,
    device: u8,
    function: u8,
}

/// Text that is no PCI address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no PCI address: write it as `lspci -D` does, such as 0000:01:00.0")]
pub struct BadPciAddress(String);

impl FromStr for PciAddress {
    type Err = BadPciAddress;

    /// Reads `0000:01:00.0`, or `01:00.0` for PCI domain 0.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| BadPciAddress(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<PciAddress> {
    let (rest, function) = text.rsplit_once('.')?;
    let (rest, device) = rest.rsplit_once(':')?;
    let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
    let address = PciAddress {
        domain: hex(domain, 4)?,
        bus: hex(bus, 2)?.try_into().ok()?,
        device: hex(device, 2)?.try_into().ok()?,
        function: hex(function, 1)?.try_into().ok()?,
    };
    (address.device < 32 && address.function < 8).then_some(address)
}

/// Up to `digits` hexadecimal digits; no sign, which the standard parser would let pass.
fn hex(text: &str, digits: usize) -> Option<u16> {
    let plain = (1..=digits).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u16::from_str_radix(text, 16).ok()).flatten()
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, bus, device, function } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

impl TryFrom<String> for PciAddress {
    type Error = BadPciAddress;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PciAddress> for String {
    fn from(address: PciAddress) -> Self {
        address.to_string()
    }
}

impl JsonSchema for PciAddress {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PciAddress".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^([0-9a-fA-F]{1,4}:)?[0-9a-fA-F]{1,2}:[0-9a-fA-F]{1,2}\\.[0-7]$",
            "description": "PCI address, as 0000:01:00.0"
        })
    }
}

/// A NIC of the igb family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    /// PCI device number; the vendor is Intel.
    pub device: u16,
    /// Name for people.
    pub name: &'static str,
    /// Transmit queues, and as many receive queues.
    pub queues: u32,
    /// Why the driver cannot use it, if it cannot.
    pub unsupported: Option<&'static str>,
}

const NO_COPPER: &str = "its link is not copper, and the driver negotiates only copper links";
const BLANK: &str = "its flash is empty, so that it does not know what it is: write Intel's image for \
                     this board to it, after which it comes up as 8086:1533 (an i211 as 8086:1539)";
const OTHER_MODEL: &str = "the driver knows only i210, i211 and 82576";

const fn usable(device: u16, name: &'static str, queues: u32) -> Model {
    Model { device, name, queues, unsupported: None }
}

const fn refused(device: u16, name: &'static str, why: &'static str) -> Model {
    Model { device, name, queues: 4, unsupported: Some(why) }
}

/// The family, as far as it is worth telling its members apart.
const FAMILY: [Model; 24] = [
    usable(0x10c9, "82576", 16),
    usable(0x1533, "i210", 4),
    usable(0x157b, "i210 (flashless)", 4),
    usable(0x1539, "i211", 2),
    refused(0x1531, "i210 (blank)", BLANK),
    refused(0x1532, "i211 (blank)", BLANK),
    refused(0x1536, "i210 (fibre)", NO_COPPER),
    refused(0x1537, "i210 (SerDes)", NO_COPPER),
    refused(0x1538, "i210 (SGMII)", NO_COPPER),
    refused(0x157c, "i210 (SerDes, flashless)", NO_COPPER),
    refused(0x10e6, "82576 (fibre)", NO_COPPER),
    refused(0x10e7, "82576 (SerDes)", NO_COPPER),
    refused(0x10e8, "82576 (quad copper)", OTHER_MODEL),
    refused(0x1526, "82576 (quad copper ET2)", OTHER_MODEL),
    refused(0x150a, "82576 (NS)", OTHER_MODEL),
    refused(0x10a7, "82575", OTHER_MODEL),
    refused(0x10a9, "82575 (fibre or SerDes)", OTHER_MODEL),
    refused(0x150e, "82580", OTHER_MODEL),
    refused(0x1521, "i350", OTHER_MODEL),
    refused(0x1522, "i350 (fibre)", OTHER_MODEL),
    refused(0x1523, "i350 (SerDes)", OTHER_MODEL),
    refused(0x1524, "i350 (SGMII)", OTHER_MODEL),
    refused(0x1f40, "i354", OTHER_MODEL),
    refused(0x1f41, "i354 (SGMII)", OTHER_MODEL),
];

impl Model {
    /// Returns true if it has no identity of its own yet.
    pub fn is_blank(&self) -> bool {
        self.unsupported == Some(BLANK)
    }

    /// The family member with these numbers; `None` for any other device.
    pub fn of(vendor: u16, device: u16) -> Option<Self> {
        FAMILY.into_iter().find(|model| vendor == VENDOR_INTEL && model.device == device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_text() {
        let address: PciAddress = "0000:01:00.0".parse().unwrap();
        assert_eq!(address.to_string(), "0000:01:00.0");
        assert_eq!("01:00.0".parse(), Ok(address));
        assert_eq!("ABCD:ff:1f.7".parse::<PciAddress>().unwrap().to_string(), "abcd:ff:1f.7");
    }

    #[test]
    fn what_is_no_address_is_refused_with_an_example() {
        for text in ["", "eth0", "01:00", "0000:01:20.0", "0000:01:00.8", "0:+1:00.0", "::.", "1.0"]
        {
            let error = text.parse::<PciAddress>().unwrap_err().to_string();
            assert!(error.contains("0000:01:00.0"), "{error}");
        }
    }

    #[test]
    fn the_family_knows_what_the_driver_can_drive() {
        assert_eq!(Model::of(0x8086, 0x1533).unwrap().unsupported, None);
        assert!(Model::of(0x8086, 0x1537).unwrap().unsupported.is_some());
        assert_eq!(Model::of(0x1af4, 0x1533), None);
        assert_eq!(Model::of(0x8086, 0x10d3), None);
    }
}
