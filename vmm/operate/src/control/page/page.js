// The dashboard: follows the live feed and shows it. Everything that the server sends is set as text,
// never as markup, because some of it was written by a failed driver.

import { PHASES, curve, dash, histogram, lines, micros, swatch, timeline } from "./charts.js";

const LOST_AFTER_MS = 3500;
const RETRY_MS = 1000;
const SHOWN_IN_TIMELINE = 12;
const SHOWN_IN_TABLE = 8;
const MINUTES = 5;
const KEPT_EVENTS = 200;
const SHOWN_EVENTS = 20;

const $ = (id) => document.getElementById(id);
const MARKS = { active: "▶", standby: "‖", restarting: "↻", failed: "✕", quarantined: "⊘" };

let state = null;
let samples = [];
let happened = [];
let showAll = false;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.map((child) => child ?? "–"));
  return made;
}

// ---------------------------------------------------------------- token and requests

function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!given) return;
  sessionStorage.setItem("token", given);
  history.replaceState(null, "", location.pathname);
}

function request(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  return fetch(path, { ...options, headers, cache: "no-store" });
}

async function refusal(response) {
  try {
    return (await response.json()).error;
  } catch {
    return { code: "unknown", message: `The server answered with status ${response.status}.` };
  }
}

// ---------------------------------------------------------------- the live feed

async function follow() {
  for (;;) {
    try {
      await listen();
    } catch (error) {
      // The page only says that the connection is lost. The console says why.
      console.error(error);
    }
    lose();
    await new Promise((done) => setTimeout(done, RETRY_MS));
  }
}

async function listen() {
  const abort = new AbortController();
  let watchdog = setTimeout(() => abort.abort(), LOST_AFTER_MS);
  try {
    const response = await request("api/v1/live", { signal: abort.signal });
    if (response.status === 401) {
      clearTimeout(watchdog);
      await ask("Token needed", (await refusal(response)).message, "Continue", true, async () => null);
      return;
    }
    if (!response.ok) return;
    const history = await request("api/v1/samples", { signal: abort.signal });
    samples = history.ok ? await history.json() : [];
    const past = await request("api/v1/events", { signal: abort.signal });
    happened = past.ok ? (await past.text()).split("\n").filter((line) => line).map((line) => JSON.parse(line)) : [];
    showHappened();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let buffered = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(watchdog);
      watchdog = setTimeout(() => abort.abort(), LOST_AFTER_MS);
      buffered += value;
      const blocks = buffered.split("\n\n");
      buffered = blocks.pop();
      blocks.forEach(take);
    }
  } finally {
    clearTimeout(watchdog);
    abort.abort();
  }
}

function take(block) {
  const fields = Object.fromEntries(block.split("\n").map((line) => {
    const at = line.indexOf(": ");
    return [line.slice(0, at), line.slice(at + 2)];
  }));
  if (fields.event !== "state") return remember(JSON.parse(fields.data ?? "{}"));
  state = JSON.parse(fields.data);
  const last = samples.at(-1)?.at_seconds ?? -1;
  if (state.rates.at_seconds > last) samples.push(state.rates);
  samples = samples.slice(-MINUTES * 60);
  show();
}

// The same event can arrive with the kept ones and with the feed.
function remember(event) {
  if (!event.seq || happened.some((known) => known.seq === event.seq)) return;
  happened.push(event);
  happened = happened.slice(-KEPT_EVENTS);
  showHappened();
}

function lose() {
  document.body.classList.add("stale");
  $("connection").dataset.state = "lost";
  $("connection").textContent = "connection lost";
  $("lost").hidden = false;
  const since = state ? ` What you see is from ${new Date(state.time).toLocaleTimeString()}.` : "";
  $("lost").textContent = `No connection to warmspare.${since} Trying again.`;
  verdict("unknown", "?", "Unknown", "The connection to warmspare is lost, so the present state of the network is not known.");
  $("switch").disabled = true;
  document.title = `unknown · ${state?.name ?? ""} · warmspare`;
}

// ---------------------------------------------------------------- what is shown

