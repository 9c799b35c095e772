//! Stations: MAC addresses and VLANs, and in which order they are announced.

use super::*;
use crate::announce::announcement::Announced;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 9];
/// Addresses that the guest has beside its own.
const BEHIND: [u8; 6] = [2, 0, 0, 0, 1, 1];
const FURTHER: [u8; 6] = [2, 0, 0, 0, 1, 2];
const NOW_S: u32 = 100;

fn say_at(stations: &mut Stations, frame: &[u8], now_s: u32) {
    let mut glance = [0; GLANCE_BYTES];
    let len = frame.len().min(GLANCE_BYTES);
    glance[..len].copy_from_slice(&frame[..len]);
    stations.learn(&glance, now_s, |bytes| {
        let len = bytes.len().min(frame.len());
        bytes[..len].copy_from_slice(&frame[..len]);
        len
    });
}

fn say(stations: &mut Stations, frame: &[u8]) {
    say_at(stations, frame, NOW_S);
}

/// A claim of an address in a VLAN.
fn claim(vlan: u16, last: u8) -> Vec<u8> {
    claim_from(MAC, vlan, last)
}

fn claim_from(mac: [u8; 6], vlan: u16, last: u8) -> Vec<u8> {
    Announcement::new((mac, tags(vlan)), Announced::V4([10, 0, 0, last])).bytes().to_vec()
}

/// The announcement of a station whose addresses are not known.
fn nameless(mac: [u8; 6], vlan: u16) -> Vec<u8> {
    Announcement::new((mac, tags(vlan)), Announced::Nothing).bytes().to_vec()
}

fn tags(vlan: u16) -> Tags {
    if vlan == 0 { Tags::NONE } else { Tags::customer(vlan) }
}

/// A frame of the guest in a VLAN, of no protocol that says anything.
fn frame(vlan: u16) -> Vec<u8> {
    Announcement::write((MAC, tags(vlan)), |frame| {
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        60
    })
    .bytes()
    .to_vec()
}

/// All announcements of a round.
fn round(stations: &mut Stations, now_s: u32) -> Vec<Vec<u8>> {
    stations.mark_all(now_s);
    let next = || stations.next(now_s).map(|it| it.bytes().to_vec());
    let round = std::iter::from_fn(next).collect();
    assert!(!stations.is_pending());
    round
}

#[test]
fn each_vlan_is_announced_with_its_own_addresses_the_busiest_first() {
    let mut stations = Stations::new(MAC);
    say(&mut stations, &claim(0, 1));
    (1..=3).for_each(|last| say(&mut stations, &claim(100, last)));
    (0..9).for_each(|_| say(&mut stations, &frame(7)));
    let expected = [nameless(MAC, 7), claim(100, 1), claim(0, 1), claim(100, 2), claim(100, 3)];
    assert_eq!(round(&mut stations, NOW_S), expected);
}

#[test]
fn a_guest_that_has_said_nothing_is_announced_without_tags_and_one_that_only_tags_is_not() {
    let mut stations = Stations::new(MAC);
    assert_eq!(round(&mut stations, NOW_S), [nameless(MAC, 0)]);
    say(&mut stations, &frame(100));
    assert_eq!(round(&mut stations, NOW_S), [nameless(MAC, 100)]);
}

#[test]
fn double_tags_are_learned_and_announced() {
    let (outer, _) = Tags::read(&[&[0; 12][..], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0]].concat());
    let claim = Announcement::new((MAC, outer), Announced::V4([10, 0, 0, 1])).bytes().to_vec();
    assert_eq!(claim.len(), 68);
    let mut stations = Stations::new(MAC);
    say(&mut stations, &claim);
    assert_eq!(round(&mut stations, NOW_S), [claim]);
}

#[test]
fn a_flood_of_vlans_is_bounded_and_leaves_the_untagged_station() {
    let mut stations = Stations::new(MAC);
    say(&mut stations, &claim(0, 1));
    for vlan in 1..4000 {
        say_at(&mut stations, &claim(vlan, 1), NOW_S + u32::from(vlan));
        stations.refill();
    }
    let now_s = NOW_S + 4000;
    stations.list[0].heard_s = Some(now_s);
    let round = round(&mut stations, now_s);
    let announced = round.iter().filter(|frame| frame[12..14] != [0x86, 0xdd]).count();
    assert_eq!(announced, STATIONS);
    assert!(round.contains(&claim(3999, 1)) && !round.contains(&claim(3, 1)));
}

