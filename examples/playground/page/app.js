// Receives the snapshots of the server and shows them; see the other files for controls, figures and plots.

import { listen, post, showError, showSettings } from "./controls.js";
import { drawPair, drawPlots } from "./plots.js";
import { write, writeFigures, writePair } from "./figures.js";

const byId = (id) => document.getElementById(id);
let isFrozen = false;
let newest = null;

// Plots that move several times a second distract some readers.
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const CALM_INTERVAL = 2000;
let lastShown = -Infinity;

// A screen reader speaks rarely: changes of state, and results of what the visitor did.
const ANNOUNCE_INTERVAL = 4000;
let announcement = null;
let lastAnnounced = -Infinity;

function announce(text) {
  clearTimeout(announcement);
  const wait = Math.max(0, lastAnnounced + ANNOUNCE_INTERVAL - performance.now());
  announcement = setTimeout(() => {
    lastAnnounced = performance.now();
    byId("status").textContent = text;
  }, wait);
}

const STATES = {
  running: "Redis runs",
  starting: "Redis starts",
  stopped: "Redis is stopped",
  failed: "Redis does not start; see the terminal",
  external: "Redis of another program (REDIS_URL), so it has no switch",
};

let announcedState = null;

function showRedis(snapshot) {
  const { status, text } = snapshot.redis;
  const isAbsent = status === "absent";
  byId("redis-absent").hidden = !isAbsent;
  byId("redis-present").hidden = isAbsent;
  if (isAbsent) return write("redis-reason", text);
  const state = byId("redis-state");
  if (state.textContent !== STATES[status]) {
    state.textContent = STATES[status];
    state.className = `state ${status === "external" ? "running" : status}`;
  }
  byId("redis-switch").hidden = status === "external";
  write("redis-switch", status === "running" || status === "starting" ? "Stop Redis" : "Start Redis");
  const isDegraded = Object.values(snapshot.pairs).some((pair) => pair.instances.some((one) => one.decided_by !== "redis"));
  const spoken = `${STATES[status]}. ${isDegraded ? "The instances decide without it." : "All instances use it."}`;
  // The first state is no news.
  if (announcedState !== null && announcedState !== spoken) announce(spoken);
  announcedState = spoken;
}

function show(snapshot) {
  lastShown = performance.now();
  showRedis(snapshot);
  writeFigures(snapshot);
  drawPlots(snapshot);
  for (const [name, pair] of Object.entries(snapshot.pairs)) {
    const figure = byId(`pair-${name}`);
    writePair(figure, pair, snapshot);
    drawPair(figure, pair, snapshot);
  }
}

async function switchRedis() {
  const wanted = byId("redis-switch").textContent === "Start Redis";
  try {
    await post("redis", { running: wanted });
    showError("");
  } catch (error) {
    showError(error.message);
  }
}

const FIELDS = ["Retry-After", "RateLimit", "RateLimit-Policy", "Content-Type"];

async function sendRequest() {
  let response;
  try {
    response = await fetch("limited", { cache: "no-store" });
  } catch {
    return announce("The server does not answer.");
  }
  const line = `${response.status} ${response.statusText}`;
  byId("answer").hidden = false;
  write("answer-line", `HTTP ${line}`);
  const rows = FIELDS.filter((name) => response.headers.has(name)).flatMap((name) => {
    const [term, value] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    value.textContent = response.headers.get(name);
    return [term, value];
  });
  byId("answer-fields").replaceChildren(...rows);
  const wait = response.headers.get("retry-after");
  announce(`Response ${line}${wait === null ? "" : `, retry after ${wait} seconds`}.`);
}

function receive() {
  const events = new EventSource("events");
  events.addEventListener("message", (event) => {
    byId("connection").hidden = true;
    newest = JSON.parse(event.data);
    showSettings(newest.settings);
    if (!isFrozen && (!calm.matches || performance.now() >= lastShown + CALM_INTERVAL)) show(newest);
  });
  // The browser connects again by itself, unless the server refused the stream.
  events.addEventListener("error", () => {
    byId("connection").hidden = false;
    if (events.readyState === EventSource.CLOSED) setTimeout(receive, 2000);
  });
}

for (const figure of document.querySelectorAll("figure[data-pair]")) {
  figure.append(byId("pair-template").content.cloneNode(true));
}
listen((freeze) => {
  isFrozen = freeze;
  if (newest !== null && !isFrozen) show(newest);
});
byId("redis-switch").addEventListener("click", switchRedis);
byId("send").addEventListener("click", sendRequest);
addEventListener("resize", () => newest !== null && show(newest));
receive();
