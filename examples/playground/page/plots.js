// The plots of the page: what each of them shows.

import { draw } from "./plot.js";
import { count, factor, perSecond, rate, ratesOverTime } from "./figures.js";

// Screen readers read a text when the user comes to it. Changing it more often would only keep them busy.
const TEXT_INTERVAL = 2000;
const texts = new WeakMap();

function show(svg, plot, text) {
  draw(svg, plot);
  const now = performance.now();
  if (now - (texts.get(svg) ?? -Infinity) >= TEXT_INTERVAL) {
    texts.set(svg, now);
    svg.setAttribute("aria-label", text);
  }
}

/** A plot with a window shows a few of them, so that the window is wide enough to see. */
const secondsFor = (window) => Math.min(30, Math.max(10, 5 * window));
const longest = (snapshot) => (snapshot.slices * snapshot.slice) / 1000;

const byId = (id) => document.getElementById(id);

export function drawPlots(snapshot) {
  drawWindow(snapshot, "absolute", [limitOf(snapshot)]);
  const hasBand = snapshot.hard_cap > snapshot.limit;
  const cap = { values: snapshot.series.hard_cap, style: "cap", text: `hard cap ${count(snapshot.hard_cap)}` };
  drawWindow(snapshot, "suppressed", hasBand ? [limitOf(snapshot), cap] : [limitOf(snapshot, "limit = hard cap")]);
  drawRates(snapshot, "absolute", "refused");
  drawRates(snapshot, "suppressed", "shed");
  drawFactor(snapshot);
}

function limitOf(snapshot, name = "limit") {
  return { values: snapshot.series.limit, style: "limit", text: `${name} ${count(snapshot.limit)}` };
}

function drawWindow(snapshot, strategy, guides) {
  const { slice, series } = snapshot;
  const track = snapshot[strategy];
  const plot = {
    slice,
    seconds: secondsFor(snapshot.window),
    unit: "units in the window",
    window: snapshot.window,
    layers: [{ values: track.in_use, style: "use" }],
    guides,
    band: strategy === "suppressed" ? [series.limit, series.hard_cap] : undefined,
  };
  const bound = strategy === "absolute" ? "limit" : "hard cap";
  show(byId(`${strategy}-window`), plot, `Units in the window over the last ${plot.seconds} seconds, ${strategy} ` +
    `strategy: now ${count(track.used)}, the most in any window is ${count(track.most)}, and the ${bound} is ` +
    `${count(track.bound)}.`);
  const layers = [{ values: track.admitted, bars: true }];
  const slices = { ...plot, unit: "admitted in 100 ms", guides: [], band: undefined, layers };
  show(byId(`${strategy}-slices`), slices, `Admitted units in each tenth of a second, ${strategy} strategy: ` +
    `${perSecond(rate(snapshot, track.admitted))} on average.`);
}

function drawRates(snapshot, strategy, refusal) {
  const track = snapshot[strategy];
  const refused = track.offered.map((offered, slice) => offered - track.admitted[slice]);
  const average = snapshot.limit / snapshot.window;
  const plot = {
    slice: snapshot.slice,
    seconds: longest(snapshot),
    unit: "requests per second",
    guides: [],
    layers: [
      { values: ratesOverTime(snapshot, track.offered), style: "offered" },
      { values: ratesOverTime(snapshot, refused), style: "refused" },
      { values: ratesOverTime(snapshot, track.admitted), style: "use" },
    ],
  };
  show(byId(`${strategy}-rates`), plot, `Requests per second over the last 30 seconds, ${strategy} strategy: offered ` +
    `${perSecond(rate(snapshot, track.offered))}, admitted ${perSecond(rate(snapshot, track.admitted))}, ${refusal} ` +
    `${perSecond(rate(snapshot, refused))}. The limit is ${perSecond(average)} on average.`);
}

function drawFactor(snapshot) {
  const values = snapshot.series.factor;
  const plot = {
    slice: snapshot.slice,
    seconds: longest(snapshot),
    unit: "part of the requests",
    top: 1.1,
    guides: [],
    layers: [{ values, style: "refused" }],
  };
  show(byId("factor-plot"), plot, `Suppression factor over the last 30 seconds: now ${factor(values.at(-1))}.`);
}

export function drawPair(figure, pair, snapshot) {
  const { slice } = snapshot;
  const of = (name) => figure.querySelector(`[data-plot="${name}"]`);
  const store = figure.dataset.pair === "redis" ? "Redis store" : "hybrid store";
  const inUse = {
    slice,
    seconds: secondsFor(snapshot.window),
    unit: "units in the window",
    window: snapshot.window,
    guides: [limitOf(snapshot)],
    layers: [{ values: pair.in_use, style: "use" }],
  };
  show(of("window"), inUse, `Units in the window of both instances together, ${store}: now ${count(pair.used)}, and the ` +
    `limit is ${count(snapshot.limit)}.`);
  const [first, second] = pair.instances;
  const rates = {
    slice,
    seconds: longest(snapshot),
    unit: "requests per second",
    guides: [],
    layers: [
      { values: ratesOverTime(snapshot, pair.offered), style: "offered" },
      { values: ratesOverTime(snapshot, first.admitted), style: "first" },
      { values: ratesOverTime(snapshot, second.admitted), style: "second" },
    ],
  };
  show(of("rates"), rates, `Requests per second, ${store}: instance A admits ` +
    `${perSecond(rate(snapshot, first.admitted))}, and instance B ${perSecond(rate(snapshot, second.admitted))}.`);
}
