// Checks of a page that tests run in it. Each returns a list of problems.

function isSeen(element) {
  return element.checkVisibility({ visibilityProperty: true }) && !element.closest(".hidden, .skip:not(:focus), title, desc, script, style, template");
}

/** The texts of the page with their frames; a text of several lines has several. */
function texts() {
  const found = [];
  const walker = document.createTreeWalker(document.documentElement, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const parent = node.parentElement;
    if (node.data.trim() === "" || !isSeen(parent)) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const svgText = parent.closest("text");
    const frames = svgText ? [svgText.getBoundingClientRect()] : [...range.getClientRects()];
    for (const frame of frames.filter((one) => one.width > 1 && one.height > 1)) {
      found.push({ text: node.data.trim(), parent, svg: svgText?.ownerSVGElement, frame });
    }
  }
  return found;
}

const name = (one) => JSON.stringify(one.text.slice(0, 40));

/** Texts that lie on each other. The frame of a font has some pixels around its letters. */
function overlaps() {
  const [all, problems, spare] = [texts(), [], 1.5];
  all.forEach((one, at) => {
    for (const other of all.slice(at + 1)) {
      if (one.parent === other.parent) continue;
      const width = Math.min(one.frame.right, other.frame.right) - Math.max(one.frame.left, other.frame.left);
      const height = Math.min(one.frame.bottom, other.frame.bottom) - Math.max(one.frame.top, other.frame.top);
      if (width > spare && height > 2 * spare) problems.push(`${name(one)} lies on ${name(other)}`);
    }
  });
  return problems;
}

/** Texts that leave the page or their picture, or that are cut off. */
function outside() {
  const problems = [];
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width) problems.push(`the page is ${document.documentElement.scrollWidth} wide`);
  for (const one of texts()) {
    const scrolls = one.parent.closest(".scroll");
    if (!scrolls && (one.frame.left < 0 || one.frame.right > width + 0.5)) problems.push(`${name(one)} leaves the page`);
    const picture = one.svg?.getBoundingClientRect();
    const leaves = picture && (one.frame.left < picture.left - 1 || one.frame.right > picture.right + 1
      || one.frame.top < picture.top - 1 || one.frame.bottom > picture.bottom + 1);
    if (leaves) problems.push(`${name(one)} leaves its picture`);
    const { overflowX, overflowY } = getComputedStyle(one.parent);
    const isCut = (overflowX !== "visible" && one.parent.scrollWidth > one.parent.clientWidth + 1)
      || (overflowY === "hidden" && one.parent.scrollHeight > one.parent.clientHeight + 1);
    if (!one.svg && !scrolls && isCut) problems.push(`${name(one)} is cut off`);
  }
  return problems;
}

function rgba(color) {
  const parts = color.match(/[\d.]+/g).map(Number);
  return parts.length === 3 ? [...parts, 1] : parts;
}

function over([r, g, b, alpha], below) {
  return [r, g, b].map((value, at) => value * alpha + below[at] * (1 - alpha));
}

function background(element) {
  if (element === null) return getComputedStyle(document.documentElement).colorScheme.startsWith("dark") ? [0, 0, 0] : [255, 255, 255];
  const color = rgba(getComputedStyle(element).backgroundColor);
  return color[3] === 1 ? color.slice(0, 3) : over(color, background(element.parentElement));
}

function luminance(color) {
  const [r, g, b] = color.map((value) => value / 255).map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** The contrast ratio of two colors by WCAG 2. */
function ratio(one, other) {
  const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}

/** Texts whose contrast is below 4.5, and lines of plots whose contrast is below 3. */
function contrasts() {
  const problems = [];
  let least = Infinity;
  for (const one of texts()) {
    const style = getComputedStyle(one.parent);
    const ground = background(one.parent);
    const found = ratio(over(rgba(one.svg ? style.fill : style.color), ground), ground);
    least = Math.min(least, found);
    if (found < 4.5) problems.push(`${name(one)} has a contrast of ${found.toFixed(2)}`);
  }
  for (const path of document.querySelectorAll("svg path.line")) {
    const ground = background(path);
    const found = ratio(over(rgba(getComputedStyle(path).stroke), ground), ground);
    if (found < 3) problems.push(`the line ${path.getAttribute("class")} has a contrast of ${found.toFixed(2)}`);
  }
  return { problems, least, ground: background(document.body) };
}