function show() {
  document.body.classList.remove("stale");
  $("connection").dataset.state = "live";
  $("connection").textContent = "live";
  $("lost").hidden = true;
  document.title = `${state.redundant ? "redundant" : "NOT redundant"} · ${state.name} · warmspare`;
  $("name").textContent = state.name;
  $("about").textContent = `version ${state.version} · policy ${state.policy} · up ${duration(state.uptime_seconds)}${state.realtime ? "" : " · no real-time scheduling"}`;
  showVerdict();
  showPath();
  showFailures();
  draw();
}

function duration(seconds) {
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds) % 60];
  return h > 0 ? `${h} h ${m} min` : m > 0 ? `${m} min ${s} s` : `${s} s`;
}

function verdict(kind, mark, word, because) {
  $("verdict").dataset.state = kind;
  $("mark").textContent = mark;
  $("word").textContent = word;
  $("because").textContent = because;
}

function showVerdict() {
  const spare = state.domains.find((domain) => domain.role === "standby" && domain.healthy);
  const dark = state.domains.filter((domain) => domain.nic.link_up === false).map((domain) => domain.nic.name);
  if (state.redundant) {
    verdict("good", "✓", "Redundant", `${state.active} serves, ${spare.name} can take over at once.`);
  } else if (state.active === null) {
    verdict("bad", "✕", "No service", "No domain serves the ring.");
  } else if (state.policy === "reboot") {
    verdict("warn", "!", "Serving without a spare", `${state.active} serves; after a failure it is restarted in place.`);
  } else {
    const aside = state.domains.filter((domain) => domain.aside).map((domain) => domain.name);
    const reason = aside.length > 0 ? `${aside.join(", ")} is paused or in a debugger` : dark.length > 0 ? `no link on ${dark.join(", ")}` : "no domain stands by";
    verdict("warn", "!", "Not redundant", `${state.active} serves, but ${reason}: the next failure will interrupt the service.`);
  }
  $("switch").disabled = !state.redundant;
}

function showPath() {
  const wire = () => element("span", { class: "wire", "aria-hidden": "true" });
  const box = (name, note) => element("div", { class: "box" }, element("b", {}, name), element("small", {}, note));
  const lanes = element("div", { class: "lanes", role: "list" }, ...state.domains.map(lane));
  const taken = state.counters.tx_frames ?? 0;
  const handed = state.counters.rx_frames ?? 0;
  const guest = box("Guest", `${taken.toLocaleString()} out, ${handed.toLocaleString()} in`);
  const board = box("Switchboard", `${(state.counters.tx_resent ?? 0).toLocaleString()} sent again`);
  const lan = box("LAN", "");
  lan.classList.add("lan");
  const last = wire();
  last.classList.add("lan");
  $("path").replaceChildren(guest, wire(), board, wire(), lanes, last, lan);
}

function lane(domain) {
  const wire = () => element("span", { class: "wire", "aria-hidden": "true" });
  const link = domain.nic.link_up === null ? "unknown" : domain.nic.link_up ? "up" : "down";
  const mark = { up: "✓", down: "✕", unknown: "?" }[link];
  const beat = element("span", { class: "beat", "aria-hidden": "true", "data-beat": domain.heartbeat % 2 ? "odd" : "even" }, "♥");
  return element("div", { class: "lane", role: "listitem", "data-role": domain.role, "data-domain": domain.name },
    wire(),
    element("div", { class: "box domain" },
      element("b", {}, `Domain ${domain.name}`),
      element("span", { class: "role", "data-mark": MARKS[domain.role] ?? "" }, domain.role),
      element("small", {}, `life ${domain.epoch} · `, beat, ` ${domain.heartbeat.toLocaleString()} · ${domain.aside ? "put aside" : domain.parked ? "asleep" : "awake"}`)),
    wire(),
    element("div", { class: "box nic", "data-link": link },
      element("b", {}, domain.nic.name),
      element("small", { class: "link" }, `link ${link} ${mark}${domain.nic.trouble ? ` ${domain.nic.trouble}` : ""}`),
      element("small", { class: "lost-frames" }, losses(domain.nic.counters ?? {}))),
    wire());
}

