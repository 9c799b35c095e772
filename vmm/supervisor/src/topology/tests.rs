use std::path::Path;

use switchboard::{GuestRules, MacRule};

use super::*;

fn demo_with(change: impl FnOnce(&mut serde_json::Value)) -> Result<Topology, TopologyError> {
    let topology = Topology::demo(Path::new("/tmp/warmspare-test.sock"));
    let mut value = serde_json::to_value(topology).unwrap();
    change(&mut value);
    Topology::parse(&value.to_string(), "t.json")
}

fn message(change: impl FnOnce(&mut serde_json::Value)) -> String {
    let text = demo_with(change).unwrap_err().to_string();
    assert!(!text.contains('\n'), "one line: {text}");
    text
}

#[test]
fn the_demo_topology_is_sound() {
    assert!(demo_with(|_| ()).is_ok());
}

#[test]
fn the_example_is_the_demo_topology() {
    let example = include_str!("../../../../examples/demo.json");
    let parsed = Topology::parse(example, "demo.json").unwrap();
    assert_eq!(parsed, Topology::demo(&parsed.apps[0].socket));
}

#[test]
fn an_unknown_key_names_its_path() {
    let text = message(|v| v["domains"][1]["nic"]["emulated"]["speed"] = 1.into());
    assert!(text.contains("domains[1].nic") && text.contains("speed"), "{text}");
}

#[test]
fn a_wrong_type_names_its_path() {
    let text = message(|v| v["domains"][0]["name"] = 7.into());
    assert!(text.contains("domains[0].name") && text.contains("expected a string"), "{text}");
}

#[test]
fn one_domain_is_too_few_for_a_spare() {
    let text = message(|v| drop(v["domains"].as_array_mut().unwrap().pop()));
    assert!(text.contains("domains: the policy fast-spare needs two"), "{text}");
}

#[test]
fn the_same_nic_twice_is_refused() {
    let text = message(|v| v["domains"][1]["nic"] = v["domains"][0]["nic"].clone());
    assert!(text.contains("domains[1].nic") && text.contains("another domain's"), "{text}");
}

#[test]
fn unusable_sockets_are_refused() {
    let long = format!("/tmp/{}", "x".repeat(120));
    for path in ["", &long, "/no/such/folder/x.sock", "/etc/passwd"] {
        let text = message(|v| v["apps"][0]["socket"] = path.into());
        assert!(text.contains("apps[0].socket"), "{text}");
    }
}

#[test]
fn a_group_address_is_no_guest() {
    for mac in ["01:00:5e:00:00:01", "00:00:00:00:00:00", "52:54:00:77:73", "no"] {
        let text = message(|v| v["apps"][0]["mac"] = mac.into());
        assert!(text.contains("apps[0].mac"), "{text}");
    }
}

#[test]
fn further_addresses_are_a_mode_or_a_list() {
    let with = |macs: serde_json::Value| demo_with(|v| v["apps"][0]["macs"] = macs);
    let of = |macs| with(macs).unwrap().apps.remove(0).rules().macs;
    assert_eq!(of("one".into()), MacRule::One);
    assert_eq!(of("learn".into()), MacRule::Learn);
    assert_eq!(of("promiscuous".into()), MacRule::Promiscuous);
    let listed = MacRule::List(vec![[0, 0, 0x5e, 0, 1, 51]]);
    assert_eq!(of(serde_json::json!(["00:00:5e:00:01:33"])), listed);
    assert_eq!(demo_with(|_| ()).unwrap().apps[0].rules(), GuestRules::default());
}

#[test]
fn a_list_of_addresses_that_cannot_be_names_the_place() {
    let own = "52:54:00:77:73:01";
    let (good, group) = ("52:54:00:00:00:09", "01:00:5e:00:00:01");
    let many: Vec<_> = (0..65).map(|n| format!("52:54:00:00:01:{n:02x}")).collect();
    let wrong = [
        (serde_json::json!("many"), "apps[0].macs: write \"one\", \"learn\""),
        (serde_json::json!(["no"]), "apps[0].macs: write \"one\", \"learn\""),
        (serde_json::json!([good, group]), "apps[0].macs[1]: 01:00:5e:00:00:01 is not"),
        (serde_json::json!([good, good]), "apps[0].macs[1]: 52:54:00:00:00:09 is listed twice"),
        (serde_json::json!([own]), "apps[0].macs[0]: 52:54:00:77:73:01 is the `mac` of a guest"),
        (serde_json::json!(many), "apps[0].macs: 65 addresses are too many"),
    ];
    for (macs, what) in wrong {
        let text = message(|v| v["apps"][0]["macs"] = macs);
        assert!(text.contains(what), "{text}");
    }
    let text = message(|v| v["apps"][0]["egress"] = serde_json::json!({ "pause": true }));
    assert!(text.contains("apps[0].egress") && text.contains("pause"), "{text}");
}

