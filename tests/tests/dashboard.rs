//! Tests of the dashboard in a real browser, connected to a real system.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lab::fault::{self, Site};
use operate::control::client::Client;
use operate::control::{Plane, PlaneOptions};
use operate::observe::Snapshot;
use serde_json::Value;
use warmspare_tests::browser::{Browser, Look};
use warmspare_tests::rig::{PATIENCE, Rig};

/// The tests run one at a time: a browser uses a whole processor, and these tests measure times.
static TURN: Mutex<()> = Mutex::new(());

/// A system with a control plane, and a browser that shows its dashboard.
struct Stage {
    rig: Rig,
    plane: Option<Plane>,
    client: Client,
    browser: Browser,
    _turn: MutexGuard<'static, ()>,
}

impl Stage {
    fn set(name: &str) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let rig = Rig::start();
        let socket =
            std::env::temp_dir().join(format!("warmspare-{name}-{}.sock", std::process::id()));
        let options = PlaneOptions {
            api_socket: Some(socket.clone()),
            dashboard: Some("127.0.0.1:0".parse().unwrap()),
            ..PlaneOptions::default()
        };
        let plane = Plane::start(&options, &rig.topology, &rig.system).unwrap();
        let browser = Browser::start();
        browser.open(plane.url().unwrap());
        let client = Client::new(&socket);
        let stage = Self { rig, plane: Some(plane), client, browser, _turn: turn };
        stage.hear_all();
        stage
            .browser
            .wait("the first state", "return document.querySelectorAll('.lane').length > 0");
        stage
    }

    fn hear_all(&self) {
        for event in self.rig.system.events().try_iter() {
            self.plane.as_ref().unwrap().record(&event);
        }
    }

    /// Crashes the active domain and handles events until the reported state includes the failover.
    fn crash(&self) {
        let before = self.state().last_failovers.len();
        let active = self.rig.active();
        let life = self.rig.system.failover().life(active).unwrap();
        fault::corrupt_code(self.rig.slot(active), life.image(), Site::Loop).unwrap();
        let end = Instant::now() + PATIENCE;
        while self.state().last_failovers.len() == before {
            assert!(Instant::now() < end, "waited in vain for a failover");
            self.hear_all();
        }
    }

    fn state(&self) -> Snapshot {
        self.client.get("/api/v1/state").unwrap()
    }

    fn wait_redundant(&self) {
        self.rig.wait("redundancy in the reported state", |_| {
            self.hear_all();
            self.state().redundant
        });
    }

    fn text(&self, selector: &str) -> String {
        let program = format!("return document.querySelector('{selector}').textContent");
        self.browser.run(&program).as_str().unwrap_or_default().to_owned()
    }
}

#[test]
fn the_page_shows_both_domains_and_that_they_are_redundant() {
    let stage = Stage::set("shows");
    let lanes = "return [...document.querySelectorAll('.lane')].map((l) => l.dataset.domain + ' ' + l.dataset.role).sort().join()";
    assert_eq!(stage.browser.run(lanes), "a active,b standby");
    assert_eq!(stage.browser.errors(), [""; 0]);
    assert_eq!(stage.text("#word"), "Redundant");
    assert_eq!(stage.text("#connection"), "live");
    assert_eq!(stage.browser.errors(), [""; 0]);
}

#[test]
fn a_crash_appears_within_a_second_and_the_numbers_are_the_apis() {
    let stage = Stage::set("crash");
    let mut appeared = [1, 2, 3, 4, 5].map(|number| {
        stage.wait_redundant();
        stage.crash();
        let rows = format!("document.querySelectorAll('#failures tbody tr').length === {number}");
        stage.browser.wait("the crash in the table", &format!("return {rows}"))
    });
    assert!(stage.text("#failures tbody").contains("crash"));
    appeared.sort();
    eprintln!("crashes appeared after {appeared:?}");
    // On a busy machine the browser may have to wait for a processor.
    assert!(appeared[2] <= 2 * Duration::from_secs(1), "crashes appeared after {appeared:?}");
    stage.wait_redundant();
    let wanted = "return document.querySelector('[data-figure=failovers]')?.textContent === '5'";
    stage.browser.wait("five failovers", wanted);
    let interruption = stage.state().interruption;
    let shown = stage.browser.run(
        "return [...document.querySelectorAll('#buckets tr[data-count]')].map((r) => Number(r.dataset.count))",
    );
    let shown: Vec<u64> = shown.as_array().unwrap().iter().filter_map(Value::as_u64).collect();
    assert_eq!(shown, interruption.all.counts);
    assert_eq!(shown.iter().sum::<u64>(), 5);
}

