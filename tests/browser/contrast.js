// The contrast of every visible text with what is behind it, as [text, ratio].
const parse = (text) => {
  const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number);
  return [r, g, b, a];
};
const linear = (value) => {
  const share = value / 255;
  return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
};
const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const ground = (element) => {
  for (; element; element = element.parentElement) {
    const colour = parse(getComputedStyle(element).backgroundColor);
    if (colour[3] === 1) return colour;
  }
  return [255, 255, 255, 1];
};
const found = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || element.matches("script, noscript, option, title")) continue;
  if (!element.getClientRects().length) continue;
  const style = getComputedStyle(element);
  const colour = parse(element.namespaceURI.endsWith("svg") ? style.fill : style.color);
  const [one, other] = [light(colour), light(ground(element))].sort((a, b) => b - a);
  found.push([element.textContent.trim().slice(0, 40), (one + 0.05) / (other + 0.05)]);
}
return found;