#[test]
fn guests_have_addresses_and_sockets_of_their_own() {
    let add = |mac: &str, socket: &str| {
        let (mac, socket) = (mac.to_owned(), socket.to_owned());
        move |v: &mut serde_json::Value| {
            let app = serde_json::json!({ "mac": mac, "socket": socket });
            v["apps"].as_array_mut().unwrap().push(app);
        }
    };
    assert!(demo_with(add("52:54:00:77:73:02", "/tmp/other.sock")).is_ok());
    let example = include_str!("../../../../examples/two-guests.json");
    assert_eq!(Topology::parse(example, "two-guests.json").unwrap().apps.len(), 2);
    let text = message(add("52:54:00:77:73:01", "/tmp/other.sock"));
    assert!(text.contains("apps[1].mac") && text.contains("another guest's"), "{text}");
    let text = message(|v| {
        let mut app = v["apps"][0].clone();
        app["mac"] = "52:54:00:77:73:02".into();
        v["apps"].as_array_mut().unwrap().push(app);
    });
    assert!(text.contains("apps[1].socket") && text.contains("another guest's"), "{text}");
    let text = message(|v| {
        for n in 2..10 {
            add(&format!("52:54:00:77:73:{n:02}"), &format!("/tmp/{n}.sock"))(v);
        }
    });
    assert!(text.contains("apps[8]") && text.contains("at most 8"), "{text}");
}

#[test]
fn each_policy_is_known_by_its_name() {
    for policy in [Policy::FastSpare, Policy::Spare] {
        assert!(demo_with(|v| v["policy"] = policy.name().into()).is_ok(), "{policy:?}");
    }
    let text = message(|v| v["policy"] = "reboot".into());
    assert!(text.contains("the policy reboot has exactly one domain"), "{text}");
}

#[test]
fn the_mtu_has_bounds() {
    assert_eq!(demo_with(|_| ()).unwrap().mtu, 1500);
    for good in [576, 1500, 9000, 9216] {
        assert_eq!(demo_with(|v| v["mtu"] = good.into()).unwrap().mtu, good);
    }
    for bad in [0, 575, 9217, 65535] {
        let text = message(|v| v["mtu"] = bad.into());
        assert!(text.contains("mtu: ") && text.contains("576 to 9216"), "{text}");
    }
    assert!(message(|v| v["mtu"] = 70_000.into()).contains("mtu"));
}

#[test]
fn limits_that_cannot_work_are_refused() {
    for (limits, at) in [
        (serde_json::json!({ "failures": 0 }), "limits.failures"),
        (
            serde_json::json!({ "quarantine_s": 9, "quarantine_max_s": 8 }),
            "limits.quarantine_max_s",
        ),
        (serde_json::json!({ "link_hold_ms": 0 }), "limits.link_hold_ms"),
        (serde_json::json!({ "failure": 3 }), "limits"),
    ] {
        let text = message(|v| v["limits"] = limits.clone());
        assert!(text.contains(at), "{limits}: {text}");
    }
    assert_eq!(
        demo_with(|v| v["limits"] = serde_json::json!({})).unwrap().limits,
        Limits::default()
    );
}

#[test]
fn the_preferred_domain_must_be_one() {
    let prefer = |domain| serde_json::json!({ "prefer": { "domain": domain, "hold_s": 5 } });
    assert!(demo_with(|v| v["fail_back"] = prefer("b")).is_ok());
    assert!(demo_with(|v| v["fail_back"] = "never".into()).is_ok());
    let text = message(|v| v["fail_back"] = prefer("x"));
    assert!(text.contains("fail_back.prefer.domain") && text.contains("`x`"), "{text}");
    let text = message(|v| {
        v["fail_back"] = prefer("b");
        v["policy"] = "spare".into();
    });
    assert!(text.contains("no planned switch"), "{text}");
}

