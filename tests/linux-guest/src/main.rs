//! Init of a Linux guest whose network is under test.
//!
//! It brings its one virtio NIC up, echoes UDP and TCP, moves bulk data with its contents checked,
//! and does what a line on its second serial port asks for. Started anew by a reboot, it says
//! `ready` again.

mod bulk;
mod control;
mod echo;
mod sys;

/// Where requests come from.
const CONTROL: &str = "/dev/ttyS1";

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
    let interface = sys::wait_interface()?;
    sys::configure(&interface, address)?;
    echo::spawn()?;
    bulk::spawn()?;
    control::serve(CONTROL, address)
}