#[test]
fn a_switch_from_the_page_hands_the_service_over() {
    let stage = Stage::set("switch");
    let before = stage.state().active;
    stage.wait_redundant();
    stage.browser.wait("the button", "return !document.getElementById('switch').disabled");
    // The token was part of the address, so the page does not ask for it.
    stage.browser.run("document.getElementById('switch').click()");
    stage.browser.wait("the question", "return document.getElementById('ask').open");
    stage.browser.run("document.getElementById('ask-do').click()");
    stage.browser.wait("the answer", "return !document.getElementById('ask').open");
    let after = stage.state().active;
    assert!(after.is_some() && after != before, "{before:?} {after:?}");
    stage.hear_all();
}

#[test]
fn what_an_operator_does_is_in_the_list() {
    let stage = Stage::set("list");
    stage.rig.system.operator().drill(None).unwrap();
    stage.rig.system.operator().switch_to(None).unwrap();
    stage.hear_all();
    for kind in ["drilled", "switched"] {
        let shown = format!("return !!document.querySelector('#happened [data-kind={kind}]')");
        stage.browser.wait(kind, &shown);
    }
    let old = stage.browser.run("return document.querySelectorAll('#happened li').length");
    assert!(old.as_u64().unwrap() >= 3, "events from before the page was opened, too: {old}");
    assert_eq!(stage.browser.errors(), [""; 0]);
}

#[test]
fn a_lost_connection_is_said_and_nothing_is_claimed() {
    let mut stage = Stage::set("lost");
    stage.wait_redundant();
    let good = "return document.getElementById('verdict').dataset.state === 'good'";
    stage.browser.wait("a good word on its ground", good);
    // What the word stands on at the very moment at which it changes.
    stage.browser.run(
        "const [word, ground] = ['word', 'verdict'].map((id) => document.getElementById(id)); \
         const look = () => getComputedStyle(ground).backgroundColor; \
         window.grounds = [look()]; \
         const note = () => word.textContent === 'Unknown' && window.grounds.push(look()); \
         new MutationObserver(note).observe(word, { childList: true });",
    );
    drop(stage.plane.take());
    stage.browser.wait(
        "the connection-lost state",
        "return document.getElementById('connection').dataset.state === 'lost'",
    );
    assert_eq!(stage.text("#word"), "Unknown");
    // Neither the word nor what it stands on is in a colour that says how things are.
    let colours = "const at = (it) => getComputedStyle(document.querySelector(it)); \
        const plain = at('#path').color; const card = at('section:not(#verdict)').backgroundColor; \
        const [before, after] = window.grounds; \
        return [before === card, after === card, at('#word').color === plain].join()";
    assert_eq!(stage.browser.run(colours), "false,true,true");
    assert!(stage.text("title").starts_with("unknown"), "{}", stage.text("title"));
    assert!(stage.text("#lost").contains("No connection to warmspare"));
}

#[test]
fn nothing_overflows_on_a_phone_or_a_wide_screen() {
    let stage = Stage::set("looks");
    stage.crash();
    stage.wait_redundant();
    stage.rig.system.operator().drill(None).unwrap();
    stage.rig.system.operator().switch_to(None).unwrap();
    stage.hear_all();
    let folder = std::env::var_os("WARMSPARE_SCREENSHOTS").map(std::path::PathBuf::from);
    for (name, width, height) in [("wide", 1280, 2200), ("narrow", 390, 3400)] {
        for (scheme, dark) in [("light", false), ("dark", true)] {
            stage.browser.look(Look { width, height, dark });
            let fits = "return document.documentElement.scrollWidth <= innerWidth && \
                [...document.querySelectorAll('.chart svg')].every((svg) => \
                svg.getBoundingClientRect().right <= innerWidth)";
            stage.browser.wait(&format!("everything to fit, {name} {scheme}"), fits);
            if let Some(folder) = &folder {
                let file = folder.join(format!("{name}-{scheme}.png.base64"));
                std::fs::write(file, stage.browser.screenshot()).unwrap();
            }
        }
    }
}