#[test]
fn dumps_have_a_folder_and_bounds() {
    let dumps = serde_json::json!({ "dir": "/tmp/dumps" });
    let spec = demo_with(|v| v["dumps"] = dumps).unwrap().dumps.unwrap();
    assert_eq!(spec, DumpSpec::in_dir(Path::new("/tmp/dumps")));
    for (dumps, at) in [
        (serde_json::json!({ "dir": "" }), "dumps.dir"),
        (serde_json::json!({ "dir": "/tmp/d", "keep": 0 }), "dumps.keep"),
        (serde_json::json!({ "dir": "/tmp/d", "max_mib": 1 }), "dumps.max_mib"),
    ] {
        assert!(message(|v| v["dumps"] = dumps.clone()).contains(at), "{dumps}");
    }
}

#[test]
fn thresholds_that_cannot_work_are_refused() {
    let text = message(|v| v["detect"] = serde_json::json!({ "hang_cpu_us": 1 }));
    assert!(text.contains("detect.hang_cpu_us"), "{text}");
    let text = message(|v| v["detect"] = serde_json::json!({ "hang_cpu_ms": 2 }));
    assert!(text.contains("detect") && text.contains("hang_cpu_ms"), "{text}");
}

#[test]
fn drills_and_probes_have_time_for_their_answers() {
    for (drill, at) in [
        (serde_json::json!({ "answer_within_ms": 0 }), "drill.answer_within_ms"),
        (serde_json::json!({ "answer_within_ms": 101 }), "drill.answer_within_ms"),
        (serde_json::json!({ "vlan": 0 }), "drill.vlan"),
        (serde_json::json!({ "vlan": 4095 }), "drill.vlan"),
        (serde_json::json!({ "probe_ms": 2 }), "drill.probe_ms"),
        (serde_json::json!({ "probe_ms": 5, "answer_within_ms": 5 }), "drill.probe_ms"),
    ] {
        let text = message(|v| v["drill"] = drill.clone());
        assert!(text.contains(at), "{drill}: {text}");
    }
    let drill = serde_json::json!({ "probe_ms": 5, "answer_within_ms": 4 });
    assert_eq!(demo_with(|v| v["drill"] = drill).unwrap().drill.answer_within_ms, 4);
}

#[test]
fn text_behind_the_document_is_refused() {
    let whole = serde_json::to_string(&Topology::demo(Path::new("/tmp/x.sock"))).unwrap();
    let error = Topology::parse(&format!("{whole} {{}}"), "t.json").unwrap_err();
    assert!(error.to_string().contains("after the document"));
}

#[test]
fn the_schema_knows_every_key() {
    let schema = serde_json::to_value(schemars::schema_for!(Topology)).unwrap();
    for key in ["name", "domains", "apps", "policy", "detect", "limits", "dumps"] {
        assert!(schema["properties"].get(key).is_some(), "{key}");
    }
    assert_eq!(schema["additionalProperties"], serde_json::Value::Bool(false));
}

fn wire(v: &mut serde_json::Value, domain: usize, wire: serde_json::Value) {
    v["domains"][domain]["nic"]["emulated"]["wire"] = wire;
}

#[test]
fn a_tap_is_named_as_interfaces_are_and_has_one_nic() {
    let good = demo_with(|v| {
        wire(v, 0, serde_json::json!({"tap": "ws-a"}));
        wire(v, 1, serde_json::json!({"tap": "ws-b"}));
    });
    assert!(good.is_ok());
    let long = message(|v| wire(v, 0, serde_json::json!({"tap": "sixteen--letters"})));
    assert!(long.contains("domains[0].nic.emulated.wire.tap") && long.contains("15"), "{long}");
    let twice = message(|v| {
        wire(v, 0, serde_json::json!({"tap": "ws-a"}));
        wire(v, 1, serde_json::json!({"tap": "ws-a"}));
    });
    assert!(twice.contains("domains[1].nic.emulated.wire.tap: the TAP `ws-a`"), "{twice}");
}

#[test]
fn the_other_examples_are_sound() {
    let tap = include_str!("../../../../examples/tap.json");
    Topology::parse(tap, "tap.json").unwrap();
    let qemu = include_str!("../../../../examples/qemu-linux.json");
    Topology::parse(qemu, "qemu-linux.json").unwrap();
}

