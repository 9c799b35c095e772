// Charts as SVG. Each function gets data and a width in pixels, and returns an element.
// Colour never carries a meaning alone: fills have patterns, lines have dashes, and all have labels.

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const PATTERNS = 6;
let patternSets = 0;

// Fills that differ in colour and in pattern. Returns the definitions and a function from the
// number of a series to its fill. Identifiers hold for the whole page, so each chart has its own.
function fills() {
  const set = `p${patternSets++}`;
  const marks = [
    [],
    [svg("path", { d: "M-1 7L7 -1M-1 1L1 -1M5 7L7 5", "stroke-width": 1.5 })],
    [svg("circle", { cx: 3, cy: 3, r: 1.2 })],
    [svg("path", { d: "M0 3H6", "stroke-width": 1.5 })],
    [svg("path", { d: "M-1 -1L7 7M5 -1L7 1M-1 5L1 7", "stroke-width": 1.5 })],
    [svg("path", { d: "M3 0V6", "stroke-width": 1.5 })],
  ];
  const patterns = marks.map((mark, n) => {
    for (const part of mark) {
      part.style.stroke = "var(--card)";
      part.style.fill = "var(--card)";
    }
    const ground = svg("rect", { width: 6, height: 6 });
    ground.style.fill = `var(--c${n})`;
    return svg("pattern", { id: `${set}-${n}`, width: 6, height: 6, patternUnits: "userSpaceOnUse" }, ground, ...mark);
  });
  return [svg("defs", {}, ...patterns), (n) => `url(#${set}-${n % PATTERNS})`];
}

// A sample of one fill, for legends.
export function swatch(n) {
  const [defs, fill] = fills();
  return svg("svg", { viewBox: "0 0 26 14", "aria-hidden": "true" }, defs, svg("rect", { width: 26, height: 14, fill: fill(n) }));
}

// A piece of the cumulative curve, for legends.
export function curve() {
  return svg("svg", { viewBox: "0 0 26 14", "aria-hidden": "true" }, svg("path", { class: "curve", d: "M0 13C12 13 10 2 26 2" }));
}

export function micros(value) {
  if (value == null) return "–";
  if (value < 1000) return `${Math.round(value)} µs`;
  if (value < 1e6) return `${(value / 1000).toFixed(value < 1e4 ? 2 : 1)} ms`;
  return `${(value / 1e6).toFixed(2)} s`;
}

function text(x, y, content, attributes = {}) {
  return svg("text", { x, y, ...attributes }, content);
}

// What others have measured: a share under a limit is a point, a single figure is a line.
const PAPER_POINT = { us: 10_000, share: 0.91, name: "fast spare 2009: 91 %" };
const PAPER_LINES = [
  { us: 120_000, name: "VxWorks, switch in the application: 120 ms" },
  { us: 7_470_000, name: "reboot of the driver VM 2009: 7.5 s" },
];

// Stacked bars by cause over a logarithmic axis, and the cumulative curve of all causes.
export function histogram(view, causes, width, height) {
  const margin = { left: 34, right: 40, top: 46, bottom: 24 };
  const [lowest, highest] = [10, 20_000_000];
  const plotWidth = width - margin.left - margin.right;
  const bottom = height - margin.bottom;
  const x = (us) => margin.left + plotWidth * Math.log(Math.max(us, lowest) / lowest) / Math.log(highest / lowest);
  const edges = [lowest, ...view.edges_us, highest];
  const most = Math.max(1, ...view.all.counts);
  const y = (share) => bottom - (bottom - margin.top) * share;
  const label = `Interruptions of ${view.all.count} failovers: median ${micros(view.all.p50_us)}, 99 % under ${micros(view.all.p99_us)}, longest ${micros(view.all.max_us)}.`;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label });
  const [defs, fill] = fills();
  picture.append(defs);
  const narrow = width < 560;
  for (const [us, name] of [[10, "10 µs"], [100, "100 µs"], [1000, "1 ms"], [10_000, "10 ms"], [100_000, "100 ms"], [1e6, "1 s"], [1e7, "10 s"]]) {
    picture.append(svg("line", { class: "axis", x1: x(us), x2: x(us), y1: margin.top, y2: bottom }));
    if (!narrow || ["10 µs", "1 ms", "100 ms", "10 s"].includes(name)) picture.append(text(x(us), height - 6, name, { "text-anchor": "middle" }));
  }
  for (const share of [0, 0.5, 1]) {
    picture.append(svg("line", { class: "axis", x1: margin.left, x2: width - margin.right, y1: y(share), y2: y(share) }));
    picture.append(text(width - margin.right + 5, y(share) + 4, `${share * 100} %`));
  }
  picture.append(text(margin.left - 5, y(1) + 4, most, { "text-anchor": "end" }), text(margin.left - 5, y(0) + 4, 0, { "text-anchor": "end" }));
  for (const { us, name } of PAPER_LINES) {
    picture.append(svg("line", { class: "paper", x1: x(us), x2: x(us), y1: margin.top, y2: bottom }, svg("title", {}, name)));
    if (!narrow) picture.append(text(x(us) - 4, 12, name, { "text-anchor": "end" }));
  }
  for (let n = 0; n < view.all.counts.length; n++) {
    let below = 0;
    const [from, to] = [x(edges[n]), x(edges[n + 1])];
    causes.forEach((cause, series) => {
      const count = view.by_cause[cause].counts[n];
      if (count === 0) return;
      const [low, high] = [y(below / most), y((below + count) / most)];
      const bar = svg("rect", { class: "bar", x: from, width: Math.max(to - from, 1), y: high, height: low - high, fill: fill(series) });
      const upper = n < view.edges_us.length ? `up to ${micros(view.edges_us[n])}` : "longer";
      bar.append(svg("title", {}, `${cause}, ${upper}: ${count}`));
      picture.append(bar);
      below += count;
    });
  }
  if (view.all.count > 0) {
    let sum = 0;
    let path = `M${x(lowest)} ${y(0)}`;
    view.all.counts.forEach((count, n) => {
      sum += count;
      path += `L${x(edges[n + 1])} ${y(sum / view.all.count)}`;
    });
    picture.append(svg("path", { class: "curve", d: path }));
  }
  picture.append(svg("line", { class: "goal", x1: x(10_000), x2: x(10_000), y1: margin.top - 6, y2: bottom }));
  picture.append(text(x(10_000), margin.top - 12, "goal: under 10 ms", { class: "goal-text", "text-anchor": "middle" }));
  const [px, py] = [x(PAPER_POINT.us), y(PAPER_POINT.share)];
  picture.append(svg("path", { class: "paper-mark", d: `M${px} ${py - 5}l5 5l-5 5l-5 -5z` }, svg("title", {}, PAPER_POINT.name)));
  picture.append(text(px + 9, py + 4, PAPER_POINT.name));
  return picture;
}

