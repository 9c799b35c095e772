//! Groups as guests report them, and as they are reported for them.

use super::*;
use crate::announce::announcement::Announcement;
use crate::announce::report_frames::{Sources, next_report};
use crate::announce::reports;
use crate::vlan::Tags;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 9];
const GROUP: [u8; 4] = [239, 1, 2, 3];
const OTHER: [u8; 4] = [239, 1, 2, 4];
const GROUP6: [u8; 16] = [0xff, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3];
const SOURCES: Sources = Sources { v4: [10, 0, 0, 1], v6: [0xfe; 16] };

fn igmp(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 14 + 24];
    frame[12..16].copy_from_slice(&[8, 0, 0x46, 0xc0]);
    frame[14 + 9] = 2;
    frame.extend(message);
    frame
}

fn mld(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 14 + 40];
    frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
    frame.extend([58, 0, 5, 2, 0, 0, 1, 0]);
    frame.extend(message);
    frame
}

fn short(kind: u8, group: [u8; 4]) -> Vec<u8> {
    igmp(&[&[kind, 0, 0, 0][..], &group].concat())
}

fn short6(kind: u8, group: [u8; 16]) -> Vec<u8> {
    mld(&[&[kind, 0, 0, 0, 0, 0, 0, 0][..], &group].concat())
}

/// Kind, group, sources.
type Record<'a> = (u8, [u8; 4], &'a [[u8; 4]]);