#[test]
fn a_dashboard_beyond_loopback_needs_a_token() {
    let listen = |address: &str| serde_json::json!({ "listen": address });
    assert!(demo_with(|v| v["dashboard"] = listen("127.0.0.1:8470")).is_ok());
    assert!(demo_with(|v| v["dashboard"] = listen("[::1]:8470")).is_ok());
    let text = message(|v| v["dashboard"] = listen("0.0.0.0:8470"));
    assert!(text.contains("dashboard.listen") && text.contains("token_file"), "{text}");
    let text = message(|v| v["dashboard"] = listen("nowhere"));
    assert!(text.contains("dashboard.listen"), "{text}");
}

#[test]
fn a_nic_behind_vfio_is_named_by_its_address() {
    let topology = demo_with(|v| {
        v["domains"][0]["nic"] = serde_json::json!({ "vfio": "01:00.0" });
        v["domains"][1]["nic"] = serde_json::json!({ "vfio": "0000:02:00.0" });
    });
    let domains = topology.unwrap().domains;
    assert_eq!(domains[0].nic, NicSpec::Vfio("0000:01:00.0".parse().unwrap()));
    assert_eq!(domains[1].nic, NicSpec::Vfio("0000:02:00.0".parse().unwrap()));
}

#[test]
fn what_is_no_pci_address_names_its_path() {
    let text = message(|v| v["domains"][1]["nic"] = serde_json::json!({ "vfio": "eth0" }));
    assert!(text.contains("domains[1].nic.vfio") && text.contains("0000:01:00.0"), "{text}");
}

#[test]
fn one_nic_for_two_domains_is_refused_however_it_is_written() {
    let text = message(|v| {
        v["domains"][0]["nic"] = serde_json::json!({ "vfio": "01:00.0" });
        v["domains"][1]["nic"] = serde_json::json!({ "vfio": "0000:01:00.0" });
    });
    assert!(text.contains("domains[1].nic.vfio") && text.contains("another domain's"), "{text}");
}

#[test]
fn one_nic_for_all_domains_needs_the_policy_spare() {
    let shared = |policy: &str| {
        let policy = policy.to_owned();
        demo_with(move |v| {
            v["policy"] = policy.into();
            v["domains"][1]["nic"] = v["domains"][0]["nic"].clone();
        })
    };
    assert!(shared("spare").unwrap().shares_nic());
    let text = shared("fast-spare").unwrap_err().to_string();
    assert!(text.contains("\"policy\": \"spare\""), "{text}");
    assert!(!demo_with(|v| v["policy"] = "spare".into()).unwrap().shares_nic());
}

#[test]
fn a_notify_program_is_named_in_full_and_with_known_events() {
    let notify =
        |events: &str, run: &str| serde_json::json!([{ "events": [events], "run": [run] }]);
    assert!(demo_with(|v| v["notify"] = notify("failover", "/bin/true")).is_ok());
    let text = message(|v| v["notify"] = notify("fail-over", "/bin/true"));
    assert!(text.contains("notify[0].events") && text.contains("fail-over"), "{text}");
    let text = message(|v| v["notify"] = notify("failover", "true"));
    assert!(text.contains("notify[0].run"), "{text}");
}

#[test]
fn a_mac_address_has_digits_only() {
    for mac in ["+2:54:00:77:73:03", "52:54:00:77:73:+3", "0x:54:00:77:73:03", " 2:54:00:77:73:03"]
    {
        let text = message(|v| v["apps"][0]["mac"] = mac.into());
        assert!(text.contains("apps[0].mac") && text.contains("not a MAC address"), "{text}");
    }
}

#[test]
fn a_socket_can_be_given_to_a_user_and_a_group_of_this_machine() {
    let given = demo_with(|v| {
        v["apps"][0]["owner"] = "0".into();
        v["apps"][0]["group"] = "4711".into();
        v["apps"][0]["mode"] = "0660".into();
    });
    assert_eq!(given.unwrap().apps[0].mode, Some(SocketMode(0o660)));
    for (key, kind) in [("owner", "user"), ("group", "group")] {
        let text = message(|v| v["apps"][0][key] = "no-such-name".into());
        let told = format!("apps[0].{key}: this machine has no {kind} `no-such-name`");
        assert!(text.contains(&told), "{text}");
    }
    for mode in ["660 ", "rw", "+660", "0999", "00660", "66", "1777"] {
        let text = message(|v| v["apps"][0]["mode"] = mode.into());
        assert!(text.contains("apps[0].mode") && text.contains("0660"), "{text}");
    }
}

