"use strict";
// Asks the server for its state, shows it, and sends clicks to the server. It uses no library.

const POLL = 350, ROWS = 60;
const NAMES = { stock: "Django", ours: "This backend", both: "" };
const still = matchMedia("(prefers-reduced-motion: reduce)");
const byId = (id) => document.getElementById(id);
const seen = { journal: "", number: 0, events: [], state: null, offset: 0, experiment: "" };

async function poll() {
  try {
    const answer = await fetch(`${document.body.dataset.state}?since=${seen.number}`, { cache: "no-store" });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    take(await answer.json());
  } catch (error) {
    say(`The server of this page does not answer (${error.message}). Check that it is still running.`);
  }
}

function take(state) {
  if (state.journal !== seen.journal) {
    const known = seen.journal !== "";
    Object.assign(seen, { journal: state.journal, number: 0, events: [] });
    byId("events").replaceChildren();
    if (known) return; // numbers begin again: the next answer has all events
  }
  seen.offset = state.now - performance.now() / 1000;
  seen.state = state;
  for (const event of state.events) {
    if (event.n <= seen.number) continue;
    seen.number = event.n;
    seen.events.push(event);
    addRow(event, state.now);
  }
  seen.events.splice(0, seen.events.length - 400);
  for (const [alias, lane] of Object.entries(state.lanes)) showLane(alias, lane);
  showServer(state);
  showNews(state);
}

function addRow(event, now) {
  const row = document.createElement("tr");
  row.dataset.kind = event.kind;
  const cost = event.ms === undefined ? "" : `${event.ms.toFixed(1)} ms`;
  const number = event.connection ? `connection ${event.connection}` : "";
  const answered = event.kind === "ok" ? [number, cost] : [event.answer];
  const time = new Date(Date.now() - (now - event.t) * 1000).toTimeString().slice(0, 8);
  for (const text of [time, NAMES[event.lane], event.text, answered.filter(Boolean).join(", ")]) {
    row.insertCell().textContent = text;
  }
  const rows = byId("events");
  rows.prepend(row);
  if (rows.rows.length > ROWS) rows.deleteRow(-1);
  byId("none").hidden = true;
}

function describe(lane) {
  if (lane.waiting > 0.5) return ["warn", `waiting for ${lane.waiting.toFixed(0)} s`];
  if (lane.error) return ["bad", "failed"];
  if (!lane.connection) return ["none", "not connected"];
  return ["good", lane.first_error ? "works again" : "connected"];
}

function showLane(alias, lane) {
  const part = (name) => byId(alias).querySelector(name);
  const set = (name, text) => { const element = part(name); if (element.textContent !== text) element.textContent = text; };
  lane.recycles = alias === "ours";
  const [tone, word] = describe(lane);
  byId(alias).dataset.tone = tone;
  set(".state", word);
  set(".id", lane.connection ? `connection ${lane.connection}` : "");
  part(".id").classList.toggle("lost", tone === "bad");
  const event = seen.events.findLast((one) => one.lane === alias && ["ok", "error"].includes(one.kind));
  let answer = "no statement yet";
  if (lane.waiting > 0.5) answer = `${lane.waiting_for} ...`;
  else if (lane.error) answer = lane.first_error;
  else if (event) answer = `${event.text}${event.answer ? ` = ${event.answer}` : ""}, ${event.ms.toFixed(1)} ms`;
  set(".answer code", answer);
  const again = lane.error && lane.error !== lane.first_error;
  part(".earlier").hidden = !lane.first_error || (Boolean(lane.error) && !again);
  set(".earlier span", again ? "after that:" : "before that:");
  set(".earlier code", again ? lane.error : lane.first_error);
  const pins = lane.recycles ? lane.pins.join(", ") || "nothing" : lane.transaction ? "yes" : "no";
  set(".pins", pins);
  if (lane.recycles) {
    const counted = Object.entries(seen.state.counters).map(([name, count]) => `${name} ${count}`);
    set(".counters", counted.join(" · ") || "all zero");
  }
  if (lane.about.length) byId("about").textContent = lane.about.join(", ");
}

function showGauge(alias, name, value, limit) {
  const element = byId(alias).querySelector(`.${name}`);
  const known = value !== null;
  const text = known ? `${value.toFixed(1)} s of ${limit} s` : "-";
  element.textContent = text;
  element.classList.toggle("over", Boolean(known && limit && value > limit));
  const share = known && limit ? Math.min(1, value / limit) : 0;
  element.nextElementSibling.firstElementChild.style.width = `${share * 100}%`;
}

