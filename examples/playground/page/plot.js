// Draws one plot of the last seconds into an SVG. The SVG has one unit for each pixel, so that text keeps its size on
// every screen.

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { left: 48, right: 8, top: 26, bottom: 36 };
// The distance that the labels of two lines need.
const LINE_HEIGHT = 15;

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });

/**
 * `plot` covers `seconds`. Its `layers` and `guides` have `values` of slices of `slice` milliseconds, the newest last. A
 * guide has a text at its end. Optional are a `window` in seconds, a `band` between two series, and the `top` of the scale.
 */
export function draw(svg, plot) {
  const width = Math.round(svg.clientWidth);
  const height = Math.round(svg.clientHeight);
  if (width === 0 || height === 0) return;
  const { seconds } = plot;
  const slices = (seconds * 1000) / plot.slice;
  const recent = (one) => ({ ...one, values: one.values.slice(-slices) });
  const [layers, guides] = [plot.layers.map(recent), plot.guides.map(recent)];
  const top = plot.top ?? ceiling(Math.max(1, ...[...layers, ...guides].flatMap((one) => one.values)));
  const area = {
    left: MARGIN.left,
    right: width - MARGIN.right,
    top: MARGIN.top,
    bottom: height - MARGIN.bottom,
    x: (ago) => width - MARGIN.right - (ago / slices) * (width - MARGIN.left - MARGIN.right),
    y: (value) => height - MARGIN.bottom - (value / top) * (height - MARGIN.top - MARGIN.bottom),
  };
  const parts = [...axes(area, seconds, top, plot)];
  if (plot.window) parts.push(...windowOf(area, plot));
  if (plot.band) {
    const [low, high] = plot.band.map((values) => values.slice(-slices));
    parts.push(element("path", { class: "band", d: between(area, low, high) }));
  }
  for (const layer of layers) {
    const d = layer.bars ? steps(area, layer.values) : polyline(area, layer.values);
    parts.push(element("path", { class: layer.bars ? "bars" : `line ${layer.style}`, d }));
  }
  for (const guide of guides) {
    parts.push(element("path", { class: `line ${guide.style}`, d: polyline(area, guide.values) }));
  }
  parts.push(...labels(area, guides));
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(...parts);
}

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const line = (style, x1, y1, x2, y2) => element("line", { class: style, x1, y1, x2, y2 });
const label = (x, y, anchor, text, style = "") => element("text", { x, y, "text-anchor": anchor, class: style }, text);

/** The ticks are multiples of 1, 2 or 5 times a power of ten. */
function step(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [0.2, 0.5, 1, 2, 5].map((factor) => factor * power).find((size) => most / size <= 4) ?? most;
}

/** The top of the scale leaves room for a label above the highest line. */
function ceiling(most) {
  const room = most * 1.16;
  return Math.ceil(room / (step(room) / 4)) * (step(room) / 4);
}

function* axes(area, seconds, top, plot) {
  const size = step(top);
  for (let value = 0; value <= top * 1.0001; value += size) {
    const y = area.y(value);
    yield line(value === 0 ? "axis" : "grid", area.left, y, area.right, y);
    yield label(area.left - 6, y + 4, "end", number.format(value));
  }
  for (let ago = 0; ago <= seconds; ago += seconds > 20 ? 10 : 5) {
    const x = area.x((ago * 1000) / plot.slice);
    const anchor = ago === 0 ? "end" : ago === seconds ? "start" : "middle";
    yield line("axis", x, area.bottom, x, area.bottom + 4);
    yield label(x, area.bottom + 17, anchor, ago === 0 ? "now" : `${ago}`);
  }
  yield label((area.left + area.right) / 2, area.bottom + 32, "middle", "seconds ago");
  yield label(2, 12, "start", plot.unit);
}

/** Marks the window that ends now. */
function* windowOf(area, plot) {
  const left = area.x((plot.window * 1000) / plot.slice);
  const y = area.top - 5;
  yield element("rect", { class: "window", x: left, y, width: area.right - left, height: area.bottom - y });
  yield element("path", { class: "edge", d: `M${left} ${y + 6}V${y}H${area.right}V${y + 6}` });
  yield label(area.right, 12, "end", `window: ${plot.window} s`);
}

/** The labels lie above the newest part of their lines, and never on each other. */
function* labels(area, guides) {
  let lowest = area.bottom;
  const byHeight = guides.map((guide) => [area.y(guide.values.at(-1)), guide.text]).sort((one, other) => other[0] - one[0]);
  for (const [height, text] of byHeight) {
    const y = Math.min(height - 5, lowest - LINE_HEIGHT);
    lowest = y;
    yield label(area.right - 4, y, "end", text, "mark");
  }
}

const point = (area, ago, value) => `${area.x(ago).toFixed(1)} ${area.y(value).toFixed(1)}`;
const polyline = (area, values) => "M" + values.map((value, at) => point(area, values.length - 1 - at, value)).join("L");

function steps(area, values) {
  const top = (value, ago) => `L${point(area, ago, value)}L${point(area, ago - 1, value)}`;
  const tops = values.map((value, at) => top(value, values.length - at));
  return `M${point(area, values.length, 0)}${tops.join("")}L${point(area, 0, 0)}Z`;
}

function between(area, low, high) {
  const back = low.map((value, at) => point(area, low.length - 1 - at, value)).reverse();
  return `${polyline(area, high)}L${back.join("L")}Z`;
}
