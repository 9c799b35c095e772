//! Known faults, one for each outcome, where each fault can lead to that outcome only. The faults
//! are real: they are injected into code, memory and devices of a running system. Some outcomes
//! take more than one fault in the driver, because no such fault may lead to them; there the test
//! does additional damage to the worker process, and its comment says what.

mod worker;

use worker::Damage;

use super::*;

const CTRL: u64 = 0;
const RCTL: u64 = 0x100;
const TDT: u64 = 0xe018;

fn target() -> Target {
    Target::new(guest_images::DRIVER_DOMAIN).unwrap()
}

/// Returns the record of this fault under a configuration.
fn outcome_of(name: &str, configuration: &str, kind: &str, fault: Value) -> InjectionRecord {
    let order = json!({"configuration": configuration, "kind": kind, "fault": fault});
    let folder = recorded(name, order);
    // A stall of the machine during the run affects the service in ways that the fault did not, so
    // that run is repeated.
    let mut tries = (0..4).map(|_| replay(&folder.out(), 2).1);
    let calm = tries.find(|record| record.machine_stall_ms == 0.0);
    calm.unwrap_or_else(|| replay(&folder.out(), 2).1)
}

/// An injection that changes code.
fn mutation(configuration: &str, fault: Value) -> Value {
    json!({"configuration": configuration, "kind": "mutation", "fault": fault})
}

/// Returns the record of this fault when `damage` is done to the worker before the fault is armed.
fn outcome_with(name: &str, damage: Damage, order: Value) -> InjectionRecord {
    let mut order = order;
    order["moment_us"] = json!(worker::MOMENT_US);
    let folder = recorded(name, order);
    worker::replay_with(&folder.out(), 2, damage)
}

/// Creates a campaign folder in which injection 2 has these properties.
fn recorded(name: &str, order: Value) -> Folder {
    let folder = Folder::new(name);
    let file = folder.file(&named(&["domain_rx_path"], 1));
    let output = run(&file, &folder.out(), &[]);
    assert!(output.status.success(), "{}", text(&output));
    let mut record = serde_json::to_value(&records(&folder.out())[0]).unwrap();
    record["id"] = json!(2);
    for (key, value) in order.as_object().unwrap() {
        record[key] = value.clone();
    }
    let lines = folder.out().join("injections.jsonl");
    let mut lines = std::fs::OpenOptions::new().append(true).open(lines).unwrap();
    writeln!(lines, "{record}").unwrap();
    drop(lines);
    folder
}

/// Replaces the instruction behind the first one of the receive path, which is three bytes long.
fn in_receive_path(bytes: &str) -> Value {
    let target = target();
    let function = target.function("domain_rx_path").unwrap();
    let code = target.code_of(Some(std::slice::from_ref(function)));
    let long = code.iter().find(|code| target.bytes(code).len() == 3).unwrap();
    json!({"segment": "text", "address": long.address(), "bytes": bytes, "activation": 1})
}

/// Replaces the same instruction by itself.
fn in_receive_path_unchanged() -> Value {
    let target = target();
    let mut fault = in_receive_path("");
    let code = target.code_at(fault["address"].as_u64().unwrap()).unwrap();
    let same: String = target.bytes(&code).iter().map(|byte| format!("{byte:02x}")).collect();
    fault["bytes"] = json!(same);
    fault
}

/// A fault at an address that a driver never reaches once it is up.
fn never_reached() -> Value {
    let target = target();
    let bring_up = target.functions().iter().find(|f| f.name.contains("give_up")).unwrap();
    let code = target.code_at(bring_up.address).unwrap();
    let len = target.bytes(&code).len();
    json!({
        "segment": "text", "address": bring_up.address, "activation": 1, "bytes": "cc".repeat(len)
    })
}