// Frames that came to the NIC for a guest and got to nobody.
function losses(counters) {
  const kinds = ["missed", "too-long", "too-short", "damaged", "unusable", "vanished"];
  const told = kinds.filter((kind) => counters[kind] > 0).map((kind) => `${counters[kind].toLocaleString()} ${kind}`);
  return told.length ? `lost: ${told.join(", ")}` : "";
}

const COLUMNS = [
  ["#", (f) => f.number, "number"],
  ["time", (f) => new Date(f.verdict_time).toLocaleString(), ""],
  ["cause", (f) => f.cause, ""],
  ["domains", (f) => `${f.from} → ${f.to ?? "none"}`, ""],
  ["outcome", (f) => f.outcome.replace("-", " "), ""],
  ["interruption", (f) => micros(f.interruption_us), "number"],
  ["detect", (f) => micros(f.phases.detect_us), "number"],
  ["release", (f) => micros(f.phases.release_us), "number"],
  ["first frame", (f) => micros(f.phases.first_frame_us), "number"],
  ["rebuilt after", (f) => micros(f.phases.rebuild_us), "number"],
  ["resent", (f) => f.resent, "number"],
  ["evidence", (f) => f.evidence, "evidence wide"],
  ["dump", (f) => dumpLinks(f), ""],
];

const DUMP_FILES = [["description", "failure.json"], ["core", "core"], ["program", "domain.elf"]];

// Buttons, because a link could not carry the token that these files take.
function dumpLinks(failure) {
  if (!failure.dump) return null;
  const name = failure.dump.split("/").at(-1);
  return element("span", { class: "files", title: failure.dump }, ...DUMP_FILES.map(([label, file]) => {
    const button = element("button", { type: "button", class: "file", "aria-label": `${label} of failure ${failure.number}` }, label);
    button.addEventListener("click", () => fetchFile(name, file));
    return button;
  }));
}

async function fetchFile(dump, file) {
  const save = async () => {
    try {
      const response = await request(`api/v1/dumps/${encodeURIComponent(dump)}/${file}`);
      if (!response.ok) return refusal(response);
      const link = element("a", { download: `${dump}-${file}` });
      link.href = URL.createObjectURL(await response.blob());
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
      return null;
    } catch {
      return { code: "unknown", message: "No connection to warmspare." };
    }
  };
  const error = sessionStorage.getItem("token") ? await save() : { code: "token", message: "Files of dumps hold frames of the guest, so they take the token." };
  if (!error) return;
  await ask("Save the file?", error.message, "Save", error.code === "token", save);
}

// How an event is listed: its mark, and one sentence. Events of other kinds are not listed.
const EVENTS = {
  "failover": (e) => ["✕", `${e.from} failed (${e.cause}), ${e.to ?? "no domain"} took over${e.interruption_us ? ` after ${micros(e.interruption_us)}` : ""}`],
  "switched": (e) => ["⇄", `planned switch: ${e.to} serves instead of ${e.from}; frames waited ${micros(e.waited_us)}`],
  "drilled": (e) => e.passed ? ["✓", `${e.domain} passed its drill in ${micros(e.round_trip_us)}`] : ["!", `the drill of ${e.domain} failed, to blame: ${e.blame}`],
  "upgraded": (e) => ["↑", `all domains run the new driver, ${e.serves} serves`],
  "upgrade-failed": (e) => ["!", `no upgrade: ${e.reason}`],
  "quarantine": (e) => ["⊘", `${e.domain} failed too often and is left alone for ${Math.round(e.pause_seconds)} s`],
  "build-failed": (e) => ["!", `${e.domain} could not be built: ${e.reason}`],
  "link": (e) => [e.up ? "✓" : "✕", `link of ${e.nic} is ${e.up ? "up" : "down"}`],
  "paused": (e) => ["‖", `${e.domain} was paused`],
  "resumed": (e) => ["▶", `${e.domain} was resumed`],
  "debugger": (e) => ["⌕", e.attached ? `${e.domain} is open to a debugger` : `the debugger of ${e.domain} has disconnected`],
  "dumped": (e) => ["↓", `${e.requested ? "a dump of" : "the dump of the failed domain"} ${e.domain} is in ${e.folder}`],
  "dump-lost": (e) => ["!", `no dump of ${e.domain} could be written: ${e.reason}`],
  "reloaded": (e) => ["↻", `configuration read again; in effect: ${e.applied.join(", ") || "nothing"}; takes a restart: ${e.ignored.join(", ") || "nothing"}`],
  "reload-failed": (e) => ["!", `configuration not read again: ${e.reason}`],
  "front-end-waits": (e) => ["!", `a second front-end waits at ${e.socket}`],
  "frames-refused": (e) => ["!", `frames of the guest at ${e.socket} are not let out (${e.reason}${e.source ? `: ${e.source}` : ""}); ${e.mend}`],
  "macs-changed": (e) => ["•", `the guest at ${e.socket} has beside its own address: ${e.macs.join(", ") || "none"}`],
  "redundancy-lost": () => ["!", "redundancy lost"],
  "redundancy-regained": (e) => ["✓", `redundant again after ${micros(e.after_us)}`],
  "service": (e) => ["•", `the service is ${e.to}, it was ${e.from}`],
};