export const PHASES = [
  ["detect_us", "detect: last vCPU entry to verdict"],
  ["release_us", "release: verdict to release of the spare"],
  ["first_frame_us", "first frame: release to first frame on the wire"],
];

// One row for each failover, with its steps side by side on a common scale.
export function timeline(failovers, width) {
  const row = 26;
  const top = 18;
  const left = width < 560 ? 130 : 250;
  const right = 74;
  const total = (failover) => PHASES.reduce((sum, [key]) => sum + (failover.phases[key] ?? 0), 0);
  const longest = Math.max(...failovers.map(total), 1);
  const scale = (width - left - right) / longest;
  const height = top + failovers.length * row + 22;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": "Steps of the newest failovers; the table below has the same numbers." });
  const [defs, fill] = fills();
  picture.append(defs);
  failovers.forEach((failover, n) => {
    const y = top + n * row;
    const clock = new Date(failover.verdict_time).toLocaleTimeString();
    const names = `${failover.from} → ${failover.to ?? "none"}`;
    const what = width < 560 ? `${failover.number}  ${failover.cause}` : `${failover.number}  ${clock}  ${failover.cause}  ${names}`;
    picture.append(text(0, y + 17, what));
    let from = left;
    PHASES.forEach(([key, name], series) => {
      const value = failover.phases[key];
      if (value == null) return;
      const bar = svg("rect", { class: "bar", x: from, y: y + 4, width: Math.max(value * scale, 1), height: row - 9, fill: fill(series) });
      bar.append(svg("title", {}, `${name}: ${micros(value)}`));
      picture.append(bar);
      from += value * scale;
    });
    const end = failover.interruption_us != null ? micros(failover.interruption_us) : failover.outcome.replace("-", " ");
    picture.append(text(from + 6, y + 17, end, { class: "strong" }));
  });
  const base = top + failovers.length * row;
  if (10_000 < longest) {
    const x = left + 10_000 * scale;
    picture.append(svg("line", { class: "goal", x1: x, x2: x, y1: top - 4, y2: base }));
    picture.append(text(x, top - 7, "10 ms", { class: "goal-text", "text-anchor": "middle" }));
  }
  picture.append(svg("line", { class: "axis", x1: left, x2: width - right, y1: base, y2: base }));
  picture.append(text(left, base + 16, "0"), text(width - right, base + 16, micros(longest), { "text-anchor": "end" }));
  return picture;
}

const DASHES = ["none", "6 3", "2 3", "8 3 2 3", "1 4"];

// Lines over the last minutes. `series` is a list of names with a function from sample to value.
export function lines(samples, series, seconds, unit, width, height) {
  const margin = { left: 8, right: 8, top: 18, bottom: 20 };
  const bottom = height - margin.bottom;
  const last = samples.at(-1)?.at_seconds ?? 0;
  const most = Math.max(1, ...samples.flatMap((sample) => series.map(([, value]) => value(sample))));
  const x = (at) => width - margin.right - (last - at) / seconds * (width - margin.left - margin.right);
  const y = (value) => bottom - value / most * (bottom - margin.top);
  const label = `The last ${seconds / 60} minutes: ${series.map(([name]) => name).join(", ")}; at most ${Math.round(most)} ${unit}.`;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label });
  picture.append(svg("line", { class: "axis", x1: margin.left, x2: width - margin.right, y1: y(most), y2: y(most) }));
  picture.append(svg("line", { class: "axis", x1: margin.left, x2: width - margin.right, y1: bottom, y2: bottom }));
  picture.append(text(margin.left, y(most) - 5, `${Math.round(most).toLocaleString()} ${unit}`));
  picture.append(text(margin.left, height - 5, `${seconds / 60} min ago`), text(width - margin.right, height - 5, "now", { "text-anchor": "end" }));
  series.forEach(([name, value], n) => {
    const points = samples.map((sample) => `${x(sample.at_seconds).toFixed(1)},${y(value(sample)).toFixed(1)}`);
    const line = svg("polyline", { class: "series", points: points.join(" "), "stroke-dasharray": DASHES[n] }, svg("title", {}, name));
    line.style.stroke = `var(--c${n})`;
    picture.append(line);
  });
  return picture;
}

// A piece of one line, for legends.
export function dash(n) {
  const line = svg("line", { x1: 0, x2: 26, y1: 7, y2: 7, "stroke-width": 2.5, "stroke-dasharray": DASHES[n] });
  line.style.stroke = `var(--c${n})`;
  return svg("svg", { viewBox: "0 0 26 14", "aria-hidden": "true" }, line);
}
