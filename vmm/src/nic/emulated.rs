//! A software model of the NIC.