function showHappened() {
  const told = happened.filter((event) => EVENTS[event.event]).slice(-SHOWN_EVENTS).reverse();
  $("happened").replaceChildren(...told.map((event) => {
    const [mark, words] = EVENTS[event.event](event);
    return element("li", { "data-kind": event.event },
      element("time", { datetime: event.time }, new Date(event.time).toLocaleTimeString()),
      element("span", { class: "mark", "aria-hidden": "true" }, mark),
      element("span", {}, words));
  }));
}

function showFailures() {
  const failures = state.last_failovers;
  $("none").hidden = failures.length > 0;
  $("failures").hidden = failures.length === 0;
  const head = COLUMNS.map(([name, , kind]) => element("th", { scope: "col", class: kind }, name));
  $("failures").tHead.replaceChildren(element("tr", {}, ...head));
  const shown = showAll ? failures : failures.slice(0, SHOWN_IN_TABLE);
  const rows = shown.map((failure) => element("tr", {}, ...COLUMNS.map(([name, value, kind]) =>
    element("td", { class: kind, "data-label": name }, cell(value(failure))))));
  showRows(shown, rows);
  $("all").hidden = failures.length <= SHOWN_IN_TABLE;
  $("all").textContent = showAll ? "Show the newest only" : `Show the newest ${failures.length}`;
}

function cell(value) {
  return value instanceof Node ? value : String(value ?? "–");
}

// The rows are replaced only if they differ, so that a button in them keeps the focus.
let shownRows = "";
function showRows(failures, rows) {
  const now = JSON.stringify(failures);
  if (now === shownRows) return;
  shownRows = now;
  $("failures").tBodies[0].replaceChildren(...rows);
}

function legend(id, entries) {
  $(id).replaceChildren(...entries.map(([picture, words]) => element("li", {}, picture, words)));
}

function place(id, draw) {
  const place = $(id);
  const width = Math.max(place.clientWidth, 240);
  place.replaceChildren(draw(width, Number(place.dataset.height)));
}

function draw() {
  if (!state) return;
  drawInterruption();
  drawTimeline();
  const now = state.rates;
  const frames = (value) => Math.round(value).toLocaleString();
  $("throughput-now").textContent = `out ${frames(now.tx_frames)} frames/s, ${bits(now.tx_bytes)} · in ${frames(now.rx_frames)} frames/s, ${bits(now.rx_bytes)}`;
  const throughput = [["out", (s) => s.tx_frames], ["in", (s) => s.rx_frames]];
  drawLines("throughput", throughput, "frames/s");
  $("rings-now").textContent = `${now.rings.tx_post} to send · ${now.tx_unconfirmed} sent, not confirmed · ${now.rings.rx_done} received`;
  const rings = [["to send", (s) => s.rings.tx_post], ["not confirmed", (s) => s.tx_unconfirmed], ["received", (s) => s.rings.rx_done]];
  drawLines("rings", rings, "entries");
}

function drawLines(id, series, unit) {
  place(id, (width, height) => {
    const keys = element("ul", { class: "legend" }, ...series.map(([name], n) => element("li", {}, dash(n), name)));
    return element("div", {}, lines(samples, series, MINUTES * 60, unit, width, height), keys);
  });
}

