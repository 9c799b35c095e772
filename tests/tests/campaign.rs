//! Campaigns of fault injection, as a user runs them.

#[path = "campaign/honest.rs"]
mod honest;

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use lab::campaign::{
    FaultSegment, InjectionOutcome, InjectionRecord, Target, WORKER_COMMAND, read_records,
};
use serde_json::{Value, json};
use warmspare_tests::program;
use warmspare_tests::rig::PATIENCE;

/// A folder for each test; removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("warmspare-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, campaign: &Value) -> String {
        let path = self.0.join("campaign-file.json");
        std::fs::write(&path, campaign.to_string()).unwrap();
        path.display().to_string()
    }

    fn out(&self) -> PathBuf {
        self.0.join("out")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn named(functions: &[&str], injections: u64) -> Value {
    json!({
        "seed": 5, "observe_ms": 60, "until": {"injections": injections},
        "faults": [{"code": {"functions": {"named": functions}}}]
    })
}

fn campaign(file: &str, out: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.arg("campaign").arg(file).arg("--out").arg(out).args(more).arg("--quiet");
    command.stdin(Stdio::null());
    command
}

fn run(file: &str, out: &Path, more: &[&str]) -> Output {
    campaign(file, out, more).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Expects status 2 and one line on standard error, and returns it.
fn mistake(output: &Output) -> String {
    let line = text(output);
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert_eq!(line.trim_end().lines().count(), 1, "one line: {line}");
    line
}

fn replay(out: &Path, id: u64) -> (InjectionRecord, InjectionRecord) {
    replayed(&replay_command(out, id).output().unwrap())
}

fn replay_command(out: &Path, id: u64) -> Command {
    let mut command = Command::new(program());
    command.args(["campaign", "replay", "--format", "json"]).arg(out).arg(id.to_string());
    command
}

/// Returns the recorded injection and its repetition.
fn replayed(output: &Output) -> (InjectionRecord, InjectionRecord) {
    assert!(output.status.success(), "{}", text(output));
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let record = |key: &str| serde_json::from_value(value[key].clone()).unwrap();
    (record("recorded"), record("again"))
}

/// Waits until `count` injections are recorded.
fn wait_recorded(out: &Path, count: usize, child: &mut Child) {
    let end = Instant::now() + 3 * PATIENCE;
    while read_records(out).map_or(0, |found| found.records.len()) < count {
        assert!(Instant::now() < end, "no {count} injections were recorded");
        assert!(child.try_wait().unwrap().is_none(), "the campaign has ended");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a worker process of the campaign runs, and returns its process ID. While a worker is
/// being started, it still has the campaign's files open, and with them the lock on its records.
fn wait_worker(campaign: &Child) -> u32 {
    let end = Instant::now() + PATIENCE;
    let is_worker = |process: &u32| {
        let command = std::fs::read_to_string(format!("/proc/{process}/cmdline"));
        command.is_ok_and(|command| command.contains(WORKER_COMMAND))
    };
    let children = || {
        let threads = std::fs::read_dir(format!("/proc/{}/task", campaign.id())).unwrap();
        let lists = threads.map(|thread| thread.unwrap().path().join("children"));
        lists.map(|list| std::fs::read_to_string(list).unwrap_or_default()).collect::<String>()
    };
    loop {
        let children = children();
        let mut processes = children.split_whitespace().filter_map(|text| text.parse().ok());
        if let Some(worker) = processes.find(is_worker) {
            return worker;
        }
        assert!(Instant::now() < end, "no worker is started");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn records(out: &Path) -> Vec<InjectionRecord> {
    read_records(out).unwrap().records
}

fn ids(out: &Path) -> Vec<u64> {
    let mut ids: Vec<_> = records(out).iter().map(|record| record.id).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn a_replay_strikes_the_same_byte_and_bit() {
    let folder = Folder::new("replay");
    let mut spec = named(&["domain_rx_path", "domain_tx_path"], 6);
    spec["faults"].as_array_mut().unwrap().push(json!({
        "register": {"functions": {"named": ["domain_rx_path"]}}
    }));
    let output = run(&folder.file(&spec), &folder.out(), &[]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(ids(&folder.out()), [1, 2, 3, 4, 5, 6]);

    for id in 1..=6 {
        let (recorded, again) = replay(&folder.out(), id);

        assert_eq!(recorded.fault, again.fault);
        assert_eq!(recorded.moment_us, again.moment_us);
        if recorded.fault.segment == FaultSegment::Registers {
            assert!(recorded.fault.register.is_some() && recorded.fault.bit.is_some());
        } else {
            assert!(recorded.fault.byte.is_some() && recorded.fault.bit.is_some());
        }
    }
}

#[test]
fn a_killed_campaign_goes_on_where_it_was() {
    let folder = Folder::new("kill");
    let (file, out) = (folder.file(&named(&["domain_rx_path"], 8)), folder.out());
    let mut child = campaign(&file, &out, &[]).stdout(Stdio::null()).spawn().unwrap();
    wait_recorded(&out, 2, &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    let before = records(&out);
    // A torn line, as an interrupted write leaves it.
    let lines = out.join("injections.jsonl");
    let mut file_end = std::fs::OpenOptions::new().append(true).open(&lines).unwrap();
    file_end.write_all(b"{\"schema\":\"warmspare.inj").unwrap();
    drop(file_end);

    let again = mistake(&run(&file, &out, &[]));
    let resumed = run(&file, &out, &["--resume"]);

    assert!(again.contains("--resume"), "{again}");
    assert!(resumed.status.success(), "{}", text(&resumed));
    assert_eq!(ids(&out), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(records(&out)[..before.len()], before, "recorded lines stay");
}

#[test]
fn a_campaign_that_is_killed_while_it_samples_has_not_begun() {
    let folder = Folder::new("sampling");
    let spec = json!({"observe_ms": 60, "until": {"injections": 1}, "faults": [{"code": {}}]});
    let (file, out) = (folder.file(&spec), folder.out());
    for more in [&[][..], &["--resume"]] {
        let mut child = campaign(&file, &out, &[]).stdout(Stdio::null()).spawn().unwrap();
        wait_worker(&child);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!out.join("campaign.json").exists(), "it was still sampling");

        let output = run(&file, &out, more);

        assert!(output.status.success(), "{}", text(&output));
        assert_eq!(ids(&out), [1]);
        std::fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn several_jobs_do_the_same_injections() {
    let folder = Folder::new("jobs");
    let mut spec = named(&["domain_rx_path"], 4);
    spec["configurations"] = json!(["fast-spare", "none"]);
    let (file, out) = (folder.file(&spec), folder.out());
    let output = run(&file, &out, &["--jobs", "3"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(ids(&out), [1, 2, 3, 4, 5, 6, 7, 8]);

    // Keeps all records of one configuration, so that many consecutive injection numbers are
    // already done.
    let lines = std::fs::read_to_string(out.join("injections.jsonl")).unwrap();
    let kept = lines.lines().filter(|line| line.contains(r#""configuration":"none""#));
    let kept: String = kept.map(|line| format!("{line}\n")).collect();
    let faults = || records(&out).into_iter().map(|record| (record.id, record.fault));
    let by_several: HashMap<_, _> = faults().collect();
    std::fs::write(out.join("injections.jsonl"), kept).unwrap();
    let resumed = run(&file, &out, &["--resume"]);

    assert!(resumed.status.success(), "{}", text(&resumed));
    assert_eq!(ids(&out), [1, 2, 3, 4, 5, 6, 7, 8]);
    for (id, fault) in faults() {
        assert_eq!(fault, by_several[&id], "injection {id} by one job");
    }
}

#[test]
fn a_signal_ends_it_with_whole_lines() {
    let folder = Folder::new("signal");
    let (file, out) = (folder.file(&named(&["domain_rx_path"], 100_000)), folder.out());
    let mut command = campaign(&file, &out, &[]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_recorded(&out, 1, &mut child);
    let signalled = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(signalled.unwrap().success());

    let status = child.wait().unwrap();

    assert_eq!(status.code(), Some(1), "stopped before its end");
    let text = std::fs::read_to_string(out.join("injections.jsonl")).unwrap();
    assert!(text.ends_with('\n'));
    assert_eq!(text.lines().count(), ids(&out).len());
}

#[test]
fn a_full_disk_loses_no_recorded_line() {
    let folder = Folder::new("disk");
    let (file, out) = (folder.file(&named(&["domain_rx_path"], 100_000)), folder.out());
    let mut child =
        campaign(&file, &out, &[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_recorded(&out, 2, &mut child);
    let before = records(&out);
    // The limit on file sizes: the present size of this file and about half a line.
    let limit = std::fs::metadata(out.join("injections.jsonl")).unwrap().len() + 200;
    let limited = Command::new("prlimit")
        .args([&format!("--fsize={limit}"), "--pid", &child.id().to_string()])
        .status()
        .expect("prlimit, from util-linux");
    assert!(limited.success());

    let output = child.wait_with_output().unwrap();

    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("injections.jsonl"), "{}", text(&output));
    let lines = std::fs::read_to_string(out.join("injections.jsonl")).unwrap();
    assert!(lines.ends_with('\n') && records(&out).starts_with(&before));
}

#[test]
fn mistakes_are_one_line() {
    let folder = Folder::new("mistakes");
    let sound = named(&["domain_rx_path"], 1);
    let line = |change: &dyn Fn(&mut Value)| {
        let mut spec = sound.clone();
        change(&mut spec);
        mistake(&run(&folder.file(&spec), &folder.out(), &[]))
    };
    type Change<'a> = &'a dyn Fn(&mut Value);
    let cases: [(&str, Change<'_>); 8] = [
        ("faults", &|spec| spec["faults"] = json!([])),
        ("faults[0].code.functions", &|spec| {
            spec["faults"][0]["code"]["functions"] = json!("everywhere");
        }),
        ("until", &|spec| spec["until"] = json!({})),
        ("period_us", &|spec| spec["period_us"] = json!(1)),
        ("period_us", &|spec| spec["period_us"] = json!(10_001)),
        ("colour", &|spec| spec["colour"] = json!("red")),
        ("configurations[1]", &|spec| spec["configurations"] = json!(["spare", "spare"])),
        ("no_such_function", &|spec| {
            spec["faults"][0]["code"]["functions"] = json!({"named": ["no_such_function"]});
        }),
    ];
    for (name, change) in cases {
        let text = line(change);
        assert!(text.contains(name) && text.contains("campaign-file.json"), "{name}: {text}");
    }
    assert!(!folder.out().exists(), "nothing is made of a bad file");
    let missing = mistake(&run("/no/such.json", &folder.out(), &[]));
    assert!(missing.contains("/no/such.json"), "{missing}");
    let none = Command::new(program()).args(["campaign", "replay", "/no/folder", "1"]).output();
    assert!(mistake(&none.unwrap()).contains("/no/folder"));
}
