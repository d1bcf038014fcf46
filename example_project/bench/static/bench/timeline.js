"use strict";
// Draws the last seconds of one connection: bars for each connection, idle time below, marks between.

const WINDOW = 30;
const SVG = "http://www.w3.org/2000/svg";
const ROW = { bar: 18, pin: 40, mark: 55, top: 68, bottom: 120, axis: 133 };

function shape(parent, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text) element.textContent = text;
  parent.append(element);
  return element;
}

// The connections, the pins and the waits, as recorded in the events.
function history(events) {
  const lives = [], pins = [], waits = [], marks = [];
  const last = (list) => list[list.length - 1];
  const end = (list, at) => { const one = last(list); if (one && one.end === null) one.end = at; };
  for (const event of events) {
    const life = last(lives);
    const open = life && life.end === null;
    switch (event.kind) {
      case "connect":
        end(lives, event.t);
        lives.push({ start: event.t, end: null, lost: null, id: event.connection, contacts: [event.t] });
        break;
      case "ok":
        if (open) { life.contacts.push(event.t); life.lost = null; }
        break;
      case "error":
        if (open && life.lost === null) life.lost = event.t;
        break;
      case "close": end(lives, event.t); end(pins, event.t); break;
      case "unpin": case "lost": end(pins, event.t); break;
      case "pin": end(pins, event.t); pins.push({ start: event.t, end: null, text: event.text }); break;
    }
    if (event.ms > 300) waits.push({ start: event.t - event.ms / 1000, end: event.t });
    if (["ok", "error", "recycle", "trouble"].includes(event.kind)) marks.push(event);
  }
  return { lives, pins, waits, marks };
}

function drawTimeline(svg, events, lane, now) {
  const width = svg.clientWidth;
  const x = (t) => Math.max(-20, width - 8 - ((now - t) / WINDOW) * (width - 16));
  const { lives, pins, waits, marks } = history(events);
  if (lane.waiting > 0.3) waits.push({ start: now - lane.waiting, end: null });
  const most = lane.limit * 1.6;
  const y = (idle) => ROW.bottom - (Math.min(idle, most) / most) * (ROW.bottom - ROW.top);
  svg.replaceChildren();
  shape(svg, "path", { class: "m-axis", d: `M0 ${ROW.bottom}H${width}` });
  const steps = width < 500 ? 10 : 5;
  for (let ago = 0; ago < WINDOW; ago += steps) {
    const at = x(now - ago);
    shape(svg, "path", { class: "m-axis", d: `M${at} ${ROW.bottom}v4` });
    const anchor = ago ? "middle" : "end";
    shape(svg, "text", { x: ago ? at : width, y: ROW.axis, "text-anchor": anchor }, ago ? `${ago} s ago` : "now");
  }
  for (const life of lives) {
    if (life.end !== null && now - life.end > WINDOW) continue;
    drawIdle(svg, life, lane.limit, x, y, now);
    drawBar(svg, life, x, now);
  }
  shape(svg, "path", { class: "m-limit", d: `M0 ${y(lane.limit)}H${width}` });
  const name = lane.idle_limit ? "idle limit" : "wait_timeout";
  shape(svg, "text", { x: 2, y: y(lane.limit) - 4 }, `${name} ${lane.limit} s`);
  for (const span of waits) bar(svg, span, x, now, { class: "m-wait", y: ROW.mark - 6, height: 12 });
  for (const span of pins) bar(svg, span, x, now, { class: "m-pin", y: ROW.pin, height: 5 }, span.text);
  let free = -Infinity;
  for (const mark of marks) {
    if (now - mark.t <= WINDOW) free = drawMark(svg, mark, x(mark.t), free);
  }
}

function bar(svg, span, x, now, attributes, text) {
  const from = x(span.start), to = x(span.end ?? now);
  if (to <= -20) return;
  const element = shape(svg, "rect", { ...attributes, x: from, width: Math.max(2, to - from), rx: 3 });
  if (text) shape(element, "title", {}, text);
}

function drawBar(svg, life, x, now) {
  const lost = life.lost === null ? life.end : life.lost;
  bar(svg, { start: life.start, end: lost }, x, now, { class: "m-bar", y: ROW.bar, height: 18 });
  if (life.lost !== null) {
    bar(svg, { start: life.lost, end: life.end }, x, now, { class: "m-bar lost", y: ROW.bar, height: 18 });
  }
  write(svg, x(life.start), x(lost ?? now), [`connection ${life.id}`, `${life.id}`]);
  if (life.lost !== null) write(svg, x(life.lost), x(life.end ?? now), ["lost, and stays lost", "lost"]);
}

// The first text that has room on a bar.
function write(svg, from, to, texts) {
  const start = Math.max(2, from) + 9;
  const label = shape(svg, "text", { class: "strong", x: start, y: ROW.bar + 13 });
  for (const text of texts) {
    label.textContent = text;
    if (start + label.getComputedTextLength() + 6 < to) return;
  }
  label.remove();
}

function drawIdle(svg, life, limit, x, y, now) {
  life.contacts.forEach((contact, index) => {
    const until = life.contacts[index + 1] ?? life.lost ?? life.end ?? now;
    if (now - until > WINDOW || until - contact < 0.05) return;
    const area = (floor, name) => {
      const start = contact + floor;
      if (until <= start) return;
      const capped = y(Infinity) === y(until - contact) ? capTime(contact, y) : until;
      const d = `M${x(start)} ${y(floor)}L${x(Math.min(capped, until))} ${y(until - contact)}H${x(until)}V${y(floor)}Z`;
      shape(svg, "path", { class: name, d });
    };
    area(0, "m-idle");
    area(limit, "m-over");
  });
}

// When the graph of an idle connection meets the upper edge.
function capTime(contact, y) {
  let idle = 1;
  while (y(idle) > y(Infinity)) idle += 0.25;
  return contact + idle;
}

function drawMark(svg, event, at, free) {
  if (event.kind === "trouble") {
    shape(svg, "path", { class: "m-trouble", d: `M${at} 0V${ROW.bottom}` });
    if (at > free) {
      const label = shape(svg, "text", { class: "strong", x: at + 4, y: 11 }, event.text);
      const length = label.getComputedTextLength();
      if (at + 4 + length > svg.clientWidth) { label.setAttribute("text-anchor", "end"); label.setAttribute("x", at - 4); }
      return at + length + 10;
    }
    return free;
  }
  const group = shape(svg, "g", { transform: `translate(${at} ${ROW.mark})` });
  if (event.kind === "ok") shape(group, "circle", { class: "m-ok", r: 4.5 });
  if (event.kind === "error") shape(group, "path", { class: "m-error", d: "M-5 -5l10 10m0 -10l-10 10" });
  if (event.kind === "recycle") {
    group.setAttribute("transform", `translate(${at} ${ROW.bar + 9})`);
    shape(group, "path", { class: "m-recycle", d: "M0 -8l8 8l-8 8l-8 -8z" });
  }
  shape(group, "title", {}, [event.text, event.answer].filter(Boolean).join(": "));
  return free;
}
