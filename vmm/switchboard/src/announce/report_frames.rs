//! The frames that report a guest's groups for it: in the version of the protocol in which the guest
//! reported them, so that no querier falls back to an older one for their sake.

use platform::checksum::{fold, sum};

use super::announcement::{ANNOUNCEMENT_BYTES, Announcement, icmpv6_checksum};
use super::groups::Membership;
use super::neighbours::{ICMPV6, IPV4, IPV6};
use super::reports::{
    Group, HOP_BY_HOP, IGMP, IGMPV1_REPORT, IGMPV2_REPORT, IGMPV3_REPORT, MLDV1_REPORT,
    MLDV2_REPORT,
};
use crate::vlan::Tags;

type Frame = [u8; ANNOUNCEMENT_BYTES];

/// Where the message is behind Ethernet and an IPv4 header with a router alert.
const IGMP_AT: usize = 14 + 24;
/// Where it is behind Ethernet, an IPv6 header and a router alert.
const MLD_AT: usize = 14 + 40 + 8;
/// All routers that understand IGMPv3 (RFC 3376, 4.2.14).
const IGMPV3_ROUTERS: [u8; 4] = [224, 0, 0, 22];
/// All routers that understand MLDv2 (RFC 3810, 5.2.14).
const MLDV2_ROUTERS: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x16];

/// The sources of reports: an address of the station, or none, which both protocols allow
/// (RFC 3376, 4.2.13; RFC 3810, 5.2.13).
#[derive(Clone, Copy, Debug)]
pub(super) struct Sources {
    pub(super) v4: [u8; 4],
    pub(super) v6: [u8; 16],
}

/// Reports the first pending group of a station, and with it as many as one frame holds; they are
/// pending no more. `None` if none is pending.
pub(super) fn next_report(
    station: (usize, [u8; 6], Tags),
    sources: &Sources,
    groups: &mut [Membership],
) -> Option<Announcement> {
    let (number, mac, tags) = station;
    let is_next = |it: &Membership| it.pending && it.station == number;
    let first = *groups.iter().find(|it| is_next(it))?;
    let many = first.version == first.group.newest_version();
    let is_with = |it: &Membership| {
        is_next(it) && it.group.is_alike(first.group) && it.version == first.version
    };
    let mut next = groups.iter_mut().filter(|it| is_with(it));
    let announcement = Announcement::write((mac, tags), |frame| match (first.group, many) {
        (Group::V4(_), true) => igmpv3(frame, sources.v4, next),
        (Group::V6(_), true) => mldv2(frame, sources.v6, next),
        (Group::V4(group), false) => {
            next.next().into_iter().for_each(|it| it.pending = false);
            igmp(frame, sources.v4, group, first.version)
        }
        (Group::V6(group), false) => {
            next.next().into_iter().for_each(|it| it.pending = false);
            mldv1(frame, sources.v6, group)
        }
    });
    Some(announcement)
}

/// A report of one group, to that group.
fn igmp(frame: &mut Frame, source: [u8; 4], group: [u8; 4], version: u8) -> usize {
    frame[IGMP_AT] = if version == 1 { IGMPV1_REPORT } else { IGMPV2_REPORT };
    frame[IGMP_AT + 4..IGMP_AT + 8].copy_from_slice(&group);
    finish_igmp(frame, source, group, IGMP_AT + 8)
}

fn igmpv3<'a>(
    frame: &mut Frame,
    source: [u8; 4],
    groups: impl Iterator<Item = &'a mut Membership>,
) -> usize {
    frame[IGMP_AT] = IGMPV3_REPORT;
    let (count, end) = write_records::<4>(frame, IGMP_AT + 8, groups);
    frame[IGMP_AT + 6..IGMP_AT + 8].copy_from_slice(&count.to_be_bytes());
    finish_igmp(frame, source, IGMPV3_ROUTERS, end)
}

