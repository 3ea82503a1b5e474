// The controls: they send what changes to the server, and show the settings that the server has.

import { count } from "./figures.js";

// The server's settings do not move a control for this time after the visitor moved it.
const HOLD = 1500;
// A slider that is dragged sends its value at most this often.
const SEND_INTERVAL = 80;

const byId = (id) => document.getElementById(id);
const heldUntil = new Map();
const pending = {};
let timer = null;
let isPaused = false;

const UNITS = {
  offered: (value) => `${count(value)} requests/s`,
  limit: (value) => `${count(value)} units`,
  window: (value) => `${value} s`,
  factor: (value) => `× ${value.toFixed(1)}`,
  split: (value) => `${value} %`,
};

const PATTERNS = {
  steady: "The offered load, all the time.",
  bursts: "Every 2 seconds, 4 times the offered load for 0.4 seconds. The average is the offered load.",
  spike: "Every 12 seconds, 4 times the offered load for 3 seconds.",
};

const OUTAGES = {
  "local-share": "Each instance decides alone, with half of the limit. This is the default.",
  reject: "All requests are refused. A layer responds with 503.",
  allow: "All requests are admitted, without a limit.",
};

/** Sends a JSON body, and returns the JSON of the response. An error has the text of the server. */
export async function post(path, body) {
  const headers = { "content-type": "application/json" };
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  const value = await response.json();
  if (!response.ok) throw new Error(value.error);
  return value;
}

export function showError(text) {
  const element = byId("control-error");
  element.textContent = text;
  element.hidden = text === "";
}

function change(name, value) {
  heldUntil.set(name, performance.now() + HOLD);
  pending[name] = value;
  timer ??= setTimeout(send, SEND_INTERVAL);
}

async function send() {
  const changes = { ...pending };
  for (const name of Object.keys(pending)) delete pending[name];
  timer = null;
  try {
    await post("settings", changes);
    showError("");
  } catch (error) {
    showError(`The settings are not changed: ${error.message}`);
  }
}

function showValue(name, value) {
  const text = UNITS[name](value);
  byId(name).setAttribute("aria-valuetext", text);
  byId(`${name}-out`).textContent = text;
}

function setPressed(button, isPressed) {
  if (button.getAttribute("aria-pressed") !== String(isPressed)) button.setAttribute("aria-pressed", String(isPressed));
}

export function listen(onFreeze) {
  for (const name of Object.keys(UNITS)) {
    byId(name).addEventListener("input", (event) => {
      const value = Number(event.target.value);
      showValue(name, value);
      change(name, value);
    });
  }
  for (const radio of document.querySelectorAll('input[type="radio"]')) {
    radio.addEventListener("change", () => change(radio.name, radio.value));
  }
  for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
  byId("paused").addEventListener("click", (event) => {
    isPaused = !isPaused;
    setPressed(event.currentTarget, isPaused);
    change("paused", isPaused);
  });
  byId("freeze").addEventListener("click", (event) => {
    const isFrozen = event.currentTarget.getAttribute("aria-pressed") !== "true";
    setPressed(event.currentTarget, isFrozen);
    onFreeze(isFrozen);
  });
}

/** Shows the settings of the server, which another page may have changed. */
export function showSettings(settings) {
  const isFree = (name) => (heldUntil.get(name) ?? 0) < performance.now();
  for (const name of Object.keys(UNITS).filter(isFree)) {
    const input = byId(name);
    if (input.value !== String(settings[name]) || byId(`${name}-out`).textContent === "") {
      input.value = settings[name];
      showValue(name, settings[name]);
    }
  }
  for (const [name, texts, hint] of [["pattern", PATTERNS, "pattern-hint"], ["outage", OUTAGES, "outage-hint"]]) {
    if (isFree(name)) document.querySelector(`input[name="${name}"][value="${settings[name]}"]`).checked = true;
    if (byId(hint).textContent !== texts[settings[name]]) byId(hint).textContent = texts[settings[name]];
  }
  if (isFree("paused")) {
    isPaused = settings.paused;
    setPressed(byId("paused"), isPaused);
  }
}
