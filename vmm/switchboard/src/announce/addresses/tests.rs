use super::*;
use crate::announce::Announcement;
use crate::announce::neighbours::Heard;
use crate::vlan::Tags;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 9];
const NOW_S: u32 = 1000;
const LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

fn hear(addresses: &mut Addresses, frame: &[u8]) {
    let mut whole = [0; LEARN_BYTES];
    let len = frame.len().min(LEARN_BYTES);
    whole[..len].copy_from_slice(&frame[..len]);
    addresses.learn(whole.first_chunk().unwrap(), NOW_S, || whole);
}

/// Somebody else's frame.
fn hear_other(addresses: &mut Addresses, frame: &[u8]) {
    let mut whole = [0; LEARN_BYTES];
    let len = frame.len().min(LEARN_BYTES);
    whole[..len].copy_from_slice(&frame[..len]);
    let Some(heard) = Heard::read(&whole) else { return };
    heard.claimed.into_iter().for_each(|address| addresses.forget(address));
    heard.asked.into_iter().for_each(|address| addresses.ask(address, NOW_S));
}

fn known(addresses: &Addresses) -> Vec<Announced> {
    known_at(addresses, NOW_S)
}

fn known_at(addresses: &Addresses, now_s: u32) -> Vec<Announced> {
    (0..2 * ADDRESSES).filter_map(|place| addresses.at(place, now_s)).collect()
}

fn ipv4(from: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[6..12].copy_from_slice(&MAC);
    frame[12..14].copy_from_slice(&IPV4);
    frame[14] = 0x45;
    frame[26..30].copy_from_slice(&from);
    frame
}

fn arp(sender: [u8; 4]) -> Vec<u8> {
    Announcement::new((MAC, Tags::NONE), Announced::V4(sender)).bytes().to_vec()
}

fn icmpv6(kind: u8, source: [u8; 16], target: [u8; 16], flags: u8) -> Vec<u8> {
    let mut frame =
        Announcement::new((MAC, Tags::NONE), Announced::V6 { address: source, is_router: false })
            .bytes()
            .to_vec();
    frame[54] = kind;
    frame[58] = flags;
    frame[62..78].copy_from_slice(&target);
    frame
}

#[test]
fn arp_and_ipv4_sources_are_learned_once() {
    let mut addresses = Addresses::new();
    hear(&mut addresses, &arp([10, 0, 0, 1]));
    hear(&mut addresses, &ipv4([10, 0, 0, 1]));
    hear(&mut addresses, &ipv4([10, 0, 0, 2]));
    hear(&mut addresses, &ipv4([10, 0, 0, 1]));
    assert_eq!(known(&addresses), [Announced::V4([10, 0, 0, 1]), Announced::V4([10, 0, 0, 2])]);
}

#[test]
fn what_is_no_address_of_the_guest_is_not_learned() {
    let mut addresses = Addresses::new();
    for source in [[0; 4], [127, 0, 0, 1], [224, 0, 0, 251], [255; 4]] {
        hear(&mut addresses, &ipv4(source));
        hear(&mut addresses, &arp(source)); // of all zeroes: an ARP probe
    }
    let mut foreign = arp([10, 0, 0, 4]);
    foreign[27] ^= 1;
    hear(&mut addresses, &foreign);
    hear(&mut addresses, &[]);
    assert_eq!(known(&addresses), []);
}

#[test]
fn neighbour_discovery_is_learned_and_tentative_addresses_are_not() {
    let mut addresses = Addresses::new();
    let tentative = [0x20; 16];
    hear(&mut addresses, &icmpv6(NEIGHBOUR_SOLICITATION, [0; 16], tentative, 0));
    assert_eq!(known(&addresses), [], "duplicate address detection");
    hear(&mut addresses, &icmpv6(NEIGHBOUR_SOLICITATION, LINK_LOCAL, [0x20; 16], 0));
    let own = Announced::V6 { address: LINK_LOCAL, is_router: false };
    assert_eq!(known(&addresses), [own], "the source, not the target");
    hear(&mut addresses, &icmpv6(NEIGHBOUR_ADVERTISEMENT, LINK_LOCAL, tentative, 0x60));
    let other = Announced::V6 { address: tentative, is_router: false };
    assert_eq!(known(&addresses), [own, other]);
}

#[test]
fn a_router_is_announced_as_one() {
    let mut addresses = Addresses::new();
    hear(&mut addresses, &icmpv6(NEIGHBOUR_ADVERTISEMENT, LINK_LOCAL, LINK_LOCAL, 0x80));
    assert_eq!(known(&addresses), [Announced::V6 { address: LINK_LOCAL, is_router: true }]);
}

#[test]
fn a_guest_that_forwards_is_believed_only_what_it_claims() {
    let mut addresses = Addresses::new();
    hear(&mut addresses, &arp([10, 0, 0, 1]));
    for last in 0..20 {
        hear(&mut addresses, &ipv4([192, 168, 0, last]));
    }
    hear(&mut addresses, &arp([10, 0, 0, 2]));
    assert_eq!(known(&addresses), [Announced::V4([10, 0, 0, 1]), Announced::V4([10, 0, 0, 2])]);
}

