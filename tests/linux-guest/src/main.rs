//! Init of a Linux guest whose network is under test.
//!
//! It brings up its one virtio NIC, or uses two NICs as a user would (`warmspare.nics=pair`). It
//! echoes UDP and TCP, sends and receives bulk data whose contents are checked, and carries out the
//! requests that arrive as lines on its second serial port. After a reboot it says `ready` again.

mod bulk;
mod control;
mod echo;
mod listener;
mod pair;
mod sys;

use pair::Pair;

/// The serial port that requests arrive on.
const CONTROL: &str = "/dev/ttyS1";

/// Driver of the NIC under test.
const VIRTIO: &str = "virtio_net";

fn main() {
    if let Err(error) = begin() {
        println!("init: {error}");
        sys::power_off();
    }
}

fn begin() -> std::io::Result<()> {
    sys::mount_all()?;
    sys::load_modules()?;
    let address = sys::boot_argument("warmspare.ip").unwrap_or_else(|| "10.77.0.2".into());
    let address = address.parse().map_err(std::io::Error::other)?;
    sys::configure("lo", [127, 0, 0, 1].into())?;
    let pair = match sys::boot_argument("warmspare.nics").as_deref() {
        Some("pair") => Some(Pair::new(address)?),
        _ => {
            let [interface] = sys::wait_interfaces(VIRTIO)?;
            sys::configure(&interface, address)?;
            None
        }
    };
    echo::spawn()?;
    bulk::spawn()?;
    control::serve(CONTROL, address, pair)
}
