// Show the progress of syncs and replays. Without this script, pages work with forms and reloads.
"use strict";

const live = document.getElementById("live");
const stale = document.createElement("p");
stale.className = "problem";
stale.setAttribute("role", "alert");
let shownAt = new Date();

// Show times in the zone of the browser, with the time in UTC as a hint.
function localise(root) {
  for (const time of root.querySelectorAll("time")) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    const local = new Date(moment.getTime() - moment.getTimezoneOffset() * 60000).toISOString();
    const text = local.replace("T", " ").slice(0, time.hasAttribute("data-exact") ? 23 : 19);
    const zone = moment.toLocaleTimeString(undefined, { timeZoneName: "short" }).split(" ").pop();
    time.title = time.textContent;
    time.textContent = `${text} ${zone}`;
  }
}
localise(document);

for (const button of document.querySelectorAll("button[data-copy]")) {
  const area = document.getElementById(button.dataset.copy);
  button.hidden = false;
  button.addEventListener("click", async () => {
    area.select();
    try {
      await navigator.clipboard.writeText(area.value);
    } catch {
      document.execCommand("copy"); // a page without TLS has no clipboard
    }
    button.textContent = "Copied";
  });
}

function nameOf(element) {
  return element.getAttribute("href") || element.getAttribute("aria-label") || element.textContent;
}

// Show the current state, or an alert if the master does not respond: an old page must not look new.
async function refresh() {
  try {
    const response = await fetch(live.dataset.url, { redirect: "error" });
    if (!response.ok) throw new Error(response.status);
    const text = await response.text();
    const focused = live.contains(document.activeElement) ? nameOf(document.activeElement) : null;
    // The fragment is a template of this host, rendered with everything in it escaped.
    live.innerHTML = text;
    localise(live);
    if (focused !== null) {
      const again = [...live.querySelectorAll("a, button, [tabindex]")].find((e) => nameOf(e) === focused);
      if (again) again.focus({ preventScroll: true });
    }
    stale.remove();
    live.classList.remove("stale");
    shownAt = new Date();
  } catch {
    stale.textContent = `The master does not respond, or the login has expired. This page is from ${shownAt.toLocaleTimeString()}; reload it.`;
    live.before(stale);
    live.classList.add("stale");
  }
}

function follow(url, show) {
  const events = new EventSource(url);
  return new Promise((resolve) => {
    events.onmessage = (event) => {
      const state = JSON.parse(event.data);
      const running = show(state);
      if (!running) {
        events.close();
        resolve();
      }
    };
    events.onerror = () => {
      events.close();
      resolve();
    };
  });
}

function addLine(parent, text, kind) {
  const line = document.createElement("p");
  line.className = kind;
  line.textContent = text;
  parent.append(line);
}

function describe(report) {
  const bytes = report.bytes_received + report.bytes_sent;
  const left = report.behind_ms ? `, ${Math.ceil(report.behind_ms / 1000)} s left` : "";
  return `${report.slave}: ${report.records_received} received, ${report.saved} recovered, ${bytes} bytes${left}`;
}

function followSync(form, progress) {
  const button = form.querySelector("button");
  button.disabled = true;
  return follow(progress.dataset.events, (state) => {
    progress.replaceChildren();
    const text = state.running ? "A sync is running." : state.problem || (state.ok ? "Synced." : "Synced, but a slave failed; see below.");
    addLine(progress, text, state.problem ? "problem" : "");
    if (state.advice) addLine(progress, state.advice, "advice");
    for (const report of Object.values(state.slaves)) addLine(progress, describe(report), "line");
    return state.running;
  }).then(async () => {
    await refresh();
    button.disabled = false;
  });
}

// Return whether the master accepted the form: its response is then a redirect.
async function post(form) {
  const headers = { "X-CSRF-Token": form.elements.csrf.value };
  const response = await fetch(form.action, { method: "POST", headers, redirect: "manual" });
  return response.type === "opaqueredirect";
}

const form = document.getElementById("sync");
const progress = document.getElementById("progress");
if (form && progress) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      if (await post(form)) await followSync(form, progress);
      else location.reload();
    } catch {
      await refresh();
      button.disabled = false;
    }
  });
  if (progress.dataset.running === "yes") followSync(form, progress);
  setInterval(() => { if (!document.hidden) refresh(); }, 10000);
}

if (live && live.dataset.events) {
  const stop = document.getElementById("stop");
  stop.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = stop.querySelector("button");
    button.disabled = true;
    try {
      if (await post(stop)) button.textContent = "Stopping…";
      else location.reload();
    } catch {
      await refresh();
      button.disabled = false;
    }
  });
  let due = Promise.resolve();
  let running = true;
  follow(live.dataset.events, (status) => {
    due = due.then(refresh);
    running = status.state === "running";
    return running;
  }).then(() => due).then(refresh).then(() => { if (!running) stop.remove(); });
}