#[test]
fn a_vlan_that_is_not_used_any_more_is_not_announced() {
    let mut stations = Stations::new(MAC);
    say(&mut stations, &frame(100));
    let later_s = NOW_S + VLAN_AGE.as_secs() as u32 + 1;
    assert_eq!(round(&mut stations, later_s).len(), 1, "the guest is quiet in all of them");
    say_at(&mut stations, &claim(200, 1), later_s);
    assert_eq!(round(&mut stations, later_s), [claim(200, 1)]);
}

#[test]
fn an_address_of_one_vlan_is_not_forgotten_for_a_claim_in_another() {
    let heard = |by| Heard::read(claim_of(by).first_chunk().unwrap()).unwrap();
    let mut stations = Stations::new(MAC);
    say(&mut stations, &claim(100, 1));
    stations.hear_other(tags(200), &heard([2; 6]), NOW_S);
    stations.hear_other(tags(0), &heard([2; 6]), NOW_S);
    stations.hear_other(tags(100), &heard(MAC), NOW_S);
    assert_eq!(round(&mut stations, NOW_S), [claim(100, 1)]);
    stations.hear_other(tags(100), &heard([2; 6]), NOW_S);
    assert_eq!(round(&mut stations, NOW_S), [nameless(MAC, 100)]);
}

/// Somebody's claim of the first address.
fn claim_of(by: [u8; 6]) -> Vec<u8> {
    let mut frame = claim(0, 1);
    frame.resize(LEARN_BYTES, 0);
    frame[22..28].copy_from_slice(&by);
    frame
}

#[test]
fn groups_are_reported_in_their_vlan_behind_the_first_announcements() {
    let group = |vlan: u16| {
        Announcement::write((MAC, tags(vlan)), |frame| {
            frame[12..16].copy_from_slice(&[8, 0, 0x46, 0xc0]);
            frame[23] = 2;
            frame[38..46].copy_from_slice(&[0x16, 0, 0, 0, 239, 1, 2, vlan as u8]);
            60
        })
    };
    let mut stations = Stations::new(MAC);
    (1..=2).for_each(|last| say(&mut stations, &claim(100, last)));
    say(&mut stations, group(100).bytes());
    say(&mut stations, group(0).bytes());
    let round = round(&mut stations, NOW_S);
    let is_report = |frame: &Vec<u8>| {
        let (_, at) = Tags::read(frame);
        frame[at..at + 2] == [8, 0]
    };
    let places: Vec<_> = (0..round.len()).filter(|n| is_report(&round[*n])).collect();
    assert_eq!(places, [2, 3], "of {}", round.len());
    assert_eq!((round[2][12..16].to_vec(), round[2][27]), (vec![0x81, 0, 0, 100], 2));
    assert_eq!(round[2][46..50], [239, 1, 2, 100]);
    assert_eq!(round[3][42..46], [239, 1, 2, 0]);
}

#[test]
fn the_groups_of_learned_ipv6_addresses_are_reported() {
    let address = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let advertisement =
        Announcement::new((MAC, tags(100)), Announced::V6 { address, is_router: false });
    let mut stations = Stations::new(MAC);
    say(&mut stations, advertisement.bytes());
    let round = round(&mut stations, NOW_S);
    assert_eq!(round.len(), 2);
    assert_eq!(round[0], advertisement.bytes());
    let report = &round[1];
    assert_eq!((&report[12..18], report[66]), (&[0x81, 0, 0, 100, 0x86, 0xdd][..], 143));
    assert_eq!(report[26..42], address, "from the link-local address");
    assert_eq!(report[78..94], [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 6, 7, 8]);
}

#[test]
fn a_switch_has_come_round_when_all_vlans_have() {
    let mut stations = Stations::new(MAC);
    assert!(!stations.have_returned(), "nothing was announced");
    say(&mut stations, &frame(0));
    say(&mut stations, &frame(100));
    stations.mark_all(NOW_S);
    stations.forget_returned();
    stations.note_returned(&frame(0));
    stations.note_returned(&frame(300));
    assert!(!stations.have_returned());
    stations.note_returned(&frame(100));
    assert!(stations.have_returned());
}