#[test]
fn the_tables_are_bounded() {
    let mut addresses = Addresses::new();
    for last in 1..100 {
        hear(&mut addresses, &arp([10, 0, 0, last]));
        let mut address = LINK_LOCAL;
        address[15] = last;
        hear(&mut addresses, &icmpv6(NEIGHBOUR_SOLICITATION, address, address, 0));
    }
    assert_eq!(known(&addresses).len(), 2 * ADDRESSES);
    assert!(known(&addresses).contains(&Announced::V4([10, 0, 0, 99])));
}

/// An ARP request, with the hardware address of its sender.
fn arp_request(by: u8, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut frame = arp(sender);
    frame[6 + 5] = by;
    frame[22 + 5] = by;
    frame[38..42].copy_from_slice(&target);
    frame
}

#[test]
fn an_address_that_somebody_else_claims_is_forgotten_at_once() {
    let mut addresses = Addresses::new();
    (1..=3).for_each(|last| hear(&mut addresses, &arp([10, 0, 0, last])));
    hear(&mut addresses, &icmpv6(NEIGHBOUR_ADVERTISEMENT, LINK_LOCAL, LINK_LOCAL, 0));
    hear_other(&mut addresses, &arp_request(1, [10, 0, 0, 1], [10, 0, 0, 1]));
    hear_other(&mut addresses, &arp_request(1, [10, 0, 0, 3], [10, 0, 0, 9]));
    assert_eq!(known(&addresses).len(), 2);
    assert_eq!(known(&addresses)[0], Announced::V4([10, 0, 0, 2]));
    hear_other(&mut addresses, &icmpv6(NEIGHBOUR_ADVERTISEMENT, LINK_LOCAL, LINK_LOCAL, 0x20));
    assert_eq!(known(&addresses), [Announced::V4([10, 0, 0, 2])]);
    // It takes the address back.
    hear(&mut addresses, &ipv4([10, 0, 0, 3]));
    assert_eq!(known(&addresses).len(), 2);
}

#[test]
fn an_address_is_not_held_while_a_question_for_it_is_unanswered() {
    let mut addresses = Addresses::new();
    hear(&mut addresses, &arp([10, 0, 0, 1]));
    hear(&mut addresses, &icmpv6(NEIGHBOUR_ADVERTISEMENT, LINK_LOCAL, LINK_LOCAL, 0));
    hear_other(&mut addresses, &arp_request(1, [10, 0, 0, 9], [10, 0, 0, 1]));
    // Duplicate address detection by somebody else.
    hear_other(&mut addresses, &icmpv6(NEIGHBOUR_SOLICITATION, [0; 16], LINK_LOCAL, 0));
    assert_eq!(known_at(&addresses, NOW_S + 1).len(), 2, "it may still answer");
    assert_eq!(known_at(&addresses, NOW_S + 2), []);
    hear(&mut addresses, &ipv4([10, 0, 0, 1]));
    assert_eq!(known_at(&addresses, NOW_S + 2), [Announced::V4([10, 0, 0, 1])], "it is in use");
}

#[test]
fn an_address_that_is_not_used_ages() {
    let age_s = ADDRESS_AGE.as_secs() as u32;
    let mut addresses = Addresses::new();
    hear(&mut addresses, &ipv4([10, 0, 0, 1]));
    assert_eq!(known_at(&addresses, NOW_S + age_s - 1).len(), 1);
    assert_eq!(known_at(&addresses, NOW_S + age_s), []);
    let learn = |addresses: &mut Addresses| {
        let frame = ipv4([10, 0, 0, 1]);
        addresses.learn(frame.first_chunk().unwrap(), NOW_S + age_s, || unreachable!());
    };
    learn(&mut addresses);
    assert_eq!(known_at(&addresses, NOW_S + age_s), [], "the same as before is not looked at");
    addresses.look_again();
    learn(&mut addresses);
    assert_eq!(known_at(&addresses, NOW_S + age_s).len(), 1);
}

#[test]
fn what_others_say_is_read_from_any_bytes() {
    let mut addresses = Addresses::new();
    for len in 0..86 {
        hear_other(&mut addresses, &arp([10, 0, 0, 1])[..len.min(60)]);
        hear_other(&mut addresses, &icmpv6(NEIGHBOUR_ADVERTISEMENT, LINK_LOCAL, [2; 16], 0)[..len]);
        hear_other(&mut addresses, &vec![0xff; len]);
    }
    let mut forwarded = icmpv6(NEIGHBOUR_ADVERTISEMENT, LINK_LOCAL, LINK_LOCAL, 0);
    hear(&mut addresses, &forwarded);
    forwarded[21] = 254;
    hear_other(&mut addresses, &forwarded);
    assert_eq!(known(&addresses).len(), 1, "nobody on the link has said that");
}