#[test]
fn text_for_people_moves_no_cursor() {
    for (key, text) in [
        ("name", message(|v| v["name"] = "a\u{1b}[2J".into())),
        ("apps[0].socket", message(|v| v["apps"][0]["socket"] = "/tmp/a\u{7}.sock".into())),
    ] {
        assert!(text.contains(key) && text.contains("control characters"), "{text}");
    }
}

#[test]
fn a_proxy_has_a_host_name_without_a_port() {
    let host = |name: &str| {
        let dashboard = serde_json::json!({ "listen": "127.0.0.1:1", "hosts": [name] });
        move |v: &mut serde_json::Value| v["dashboard"] = dashboard
    };
    assert!(demo_with(host("ws.example.org")).is_ok());
    for name in ["", "ws.example.org:443", "https://ws", "a b"] {
        let text = message(host(name));
        assert!(text.contains("dashboard.hosts[0]"), "{text}");
    }
}

#[test]
fn comments_are_named_as_such() {
    let whole = serde_json::to_string_pretty(&Topology::demo(Path::new("/tmp/x.sock"))).unwrap();
    let inside = whole.replacen('{', "{ // the whole", 1);
    for text in [format!("// first\n{whole}"), format!("# first\n{whole}"), inside] {
        let error = Topology::parse(&text, "t.json").unwrap_err().to_string();
        assert!(error.contains("JSON has no comments"), "{error}");
    }
    let error = Topology::parse("{,}", "t.json").unwrap_err().to_string();
    assert!(!error.contains("comments"), "{error}");
}

#[test]
fn the_socket_of_a_vmm_that_listens_is_connected_to() {
    let connect = |v: &mut serde_json::Value| {
        v["apps"][0]["socket"] = serde_json::json!({ "connect": "/tmp/vmm.sock" });
    };
    let topology = demo_with(connect).unwrap();
    let socket = &topology.apps[0].socket;
    assert_eq!((&*socket.path, socket.connects), (Path::new("/tmp/vmm.sock"), true));
    let text = serde_json::to_string(&topology).unwrap();
    assert_eq!(Topology::parse(&text, "t.json").unwrap(), topology, "written as it was read");
    for (key, value) in [("mode", "0660"), ("owner", "0"), ("group", "0")] {
        let text = message(|v| {
            connect(v);
            v["apps"][0][key] = value.into();
        });
        assert!(text.contains(&format!("apps[0].{key}: the socket is the VMM's")), "{text}");
    }
    for (socket, told) in [
        (serde_json::json!({ "listen": "/tmp/x" }), "unknown field `listen`"),
        (serde_json::json!({}), "missing field `connect`"),
        (serde_json::json!(7), "a path, or {\"connect\": PATH}"),
        (serde_json::json!({ "connect": "/etc/passwd" }), "is not a socket"),
    ] {
        let text = message(|v| v["apps"][0]["socket"] = socket);
        assert!(text.contains("apps[0].socket") && text.contains(told), "{text}");
    }
}

#[test]
fn each_guest_has_a_monitor_of_its_own() {
    let qmp = |name: &str, socket: &str| serde_json::json!({ "socket": socket, "name": name });
    assert!(demo_with(|v| v["apps"][0]["qmp"] = qmp("net0", "/tmp/qmp.sock")).is_ok());
    let text = message(|v| v["apps"][0]["qmp"] = qmp("", "/tmp/qmp.sock"));
    assert!(text.contains("apps[0].qmp.name"), "{text}");
    let text = message(|v| v["apps"][0]["qmp"] = qmp("net0", "/no/such/folder/q.sock"));
    assert!(text.contains("apps[0].qmp.socket"), "{text}");
    let text = message(|v| {
        v["apps"][0]["qmp"] = qmp("net0", "/tmp/qmp.sock");
        let other = serde_json::json!({
            "mac": "52:54:00:77:73:02", "socket": "/tmp/other.sock",
            "qmp": qmp("net0", "/tmp/qmp.sock"),
        });
        v["apps"].as_array_mut().unwrap().push(other);
    });
    assert!(text.contains("apps[1].qmp.socket") && text.contains("another guest's"), "{text}");
}