#[test]
fn each_mac_address_is_announced_in_its_vlans_with_its_own_ip_addresses() {
    let mut stations = Stations::new(MAC);
    say(&mut stations, &claim_from(BEHIND, 0, 1));
    (0..2).for_each(|_| say(&mut stations, &claim_from(BEHIND, 100, 2)));
    (0..3).for_each(|_| say(&mut stations, &claim_from(FURTHER, 100, 3)));
    let expected = [
        claim_from(FURTHER, 100, 3),
        claim_from(BEHIND, 100, 2),
        claim_from(BEHIND, 0, 1),
        nameless(MAC, 0),
    ];
    assert_eq!(round(&mut stations, NOW_S), expected, "and its own, of which nothing was heard");
}

#[test]
fn an_ip_address_is_at_the_mac_address_that_spoke_for_it_last() {
    let mut stations = Stations::new(MAC);
    say(&mut stations, &claim_from(BEHIND, 0, 1));
    say(&mut stations, &claim_from(BEHIND, 100, 1));
    say(&mut stations, &claim_from(FURTHER, 0, 1));
    let told = round(&mut stations, NOW_S);
    let has = |frame: Vec<u8>| told.contains(&frame);
    assert!(has(claim_from(FURTHER, 0, 1)) && has(nameless(BEHIND, 0)));
    assert!(has(claim_from(BEHIND, 100, 1)), "it is another address in another VLAN");
    say(&mut stations, &claim_from(BEHIND, 0, 1));
    assert!(round(&mut stations, NOW_S).contains(&nameless(FURTHER, 0)), "it is back");
}

#[test]
fn a_mac_address_that_has_moved_is_not_announced_and_not_awaited() {
    let mut stations = Stations::new(MAC);
    say(&mut stations, &frame(0));
    say(&mut stations, &claim_from(BEHIND, 100, 1));
    say(&mut stations, &claim_from(FURTHER, 100, 2));
    stations.mark_all(NOW_S);
    stations.retain(|mac| *mac == FURTHER);
    let rest: Vec<_> =
        std::iter::from_fn(|| stations.next(NOW_S).map(|it| it.bytes().to_vec())).collect();
    assert_eq!(rest.len(), 2);
    assert!(rest.contains(&claim_from(FURTHER, 100, 2)) && rest.contains(&nameless(MAC, 0)));
    rest.iter().for_each(|frame| stations.note_returned(frame));
    assert!(stations.have_returned(), "all that are left");
    say(&mut stations, &claim_from([2; 6], 7, 3));
    assert_eq!(stations.list.len(), 3, "its place is taken again");
    assert!(stations.have_returned(), "what was not announced is not awaited");
    stations.retain(|_| false);
    assert_eq!(round(&mut stations, NOW_S), [nameless(MAC, 0)]);
}

#[test]
fn claims_beyond_what_a_millisecond_allows_cost_nothing() {
    let mut stations = Stations::new(MAC);
    for n in 0..127 {
        stations.refill();
        say(&mut stations, &claim_from([2, 0, 0, 0, 2, n], 0, n));
    }
    stations.refill();
    let heard = Heard::read(claim_of([2; 6]).first_chunk().unwrap()).unwrap();
    (0..32).for_each(|_| stations.hear_other(tags(0), &heard, NOW_S));
    assert_eq!(stations.looks_left, 0);
    stations.hear_other(tags(0), &heard, NOW_S);
    assert_eq!(stations.looks_left, 0);
    stations.refill();
    assert_eq!(stations.looks_left, LOOKS_EACH);
}

#[test]
fn a_flood_of_new_vlans_adds_a_few_in_each_millisecond() {
    let mut stations = Stations::new(MAC);
    for vlan in 1..1000 {
        say(&mut stations, &claim(vlan, 1));
    }
    assert_eq!(stations.list.len(), 1 + ADDS_EACH);
    stations.refill();
    say(&mut stations, &claim(1000, 1));
    assert_eq!(stations.list.len(), 2 + ADDS_EACH);
}

#[test]
fn any_bytes_can_be_learned_from() {
    let mut stations = Stations::new(MAC);
    let samples =
        [claim(100, 1), frame(0), [&claim(0, 1)[..12], &[0x88, 0xa8, 0, 1].repeat(9)].concat()];
    for sample in &samples {
        for len in 0..sample.len() {
            say(&mut stations, &sample[..len]);
            let mut broken = sample.clone();
            broken[len] = 0xff;
            say(&mut stations, &broken);
        }
    }
    assert!(!round(&mut stations, NOW_S).is_empty());
}
