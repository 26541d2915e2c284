// Makes what is under way visible as it happens. Without it every page works by forms and reloads.
"use strict";

const live = document.getElementById("live");

async function refresh() {
  const answer = await fetch(live.dataset.url, { redirect: "error" });
  // The fragment is a template of this host, rendered with everything in it escaped.
  if (answer.ok) live.innerHTML = await answer.text();
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
  const left = report.behind_ms ? `, ${Math.ceil(report.behind_ms / 1000)} s to go` : "";
  return `${report.slave}: ${report.records_received} received, ${report.saved} new, ${bytes} bytes${left}`;
}

function followSync(form, progress) {
  const button = form.querySelector("button");
  button.disabled = true;
  return follow("/console/events", (state) => {
    progress.replaceChildren();
    const told = state.running ? "A sync is running." : state.problem || (state.ok ? "Synced." : "Synced, but a slave failed; see below.");
    addLine(progress, told, state.problem ? "problem" : "");
    if (state.advice) addLine(progress, state.advice, "advice");
    for (const report of Object.values(state.slaves)) addLine(progress, describe(report), "line");
    return state.running;
  }).then(async () => {
    await refresh();
    button.disabled = false;
  });
}

const form = document.getElementById("sync");
const progress = document.getElementById("progress");
if (form && progress) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    form.querySelector("button").disabled = true;
    const headers = { "X-CSRF-Token": form.elements.csrf.value };
    const answer = await fetch(form.action, { method: "POST", headers, redirect: "manual" });
    if (answer.type === "opaqueredirect") await followSync(form, progress);
    else location.reload();
  });
  if (progress.dataset.running === "yes") followSync(form, progress);
  setInterval(() => { if (!document.hidden) refresh().catch(() => {}); }, 10000);
}

if (live && live.dataset.events) {
  let due = Promise.resolve();
  follow(live.dataset.events, (status) => {
    due = due.then(refresh).catch(() => {});
    return status.state === "running";
  }).then(() => due).then(refresh);
}
