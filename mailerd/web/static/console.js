"use strict";
// Everything works without this file. With it, a page that shows what changes fetches itself anew when the server says
// that something has changed, times are in the reader's own zone, and a table may be dropped on the form.
(() => {
  document.documentElement.classList.add("js");
  const reader = document.documentElement.lang === "zh" ? "zh-CN" : undefined;
  const localTimes = (root) => {
    for (const it of root.querySelectorAll("time[datetime]:not([data-local])")) {
      const at = new Date(it.dateTime);
      it.title = it.title || it.textContent + " UTC";
      const day = at.toDateString() === new Date().toDateString();
      it.textContent = at.toLocaleString(reader, day ? { timeStyle: "medium" } : { dateStyle: "short", timeStyle: "short" });
      it.dataset.local = "1";
    }
  };
  localTimes(document);
  const here = document.querySelector("nav.main [aria-current]");
  if (here) here.parentElement.scrollLeft = here.offsetLeft - here.parentElement.offsetLeft - 60;
  const zone = document.getElementById("zone");
  if (zone) zone.textContent = zone.dataset.local;

  document.addEventListener("change", (event) => {
    const name = event.target.dataset.all;
    if (!name) return;
    for (const box of document.querySelectorAll(`input[name="${name}"]`)) box.checked = event.target.checked;
  });

  // A second click would send a form once more before its answer is here: of two rotations the first secret is never
  // shown, and the one that clients use is dead at once.
  let sent = -Infinity;
  document.addEventListener("submit", (event) => {
    if (event.target.method !== "post") return;
    if (event.timeStamp - sent < 10000) event.preventDefault();
    else sent = event.timeStamp;
  });
  addEventListener("pageshow", () => { sent = -Infinity; });

  const drop = document.querySelector("[data-drop]");
  if (drop) {
    const file = drop.querySelector('input[type="file"]');
    drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("drop"); });
    drop.addEventListener("dragleave", () => drop.classList.remove("drop"));
    drop.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("drop");
      file.files = event.dataTransfer.files;
    });
  }

  if (typeof Idiomorph === "object") {
    Idiomorph.defaults.ignoreActiveValue = true;
    // What the reader has opened or ticked stays so.
    Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) =>
      !(name === "open" && node.tagName === "DETAILS") && !(name === "checked" && node.tagName === "INPUT");
    // A frame that is morphed would load its letter anew.
    Idiomorph.defaults.callbacks.beforeNodeMorphed = (node, next) =>
      !(node.tagName === "IFRAME" && next.tagName === "IFRAME" && node.getAttribute("src") === next.getAttribute("src"));
  }

  const page = document.querySelector("main[data-live]");
  const button = document.getElementById("live");
  if (!page || !button || typeof htmx !== "object") return;
  const stale = document.getElementById("stale"), waits = document.getElementById("waits"), begun = new Map();
  let source = null, paused = false, busy = false, lost = false, heard = Date.now();
  // A reader keeps what he is typing, or has typed and not sent yet.
  document.addEventListener("focusin", ({ target }) => {
    if (target.matches("main input:not([type=checkbox]), main select, main textarea") && !begun.has(target)) begun.set(target, target.value);
  });
  const inUse = () => [...begun].some(([field, value]) => field.isConnected && (field === document.activeElement || field.value !== value));
  const refresh = () => {
    if (busy || paused || document.hidden) return;
    waits.hidden = !inUse();
    if (!waits.hidden) return;
    busy = true;
    htmx.ajax("GET", location.pathname + location.search, { target: "main", select: "main", swap: "morph:outerHTML" })
      .finally(() => { busy = false; localTimes(document); });
  };
  const close = () => { if (source) source.close(); source = null; };
  const open = () => {
    if (source || paused || document.hidden) return;
    heard = Date.now();
    const stream = source = new EventSource("/live");
    stream.addEventListener("changed", () => { heard = Date.now(); refresh(); });
    stream.addEventListener("open", () => { if (lost) refresh(); lost = false; });
    stream.addEventListener("error", () => {
      lost = true;
      refresh();  // it shows what is wrong
      if (stream.readyState !== EventSource.CLOSED || source !== stream) return;
      close();  // it was refused: a browser does not try again by itself
      setTimeout(() => { open(); refresh(); }, 5000);
    });
  };
  setInterval(() => {
    if (!source || Date.now() - heard < 30000) return;
    stale.hidden = false;
    close();
    open();
    refresh();
  }, 5000);
  // While there is no database, the answer is a page that says so. Where no page comes, what is shown is old.
  document.body.addEventListener("htmx:beforeSwap", ({ detail }) => { if (detail.xhr.status === 503) detail.shouldSwap = true; });
  document.body.addEventListener("htmx:afterSwap", () => { stale.hidden = true; });
  for (const name of ["htmx:sendError", "htmx:timeout", "htmx:responseError"]) document.body.addEventListener(name, () => { stale.hidden = false; });
  button.addEventListener("click", () => {
    paused = !paused;
    button.setAttribute("aria-pressed", String(paused));
    button.textContent = paused ? button.dataset.resume : button.dataset.pause;
    if (paused) close(); else { open(); refresh(); }
  });
  document.addEventListener("visibilitychange", () => { if (document.hidden) close(); else { open(); refresh(); } });
  open();
})();