function showServer(state) {
  const mark = (id, good, text) => { byId(id).textContent = text; byId(id).classList.toggle("off", !good); };
  mark("server", state.running, state.running ? "server runs" : "server stopped");
  mark("path", !state.blocked, state.blocked ? "packets are dropped" : "network works");
  const turn = (id, on, act, text) => {
    const button = byId(id);
    if (!button) return;
    button.dataset.act = act;
    button.textContent = text;
    button.classList.toggle("primary", on);
  };
  turn("stop", !state.running, state.running ? "stop" : "start", state.running ? "Stop the server" : "Start the server");
  turn("cut", state.blocked, state.blocked ? "mend" : "cut", state.blocked ? "Let packets pass" : "Drop all packets");
  // Not `disabled`: a button would lose the focus of the keyboard.
  for (const button of document.querySelectorAll("button[data-act]")) {
    button.setAttribute("aria-disabled", String(Boolean(state.experiment)));
  }
}

function showNews(state) {
  const under = state.experiment;
  if (under) {
    if (state.step) say(state.step[0].toUpperCase() + state.step.slice(1));
  } else {
    const event = seen.events.findLast((one) => ["ok", "error", "refused"].includes(one.kind));
    const waiting = Object.entries(state.lanes).filter(([, lane]) => lane.waiting > 0.5);
    if (event && event.kind === "refused") say(event.text);
    else if (event || waiting.length) say(["stock", "ours"].map((alias) => outcome(alias, state.lanes[alias])).join(" "));
  }
  byId("countdown").textContent = under && state.left ? `${state.left.toFixed(1)} s` : "";
}

function outcome(alias, lane) {
  const name = alias === "stock" ? "Django's own backend" : "This backend";
  if (lane.waiting > 0.5) return `${name} is waiting for an answer.`;
  if (lane.error) return `${name} failed.`;
  if (!lane.connection) return `${name} is not connected.`;
  return `${name} works with connection ${lane.connection}.`;
}

function say(text) {
  // Setting the same text again would make a screen reader read it again.
  if (byId("headline").textContent !== text) byId("headline").textContent = text;
}

async function act(name) {
  if (seen.state && seen.state.experiment) return;
  const token = document.querySelector("[name=csrfmiddlewaretoken]").value;
  const url = document.body.dataset.do.replace("NAME", name);
  try {
    const answer = await fetch(url, { method: "POST", headers: { "X-CSRFToken": token } });
    if (answer.status === 409) say((await answer.json()).error);
    else if (!answer.ok) say(`Refused with status ${answer.status}.`);
  } catch (error) {
    say(`The server of this page does not answer (${error.message}).`);
  }
  await poll();
}

// On a phone the buttons fill the screen, and the results are below them.
function lookAtLanes() {
  if (byId("stock").getBoundingClientRect().top > innerHeight - 100) {
    byId("news").scrollIntoView({ behavior: still.matches ? "auto" : "smooth" });
  }
}

function draw() {
  if (!seen.state) return;
  const now = performance.now() / 1000 + seen.offset;
  const late = now - seen.state.now;
  for (const [alias, lane] of Object.entries(seen.state.lanes)) {
    const events = seen.events.filter((event) => event.lane === alias || event.lane === "both");
    const later = (value) => (value === null ? null : value + late);
    const limit = lane.idle_limit ?? seen.state.wait_timeout;
    const waiting = lane.waiting && lane.waiting + late;
    drawTimeline(document.querySelector(`#${alias} .timeline`), events, { ...lane, limit, waiting }, now);
    showGauge(alias, "idle", lane.error ? null : later(lane.idle), limit);
    showGauge(alias, "age", lane.error ? null : later(lane.age), lane.max_age);
  }
}

// One call after the other, and none while the page is hidden.
async function turns(what, pause) {
  for (;;) {
    if (!document.hidden) await what();
    await new Promise((resolve) => setTimeout(resolve, pause()));
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-act]");
  if (!button) return;
  lookAtLanes();
  act(button.dataset.act);
});
turns(poll, () => POLL);
turns(draw, () => (still.matches ? 1000 : 100));
turns(async () => { if (byId("auto").value !== "0") await act("select"); },
  () => 1000 * (Number(byId("auto").value) || 1));