#[test]
fn an_invalid_instruction_is_a_crash() {
    let record = outcome_of("crash", "fast-spare", "mutation", in_receive_path("0f0b90"));
    assert_eq!(record.outcome, InjectionOutcome::Crash, "{record:?}");
    assert_eq!(record.frames.corrupted, 0);
    assert!(record.verdict.unwrap().switch_us.is_some());
}

#[test]
fn a_jump_to_itself_is_a_hang() {
    let record = outcome_of("hang", "spare", "mutation", in_receive_path("ebfe90"));
    assert_eq!(record.outcome, InjectionOutcome::Hang, "{record:?}");
}

#[test]
fn a_role_that_is_forgotten_is_a_stall() {
    let role = std::mem::offset_of!(shared_ring::ControlPage, role) as u64;
    let fault = json!({
        "segment": "status", "bit": 0, "activation": 1,
        "address": shared_ring::layout::CONTROL_BASE + role
    });
    let record = outcome_of("stall", "fast-spare", "data", fault);
    assert_eq!(record.outcome, InjectionOutcome::Stall, "{record:?}");
}

#[test]
fn a_receive_unit_that_is_switched_off_is_silence() {
    let fault = json!({
        "segment": "nic", "address": RCTL, "symbol": "RCTL", "bit": 1, "activation": 1
    });
    let record = outcome_of("silence", "fast-spare", "device", fault);
    assert_eq!(record.outcome, InjectionOutcome::Silence, "{record:?}");
}

#[test]
fn a_cursor_that_runs_ahead_is_a_breach_of_the_protocol() {
    let published = std::mem::offset_of!(shared_ring::StatusPage, tx_done_published) as u64;
    let fault = json!({
        "segment": "status", "bit": 7, "activation": 1,
        "address": shared_ring::layout::STATUS_BASE + published + 2
    });
    let order = json!({"configuration": "fast-spare", "kind": "data", "fault": fault});
    let folder = recorded("protocol", order);
    // The driver writes the cursor anew with each frame. If it does so before the wrong value has
    // been read, the fault is correctly recorded as masked.
    let mut tries = (0..16).map(|_| replay(&folder.out(), 2).1);
    let read = tries.find(|record| record.outcome != InjectionOutcome::Masked);
    let read = read.expect("the wrong cursor is read once in a while");
    assert_eq!(read.outcome, InjectionOutcome::Protocol, "{read:?}");
}

#[test]
fn what_nobody_recovers_is_unrecovered() {
    let record = outcome_of("none", "none", "mutation", in_receive_path("0f0b90"));
    assert_eq!(record.outcome, InjectionOutcome::Unrecovered, "{record:?}");
    assert_eq!(record.verdict.unwrap().cause, "crash");
    assert!(record.interruption_us.is_none());
}

#[test]
fn a_domain_without_a_spare_is_started_anew() {
    let record = outcome_of("reboot", "reboot", "mutation", in_receive_path("0f0b90"));
    assert_eq!(record.outcome, InjectionOutcome::Crash, "{record:?}");
    assert!(record.interruption_us.is_some());
}

#[test]
fn an_instruction_that_stays_what_it_was_is_masked() {
    let record = outcome_of("masked", "fast-spare", "mutation", in_receive_path_unchanged());
    assert!(record.activated);
    assert_eq!(record.outcome, InjectionOutcome::Masked, "{record:?}");
}

#[test]
fn what_is_never_reached_is_not_counted() {
    let record = outcome_of("idle", "fast-spare", "mutation", never_reached());
    assert!(!record.activated && record.activated_after_us.is_none());
    assert_eq!(record.outcome, InjectionOutcome::NotActivated, "{record:?}");
}

/// The fault resets the PHY, which acts like a cable that is pulled and plugged in again.
#[test]
fn a_link_that_goes_down_is_a_lost_link() {
    let fault = json!({
        "segment": "nic", "address": CTRL, "symbol": "CTRL", "bit": 31, "activation": 1
    });
    let record = outcome_of("link", "fast-spare", "device", fault);
    assert_eq!(record.outcome, InjectionOutcome::Link, "{record:?}");
}