/// A report of records.
fn long(records: &[Record<'_>]) -> Vec<u8> {
    let mut message = vec![0x22, 0, 0, 0, 0, 0, 0, records.len() as u8];
    for (kind, group, sources) in records {
        message.extend([*kind, 0, 0, sources.len() as u8]);
        message.extend(group);
        sources.iter().for_each(|source| message.extend(source));
    }
    igmp(&message)
}

fn hear(groups: &mut Groups, frame: &[u8]) {
    reports::read(frame, |change| groups.note(0, &change));
}

fn known(groups: &mut Groups) -> Vec<Group> {
    groups.list().iter().map(|it| it.group).collect()
}

/// All frames by which the groups of the first station are reported.
fn report(groups: &mut Groups) -> Vec<Vec<u8>> {
    groups.set_pending(|station| station == 0);
    let next = || {
        let report = next_report((0, MAC, Tags::NONE), &SOURCES, groups.list());
        report.map(|it: Announcement| it.bytes().to_vec())
    };
    std::iter::from_fn(next).collect()
}

/// What is known after the reports for these groups were heard by somebody who knows nothing.
fn heard_again(groups: &mut Groups) -> Groups {
    let mut again = Groups::new();
    report(groups).iter().for_each(|frame| hear(&mut again, frame));
    again
}

#[test]
fn each_version_joins_and_leaves_and_is_repeated_as_it_came() {
    let v4 = Group::V4(GROUP);
    let v6 = Group::V6(GROUP6);
    let with_count = |kind, address: &[u8]| [&[kind, 0, 0, 0][..], address].concat();
    let mldv2 = |kind| mld(&[&[143, 0, 0, 0, 0, 0, 0, 1][..], &with_count(kind, &GROUP6)].concat());
    for (join, leave, group, version, offset) in [
        (short(0x12, GROUP), short(0x17, GROUP), v4, 1, 38),
        (short(0x16, GROUP), short(0x17, GROUP), v4, 2, 38),
        (long(&[(4, GROUP, &[])]), long(&[(3, GROUP, &[])]), v4, 3, 38),
        (long(&[(2, GROUP, &[])]), long(&[(1, GROUP, &[])]), v4, 3, 38),
        (short6(131, GROUP6), short6(132, GROUP6), v6, 1, 62),
        (mldv2(4), mldv2(3), v6, 2, 62),
    ] {
        let mut groups = Groups::new();
        hear(&mut groups, &join);
        assert_eq!(known(&mut groups), [group]);
        assert_eq!(groups.list()[0].version, version);
        let frames = report(&mut groups);
        assert_eq!((frames.len(), frames[0][offset]), (1, join[offset]), "{group:?} {version}");
        assert_eq!(known(&mut heard_again(&mut groups)), [group]);
        hear(&mut groups, &leave);
        assert_eq!(known(&mut groups), []);
        assert!(report(&mut groups).is_empty());
    }
}

#[test]
fn reports_are_sound_packets() {
    use platform::checksum::{fold, sum};
    use smoltcp::wire::Ipv4Packet;
    let mut groups = Groups::new();
    hear(&mut groups, &long(&[(4, GROUP, &[]), (4, OTHER, &[])]));
    groups.join(0, Group::solicited_node([7; 16]));
    let [igmpv3, mldv2] = &report(&mut groups)[..] else { panic!("one frame of each family") };
    assert_eq!(igmpv3[..6], [1, 0, 0x5e, 0, 0, 22]);
    let packet = Ipv4Packet::new_checked(&igmpv3[14..]).unwrap();
    assert!(packet.verify_checksum());
    assert_eq!((packet.hop_limit(), packet.header_len(), packet.total_len()), (1, 24, 48));
    assert_eq!(packet.src_addr().octets(), SOURCES.v4);
    assert_eq!(fold(sum(packet.payload())), 0xffff);
    assert_eq!(mldv2[..6], [0x33, 0x33, 0, 0, 0, 0x16]);
    let (header, message) = mldv2[14..].split_at(48);
    assert_eq!((header[4..6].to_vec(), header[7]), (vec![0, 8 + 8 + 20], 1));
    assert_eq!(message.len(), 8 + 20);
    let pseudo = sum(&mldv2[22..54]) + message.len() as u64 + 58;
    assert_eq!(fold(pseudo + sum(message)), 0xffff);
    assert_eq!(message[12..], [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 7, 7, 7]);
}

#[test]
fn sources_come_and_go_with_their_group() {
    let [a, b]: [[u8; 4]; 2] = [[192, 0, 2, 1], [192, 0, 2, 2]];
    let wanted = |groups: &mut Groups| {
        let sources = groups.list()[0].sources().unwrap();
        sources.iter().map(|source| source[3]).collect::<Vec<_>>()
    };
    let mut groups = Groups::new();
    hear(&mut groups, &long(&[(5, GROUP, &[a])]));
    hear(&mut groups, &long(&[(5, GROUP, &[a, b])]));
    assert_eq!(wanted(&mut groups), [1, 2]);
    assert_eq!(wanted(&mut heard_again(&mut groups)), [1, 2]);
    hear(&mut groups, &long(&[(6, GROUP, &[a])]));
    assert_eq!(wanted(&mut groups), [2]);
    hear(&mut groups, &long(&[(6, GROUP, &[b])]));
    assert_eq!(known(&mut groups), []);
    hear(&mut groups, &long(&[(3, GROUP, &[b; 300])]));
    assert_eq!(wanted(&mut groups), [2]);
    let many: Vec<[u8; 4]> = (0..200).map(|last| [192, 0, 2, last]).collect();
    hear(&mut groups, &long(&[(1, GROUP, &many)]));
    assert_eq!(groups.list()[0].sources(), None, "any");
}

#[test]
fn what_is_no_group_is_not_noted() {
    let mut groups = Groups::new();
    for group in [[10, 0, 0, 1], [224, 0, 0, 1], [255; 4], [0; 4]] {
        hear(&mut groups, &short(0x16, group));
    }
    let all_nodes = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let own_host = [0xff, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
    for group in [all_nodes, own_host, [0xfe; 16], [0; 16]] {
        hear(&mut groups, &short6(131, group));
    }
    hear(&mut groups, &short(0x11, GROUP)); // a query
    hear(&mut groups, &long(&[(0, GROUP, &[]), (7, GROUP, &[]), (255, GROUP, &[])]));
    hear(&mut groups, &long(&[(1, GROUP, &[]), (5, GROUP, &[]), (6, GROUP, &[])]));
    assert_eq!(known(&mut groups), []);
}

#[test]
fn counts_that_lie_and_frames_cut_off_are_read_as_far_as_they_go() {
    let mut whole = long(&[(4, GROUP, &[]), (4, OTHER, &[])]);
    whole[38 + 6..38 + 8].fill(0xff);
    let mut groups = Groups::new();
    hear(&mut groups, &whole);
    assert_eq!(known(&mut groups).len(), 2, "what is there");
    whole[38 + 8 + 2..38 + 8 + 4].fill(0xff); // sources without end
    let mut none = Groups::new();
    hear(&mut none, &whole);
    assert_eq!(known(&mut none), []);
    let samples = [whole, short6(131, GROUP6), mld(&[143, 0, 0, 0, 0, 0, 0xff, 0xff])];
    for frame in &samples {
        for len in 0..frame.len() {
            hear(&mut groups, &frame[..len]);
            let mut broken = frame.clone();
            broken[len] = 0xff;
            hear(&mut groups, &broken);
        }
    }
}

#[test]
fn groups_are_bounded_and_the_oldest_makes_room() {
    let mut groups = Groups::new();
    for number in 0..1000_u16 {
        let [a, b] = number.to_be_bytes();
        hear(&mut groups, &short(0x16, [239, 9, a, b]));
        groups.refill();
    }
    assert_eq!(known(&mut groups).len(), GROUPS);
    assert!(known(&mut groups).contains(&Group::V4([239, 9, 3, 231])));
    assert!(!known(&mut groups).contains(&Group::V4([239, 9, 0, 1])));
    // Frames as long as they may be hold several.
    let mut groups = Groups::new();
    (0..100).for_each(|n| {
        groups.join(0, Group::V6([0xff, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, n]))
    });
    assert_eq!(report(&mut groups).len(), 5);
    assert_eq!(known(&mut heard_again(&mut groups)).len(), 100);
}

#[test]
fn who_leaves_an_unknown_group_takes_nobodys_place() {
    let mut groups = Groups::new();
    for n in 0..GROUPS as u8 {
        hear(&mut groups, &short(0x16, [239, 9, 0, n]));
    }
    let before = known(&mut groups);
    groups.refill();
    hear(&mut groups, &short(0x17, [239, 10, 0, 1]));
    assert_eq!(known(&mut groups), before);
}

#[test]
fn a_flood_of_reports_is_looked_at_a_few_at_a_time() {
    let mut groups = Groups::new();
    for number in 0..1000_u16 {
        let [a, b] = number.to_be_bytes();
        hear(&mut groups, &short(0x16, [239, 9, a, b]));
    }
    assert!(known(&mut groups).contains(&Group::V4([239, 9, 0, 255])));
    assert!(!known(&mut groups).contains(&Group::V4([239, 9, 3, 231])));
    groups.refill();
    hear(&mut groups, &short(0x16, GROUP));
    assert!(known(&mut groups).contains(&Group::V4(GROUP)));
}

#[test]
fn a_joined_group_is_reported_in_the_version_of_its_siblings() {
    let mut groups = Groups::new();
    let needed = Group::solicited_node([7; 16]);
    hear(&mut groups, &short6(131, GROUP6));
    groups.join(0, needed);
    groups.join(1, needed);
    let versions: Vec<_> = groups.list().iter().map(|it| it.version).collect();
    assert_eq!(versions, [1, 1, 2]);
    groups.forget(0);
    assert_eq!(known(&mut groups), [needed]);
}
