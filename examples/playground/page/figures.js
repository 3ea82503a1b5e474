// Figures as text: numbers beside the plots, and the tables of the instances.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const precise = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

export const count = (value) => whole.format(value);
export const perSecond = (value) => `${whole.format(value)}/s`;
export const factor = (value) => precise.format(value);

const slicesIn = (snapshot, seconds) => (seconds * 1000) / snapshot.slice;
const sum = (values) => values.reduce((total, value) => total + value, 0);

/** The average per second over the last whole windows, at most ten seconds. */
export function rate(snapshot, values) {
  const windows = Math.max(1, Math.floor(10 / snapshot.window));
  const recent = values.slice(-slicesIn(snapshot, windows * snapshot.window));
  return (sum(recent) * 1000) / (Math.max(1, recent.length) * snapshot.slice);
}

/** At each slice, the rate per second over the half second that ends with it. */
export function ratesOverTime(snapshot, values) {
  const length = slicesIn(snapshot, 0.5);
  let total = 0;
  return values.map((value, slice) => 2 * (total += value - (values[slice - length] ?? 0)));
}

/** Writes a text, unless it stands there already. */
export function write(id, text) {
  put(document.getElementById(id), text);
}

function put(element, text, style = "") {
  if (element.textContent !== text) element.textContent = text;
  if (element.className !== style) element.className = style;
}

/** Writes the most units in any window beside their bound, with a verdict in words. */
function writeMost(strategy, most, bound, boundName) {
  write(`${strategy}-most`, `${count(most)} of ${count(bound)}`);
  const verdict = document.getElementById(`${strategy}-verdict`);
  if (most <= bound) put(verdict, `within the ${boundName}`, "verdict good");
  else put(verdict, `above the ${boundName}`, "verdict bad");
}

export function writeFigures(snapshot) {
  const { absolute, suppressed, series } = snapshot;
  write("absolute-used", `${count(absolute.used)} of ${count(snapshot.limit)}`);
  write("suppressed-used", `${count(suppressed.used)} of ${count(snapshot.limit)}`);
  writeMost("absolute", absolute.most, absolute.bound, "limit");
  writeMost("suppressed", suppressed.most, suppressed.bound, "hard cap");
  for (const [name, track] of Object.entries({ absolute, suppressed })) {
    const [offered, admitted] = [rate(snapshot, track.offered), rate(snapshot, track.admitted)];
    write(`${name}-offered`, perSecond(offered));
    write(`${name}-admitted`, perSecond(admitted));
    write(`${name}-refused`, perSecond(offered - admitted));
  }
  write("factor-now", factor(series.factor.at(-1)));
  write("factor-band", `${count(snapshot.limit)} to ${count(snapshot.hard_cap)} units`);
}

function decidedBy(instance, store, settings) {
  if (instance.decided_by === "share") return "its share";
  if (instance.decided_by === "policy") return settings.outage === "allow" ? "no limit" : "refused";
  return store === "hybrid" ? "its lease" : "Redis";
}

/** The bound of a pair in words. */
function boundOf(pair) {
  if (pair.disturbance === "change") return "none yet: the settings have changed";
  if (pair.disturbance === "return") return "none yet: Redis did not answer just now";
  if (pair.disturbance === null) return `${count(pair.bound)} in any window`;
  if (pair.bound === null) return "none: all requests are admitted";
  return `${count(pair.bound)} in a window with the start of the outage`;
}

function callsOf(pair, status) {
  if (status === "external") return "not measured";
  return status === "running" && pair.calls !== null ? perSecond(pair.calls) : "none";
}

/** Fills the table of a pair of instances. */
export function writePair(figure, pair, snapshot) {
  const cell = (name) => figure.querySelector(`[data-cell="${name}"]`);
  put(cell("offered"), count(rate(snapshot, pair.offered)));
  put(cell("admitted"), count(rate(snapshot, pair.admitted)));
  put(cell("most"), count(pair.most), pair.bound !== null && pair.most > pair.bound ? "bad" : "");
  pair.instances.forEach((instance, index) => {
    const isDegraded = instance.decided_by !== "redis";
    put(cell(`offered-${index}`), count(rate(snapshot, instance.offered)));
    put(cell(`admitted-${index}`), count(rate(snapshot, instance.admitted)));
    const most = count(instance.most);
    put(cell(`most-${index}`), instance.decided_by === "share" ? `${most} of ${count(pair.share)}` : most);
    put(cell(`by-${index}`), decidedBy(instance, figure.dataset.pair, snapshot.settings), isDegraded ? "bad" : "");
    put(cell(`breaker-${index}`), instance.is_breaker_open ? "open" : "closed", instance.is_breaker_open ? "bad" : "");
  });
  put(cell("bound"), boundOf(pair));
  put(cell("calls"), callsOf(pair, snapshot.redis.status));
}