/// The NIC processes 32 descriptors that it has sent before, and when the driver moves the tail
/// back, the rest of the ring as well. The driver has emptied these descriptors, so nothing is sent
/// twice.
#[test]
fn a_wrong_transmit_tail_sends_no_old_frame_again() {
    let fault = json!({
        "segment": "nic", "address": TDT, "symbol": "TDT", "bit": 5, "activation": 1
    });
    // By then each descriptor of the ring has been used.
    let order = json!({
        "configuration": "fast-spare", "kind": "device", "fault": fault, "moment_us": 800_000
    });
    let folder = recorded("again", order);
    let record = replay(&folder.out(), 2).1;
    assert_eq!(record.outcome, InjectionOutcome::Masked, "{record:?}");
    assert_eq!(record.frames.duplicated, 0, "{record:?}");
}

/// Simulates a driver that writes wildly into its frames: the sender detects the damage by the
/// frames' own checksums, but nothing reports it to the VMM.
#[test]
fn frames_that_are_damaged_on_their_way_out_are_a_silent_failure() {
    let order = mutation("fast-spare", in_receive_path_unchanged());
    let record = outcome_with("damaged", Damage::ScribbleOnFrames, order);
    assert_eq!(record.outcome, InjectionOutcome::SilentFailure, "{record:?}");
    assert!(record.frames.lost + record.frames.corrupted > 2, "{record:?}");
    assert!(record.verdict.is_none(), "{record:?}");
}

/// No driver may reach the application guest's memory, so the test itself flips a bit of it.
#[test]
fn a_bit_that_flips_in_the_guest_is_corruption() {
    let order = mutation("fast-spare", in_receive_path("0f0b90"));
    let record = outcome_with("corrupted", Damage::FlipInGuest, order);
    assert_eq!(record.outcome, InjectionOutcome::Corrupted, "{record:?}");
    assert!(record.note.unwrap().contains("canary"));
}

/// The campaign's fault is never reached; the test damages the driver without the campaign's
/// knowledge, so that the verdict falls on a domain that, as far as the campaign can know, has no
/// fault.
#[test]
fn a_verdict_without_an_activated_fault_is_a_false_failover() {
    let order = mutation("fast-spare", never_reached());
    let record = outcome_with("alarm", Damage::ForgetRole, order);
    assert_eq!(record.outcome, InjectionOutcome::FalseFailover, "{record:?}");
    assert!(!record.activated && !record.is_injected() && record.is_bad());
}

/// The test takes away the file descriptors that a new domain needs: the spare takes over, and no
/// further spare comes up.
#[test]
fn a_service_that_came_back_without_a_spare_is_degraded() {
    let order = mutation("fast-spare", in_receive_path("0f0b90"));
    let record = outcome_with("degraded", Damage::TakeDescriptors, order);
    assert_eq!(record.outcome, InjectionOutcome::Degraded, "{record:?}");
    assert!(record.is_restored() && record.interruption_us.is_some());
}

/// The same test with a configuration in which the failed domain itself would have to be started
/// anew.
#[test]
fn a_service_that_cannot_be_started_anew_is_unrecovered() {
    let order = mutation("reboot", in_receive_path("0f0b90"));
    let record = outcome_with("unrecovered", Damage::TakeDescriptors, order);
    assert_eq!(record.outcome, InjectionOutcome::Unrecovered, "{record:?}");
    assert!(record.is_detected() && record.is_bad() && record.interruption_us.is_none());
}

/// The test kills the worker, which looks to the campaign like a fault that ends the VMM.
#[test]
fn a_fault_that_ends_the_program_is_unrecovered_and_undetected() {
    let order = mutation("none", never_reached());
    let record = outcome_with("ended", Damage::Kill, order);
    assert_eq!(record.outcome, InjectionOutcome::Unrecovered, "{record:?}");
    assert!(record.is_injected() && record.is_silent() && record.is_bad(), "{record:?}");
}