/// Writes the headers and the checksums of a message that ends there. Returns that.
fn finish_igmp(frame: &mut Frame, source: [u8; 4], to: [u8; 4], end: usize) -> usize {
    let checksum = !fold(sum(&frame[IGMP_AT..end]));
    frame[IGMP_AT + 2..IGMP_AT + 4].copy_from_slice(&checksum.to_be_bytes());
    frame[..6].copy_from_slice(&[1, 0, 0x5e, to[1] & 0x7f, to[2], to[3]]);
    frame[12..14].copy_from_slice(&IPV4);
    // Version 4, six words; "internetwork control" (RFC 3376, 4).
    frame[14..16].copy_from_slice(&[0x46, 0xc0]);
    frame[16..18].copy_from_slice(&((end - 14) as u16).to_be_bytes());
    frame[20] = 0x40; // do not fragment
    frame[22..24].copy_from_slice(&[1, IGMP]); // of this link alone
    frame[26..30].copy_from_slice(&source);
    frame[30..34].copy_from_slice(&to);
    frame[34..38].copy_from_slice(&[0x94, 4, 0, 0]); // router alert (RFC 2113)
    let checksum = !fold(sum(&frame[14..IGMP_AT]));
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    end
}

/// A report of one group, to that group.
fn mldv1(frame: &mut Frame, source: [u8; 16], group: [u8; 16]) -> usize {
    frame[MLD_AT] = MLDV1_REPORT;
    frame[MLD_AT + 8..MLD_AT + 24].copy_from_slice(&group);
    finish_mld(frame, source, group, MLD_AT + 24)
}

fn mldv2<'a>(
    frame: &mut Frame,
    source: [u8; 16],
    groups: impl Iterator<Item = &'a mut Membership>,
) -> usize {
    frame[MLD_AT] = MLDV2_REPORT;
    let (count, end) = write_records::<16>(frame, MLD_AT + 8, groups);
    frame[MLD_AT + 6..MLD_AT + 8].copy_from_slice(&count.to_be_bytes());
    finish_mld(frame, source, MLDV2_ROUTERS, end)
}

/// Writes the headers and the checksum of a message that ends there. Returns that.
fn finish_mld(frame: &mut Frame, source: [u8; 16], to: [u8; 16], end: usize) -> usize {
    let [.., a, b, c, d] = to;
    frame[..6].copy_from_slice(&[0x33, 0x33, a, b, c, d]);
    frame[12..14].copy_from_slice(&IPV6);
    frame[14] = 0x60; // version 6
    frame[18..20].copy_from_slice(&((end - 54) as u16).to_be_bytes());
    frame[20..22].copy_from_slice(&[HOP_BY_HOP, 1]); // of this link alone
    frame[22..38].copy_from_slice(&source);
    frame[38..54].copy_from_slice(&to);
    // Router alert for MLD (RFC 2711), and two bytes of padding.
    frame[54..MLD_AT].copy_from_slice(&[ICMPV6, 0, 5, 2, 0, 0, 1, 0]);
    let checksum = icmpv6_checksum(&frame[22..54], &frame[MLD_AT..end]);
    frame[MLD_AT + 2..MLD_AT + 4].copy_from_slice(&checksum.to_be_bytes());
    end
}

/// Writes group records (current state: include or exclude) as far as there is room. Returns how
/// many, and where they end.
fn write_records<'a, const ADDRESS_BYTES: usize>(
    frame: &mut Frame,
    mut at: usize,
    groups: impl Iterator<Item = &'a mut Membership>,
) -> (u16, usize) {
    const INCLUDE: u8 = 1;
    const EXCLUDE: u8 = 2;
    let mut count = 0;
    for member in groups {
        let sources = member.sources().unwrap_or_default();
        let len = 4 + ADDRESS_BYTES * (1 + sources.len());
        let Some(record) = frame.get_mut(at..at + len) else { break };
        record[0] = if member.sources().is_some() { INCLUDE } else { EXCLUDE };
        record[3] = sources.len() as u8;
        match &member.group {
            Group::V4(address) => record[4..4 + ADDRESS_BYTES].copy_from_slice(address),
            Group::V6(address) => record[4..4 + ADDRESS_BYTES].copy_from_slice(address),
        }
        for (place, source) in record[4 + ADDRESS_BYTES..].chunks_mut(ADDRESS_BYTES).zip(sources) {
            place.copy_from_slice(&source[..ADDRESS_BYTES]);
        }
        member.pending = false;
        at += len;
        count += 1;
    }
    (count, at)
}