function bits(bytes) {
  const bits = bytes * 8;
  return bits < 1e6 ? `${(bits / 1e3).toFixed(0)} kbit/s` : `${(bits / 1e6).toFixed(1)} Mbit/s`;
}

function drawInterruption() {
  const view = state.interruption;
  const causes = Object.keys(view.by_cause).sort();
  const figures = view.all.count === 0
    ? [["failovers", 0]]
    : [["failovers", view.all.count], ["p50", micros(view.all.p50_us)], ["p99", micros(view.all.p99_us)], ["longest", micros(view.all.max_us)], ["under 10 ms", share(view, 10_000)]];
  $("figures").replaceChildren(...figures.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", { "data-figure": name }, String(value)))));
  place("histogram", (width, height) => histogram(view, causes, width, height));
  legend("legend", causes.map((cause, n) => {
    const own = view.by_cause[cause];
    return [swatch(n), `${cause}: ${own.count}, p50 ${micros(own.p50_us)}, p99 ${micros(own.p99_us)}, longest ${micros(own.max_us)}`];
  }).concat([[curve(), "share of all failovers up to that time, on the right-hand scale"]]));
  showBuckets(view, causes);
}

function share(view, limit_us) {
  const within = view.all.counts.filter((_, n) => view.edges_us[n] <= limit_us).reduce((a, b) => a + b, 0);
  return `${(100 * within / view.all.count).toFixed(1)} %`;
}

function showBuckets(view, causes) {
  const head = ["up to", ...causes, "all"].map((name) => element("th", { scope: "col", class: "number" }, name));
  const rows = view.all.counts.map((count, n) => {
    const edge = n < view.edges_us.length ? micros(view.edges_us[n]) : "longer";
    const counts = [...causes.map((cause) => view.by_cause[cause].counts[n]), count];
    return element("tr", { "data-count": count }, element("th", { scope: "row", class: "number" }, edge),
      ...counts.map((value) => element("td", { class: "number" }, String(value))));
  });
  $("buckets").replaceChildren(element("tr", {}, ...head), ...rows);
}

function drawTimeline() {
  const newest = state.last_failovers.slice(0, SHOWN_IN_TIMELINE);
  if (newest.length === 0) {
    $("timeline").replaceChildren(element("p", { class: "quiet" }, "None yet."));
    $("phases").replaceChildren();
    return;
  }
  place("timeline", (width) => timeline(newest, width));
  legend("phases", PHASES.map(([, words], n) => [swatch(n), words]));
}

// ---------------------------------------------------------------- changes

// Asks before something is done. `act` does it, and returns the error or null.
function ask(title, words, verb, needsToken, act) {
  const dialog = $("ask");
  $("ask-title").textContent = title;
  $("ask-text").textContent = words;
  $("ask-do").textContent = verb;
  $("ask-error").textContent = "";
  $("ask-token").hidden = !needsToken;
  $("token").value = "";
  return new Promise((done) => {
    const finish = () => {
      dialog.close();
      done();
    };
    $("ask-cancel").onclick = finish;
    dialog.oncancel = () => done();
    dialog.querySelector("form").onsubmit = async (event) => {
      event.preventDefault();
      const token = $("token").value.trim();
      if (token) sessionStorage.setItem("token", token);
      const error = await act();
      if (!error) return finish();
      $("ask-error").textContent = error.message;
      if (error.code === "token") $("ask-token").hidden = false;
    };
    dialog.showModal();
  });
}

async function switchOver() {
  try {
    const response = await request("api/v1/switch", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: "{}",
    });
    return response.ok ? null : refusal(response);
  } catch {
    return { code: "unknown", message: "No connection to warmspare." };
  }
}

$("switch").addEventListener("click", () => ask(
  "Switch over?",
  `A standby takes over from ${state.active}, which becomes a standby. The service goes on.`,
  "Switch over",
  !sessionStorage.getItem("token"),
  switchOver,
));

$("all").addEventListener("click", () => {
  showAll = !showAll;
  showFailures();
});

let redraw;
new ResizeObserver(() => {
  cancelAnimationFrame(redraw);
  redraw = requestAnimationFrame(draw);
}).observe($("histogram"));

takeToken();
follow();
