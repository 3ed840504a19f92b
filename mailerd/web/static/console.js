"use strict";
// Everything works without this file. With it, a page that shows what changes fetches itself anew when the server says
// that something has changed, times are in the reader's own zone, and a table may be dropped on the form.
(() => {
  document.documentElement.classList.add("js");
  const zone = document.getElementById("zone");
  const inZone = (at, how) => at.toLocaleString("sv-SE", how);  // 2026-12-01 10:00, as the server writes it: no cell moves
  const whole = { dateStyle: "short", timeStyle: "medium" }, minute = { dateStyle: "short", timeStyle: "short" };
  const localTimes = () => {
    const now = new Date();
    for (const it of document.querySelectorAll("time[datetime]")) {
      const at = new Date(it.dateTime), age = Math.floor((now - at) / 1000);
      const isMinute = it.dateTime.length < 20;  // it has no seconds
      it.title = inZone(at, isMinute ? minute : whole);
      if (zone && it.className === "short" && age >= 0 && age < 3600)
        it.textContent = age < 120 ? zone.dataset.s.replace("N", age) : zone.dataset.min.replace("N", Math.floor(age / 60));
      else
        it.textContent = inZone(at, at.toDateString() === now.toDateString() ? { timeStyle: isMinute ? "short" : "medium" } : minute);
    }
    for (const it of document.querySelectorAll("title[data-at]"))
      it.textContent = inZone(new Date(it.dataset.at), whole) + it.textContent.slice(it.textContent.indexOf(": "));
  };
  localTimes();
  setInterval(localTimes, 10000);
  document.addEventListener("htmx:afterSwap", localTimes);  // whatever part of a page is new
  const zoneName = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone) zone.textContent = zone.dataset.zone.replace("ZONE", zoneName);
  document.cookie = `mailerd-zone=${encodeURIComponent(zoneName)}; path=/; max-age=31536000; samesite=lax`;  // where a day begins

  // There is a clipboard: over http a browser keeps a session on its own machine only.
  document.addEventListener("click", async ({ target }) => {
    if (!target.matches("button.copy")) return;
    await navigator.clipboard.writeText(target.previousElementSibling.textContent);
    target.textContent = target.dataset.copied;
  });

  const countSelected = () => {
    for (const it of document.querySelectorAll("[data-count]")) {
      it.dataset.none = it.dataset.none || it.textContent;
      const all = it.closest("form").elements.all;
      const many = all && all.checked ? all.dataset.n : document.querySelectorAll(`input[name="${it.dataset.count}"]:checked`).length;
      it.textContent = many ? it.dataset.many.replace("N", many) : it.dataset.none;
    }
  };
  document.addEventListener("change", (event) => {
    const name = event.target.dataset.all;
    if (name) for (const box of document.querySelectorAll(`input[name="${name}"]`)) box.checked = event.target.checked;
    countSelected();
  });

  // A second click would send a form once more before its answer is here: of two rotations the first secret is never
  // shown, and the one that clients use is dead at once.
  let sent = -Infinity;
  document.addEventListener("submit", (event) => {
    if (event.target.method !== "post" || event.submitter?.formTarget) return;  // a preview changes nothing
    if (event.timeStamp - sent < 10000) event.preventDefault();
    else sent = event.timeStamp;
  });
  addEventListener("pageshow", () => { sent = -Infinity; });

  // After a form, who reads by ear or by keys is at the first error, at what was done, or at the heading.
  const main = document.querySelector("main");
  document.addEventListener("submit", (event) => {
    if (!event.defaultPrevented && event.target.method === "post" && !event.submitter?.formTarget) sessionStorage.setItem("sent", "1");
  });
  if (main && sessionStorage.getItem("sent")) {
    sessionStorage.removeItem("sent");
    const to = location.hash ? null : main.querySelector("[autofocus], [role=alert]") || main.querySelector(".said, h1");
    if (to) { to.tabIndex = -1; to.focus(); }
  }

  // Keys, for who wants them: / searches, n begins a message, g and a letter goes to a page, ? says so.
  const help = document.getElementById("help"), keys = document.getElementById("keys");
  if (help && keys) {
    const on = document.getElementById("keys-on");
    let before = "";
    on.checked = localStorage.getItem("keys") !== "off";
    on.addEventListener("change", () => localStorage.setItem("keys", on.checked ? "on" : "off"));
    help.addEventListener("click", () => keys.showModal());
    document.addEventListener("keydown", (event) => {
      const { key, target } = event, last = before;
      before = "";
      if (!on.checked || event.ctrlKey || event.metaKey || event.altKey || keys.open || target.matches("input, select, textarea, [contenteditable]")) return;
      const found = key === "/" ? document.getElementById("search") : key === "n" ? document.querySelector(".new") : key === "?" ? help
        : last === "g" ? document.querySelector(`nav.main [data-go="${CSS.escape(key)}"]`) : null;
      if (key === "g") before = key;
      if (!found) return;
      event.preventDefault();
      if (key === "/") found.select(); else found.click();
    });
  }

  // New message: a toolbar above the text, and how long an undo is possible.
  const atTime = document.querySelector('[name="when"][value="later"]');
  if (atTime) document.getElementById("at").addEventListener("input", () => { atTime.checked = true; });
  document.addEventListener("click", ({ target }) => {
    const { insert, before = "", after = "", line = "" } = target.dataset || {}, field = insert && document.getElementById(insert);
    if (!field) return;
    const { value, selectionEnd: to } = field;
    const from = line ? value.lastIndexOf("\n", field.selectionStart - 1) + 1 : field.selectionStart, chosen = value.slice(from, to);
    const text = line ? chosen.replace(/^/gm, line) : before + chosen + after;
    field.focus();
    field.setSelectionRange(from, to);
    // What setRangeText writes, no browser undoes; so it is for those alone that do not know insertText.
    if (!document.execCommand("insertText", false, text)) field.setRangeText(text, from, to, "end");
    if (!line && after) field.setSelectionRange(from + before.length, from + before.length + chosen.length);
    target.closest("details")?.removeAttribute("open");
  });
  setInterval(() => {
    for (const it of document.querySelectorAll("[data-countdown]")) {
      it.ends ??= performance.now() + it.dataset.countdown * 1000;  // neither this machine's clock nor the daemon's
      const left = Math.ceil((it.ends - performance.now()) / 1000);
      it.textContent = it.dataset.text.replace("N", Math.max(0, left));
      it.parentElement.hidden = left <= 0;
    }
  }, 1000);

  const drop = document.querySelector("[data-drop]");
  if (drop) {
    const file = drop.querySelector('input[type="file"]');
    const upload = () => file.form.requestSubmit(drop.querySelector("[data-upload]"));
    drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("drop"); });
    drop.addEventListener("dragleave", () => drop.classList.remove("drop"));
    drop.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("drop");
      file.files = event.dataTransfer.files;
      upload();
    });
    file.addEventListener("input", (event) => event.stopPropagation());  // it is no text that is saved while it is typed
    file.addEventListener("change", upload);
  }

  if (typeof Idiomorph === "object") {
    Idiomorph.defaults.ignoreActiveValue = true;
    // What the reader has opened or ticked stays so.
    Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) =>
      !(name === "open" && node.tagName === "DETAILS") && !(name === "checked" && node.tagName === "INPUT");
    // A frame that is morphed would load its message anew.
    Idiomorph.defaults.callbacks.beforeNodeMorphed = (node, next) =>
      !(node.tagName === "IFRAME" && next.tagName === "IFRAME" && node.getAttribute("src") === next.getAttribute("src"));
  }

  const page = document.querySelector("main[data-live]");
  const button = document.getElementById("live");
  if (!page || !button || typeof htmx !== "object") return;
  const stale = document.getElementById("stale"), waits = document.getElementById("waits"), begun = new Map();
  let source = null, paused = false, busy = false, lost = false, fetched = 0, later = 0, left = 0, heard = Date.now(), good = new Date();
  // Who goes to another page gets there: what this one still hears, as that the session has ended, leads nowhere else.
  const isLeft = () => Date.now() - left < 10000;
  addEventListener("beforeunload", () => { left = Date.now(); });
  document.body.addEventListener("htmx:beforeOnLoad", (event) => { if (isLeft()) event.preventDefault(); });
  const showStale = () => {
    stale.hidden = false;
    stale.textContent = stale.dataset.asOf.replace("TIME", inZone(good, { timeStyle: "short" }));
  };
  // A reader keeps what he is typing, or has typed and not sent yet.
  document.addEventListener("focusin", ({ target }) => {
    if (target.matches("main input:not([type=checkbox]), main select, main textarea") && !begun.has(target)) begun.set(target, target.value);
  });
  const inUse = () => [...begun].some(([field, value]) => field.isConnected && (field === document.activeElement || field.value !== value));
  // At most one fetch a second: what is called for earlier comes when the second is over.
  const refresh = () => {
    if (busy || paused || document.hidden || isLeft()) return;
    waits.hidden = !inUse();
    if (!waits.hidden) return;
    const early = fetched + 1000 - Date.now();
    if (early > 0) { clearTimeout(later); later = setTimeout(refresh, early); return; }
    busy = true;
    fetched = Date.now();
    htmx.ajax("GET", location.pathname + location.search, { target: "main", select: "main", selectOOB: "#counters", swap: "morph:outerHTML" })
      .finally(() => { busy = false; countSelected(); });
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
    showStale();
    close();
    open();
    refresh();
  }, 5000);
  // Where no page comes, or one that says that there is no database, the last one stays and says how old it is.
  document.body.addEventListener("htmx:afterSwap", () => { stale.hidden = true; good = new Date(); });
  for (const name of ["htmx:sendError", "htmx:timeout", "htmx:responseError"]) document.body.addEventListener(name, showStale);
  button.addEventListener("click", () => {
    paused = !paused;
    button.setAttribute("aria-pressed", String(paused));
    button.textContent = paused ? button.dataset.resume : button.dataset.pause;
    if (paused) close(); else { open(); refresh(); }
  });
  document.addEventListener("visibilitychange", () => { if (document.hidden) close(); else { open(); refresh(); } });
  open();
})();
// Charts: round times of the reader's own zone below the bars, and the values of one by pointer, tap or arrow keys.
(() => {
  const two = (n) => String(n).padStart(2, "0");
  let chosen = "";
  const ticks = () => {
    for (const chart of document.querySelectorAll("svg.chart[data-every]")) {
      const from = Date.parse(chart.dataset.from), to = Date.parse(chart.dataset.to), every = chart.dataset.every * 1000;
      const all = chart.querySelectorAll("text[data-at]");
      for (const it of all) {
        let ms = Date.parse(it.dataset.at);
        ms += (((new Date(ms).getTimezoneOffset() * 60000) % every) + every) % every;
        if (ms > to) ms -= every * all.length;
        const at = new Date(ms);
        it.toggleAttribute("hidden", ms < from);
        it.setAttribute("x", `${(100 * (ms - from)) / (to - from)}%`);
        it.textContent = every < 86400000 ? `${two(at.getHours())}:${two(at.getMinutes())}` : `${two(at.getMonth() + 1)}-${two(at.getDate())}`;
      }
    }
  };
  const time = (bar) => bar.firstElementChild.dataset.at;
  const show = (plot, bar) => {
    const box = plot.querySelector(".values");
    for (const it of plot.querySelectorAll(".hit.on")) it.classList.remove("on");
    chosen = bar ? time(bar) : "";
    box.hidden = !bar;
    if (!bar) return;
    bar.classList.add("on");
    box.textContent = bar.textContent;
    const its = bar.getBoundingClientRect(), whole = plot.getBoundingClientRect(), wide = box.offsetWidth;
    box.style.left = `${Math.max(0, Math.min(whole.width - wide, its.x - whole.x + (its.width - wide) / 2))}px`;
  };
  const point = (event) => {
    const over = event.target.closest ? event.target.closest(".plot") : null, away = ({ x, width }) => Math.abs(x + width / 2 - event.clientX);
    const bars = over ? [...over.querySelectorAll(".hit")].map((it) => [away(it.getBoundingClientRect()), it]) : [];
    if (bars.length) show(over, bars.reduce((a, b) => (b[0] < a[0] ? b : a))[1]);
    else if (chosen && !document.activeElement.matches("svg.chart")) for (const plot of document.querySelectorAll(".plot")) show(plot, null);
  };
  for (const name of ["pointermove", "pointerdown"]) document.addEventListener(name, point);
  document.addEventListener("keydown", (event) => {
    if (!event.target.matches("svg.chart")) return;
    const bars = [...event.target.querySelectorAll(".hit")], at = bars.findIndex((it) => it.classList.contains("on"));
    const to = { ArrowLeft: at < 0 ? bars.length - 1 : Math.max(0, at - 1), ArrowRight: Math.min(bars.length - 1, at + 1), Home: 0, End: bars.length - 1, Escape: -1 }[event.key];
    if (to === undefined || !bars.length) return;
    event.preventDefault();
    show(event.target.closest(".plot"), bars[to]);
  });
  document.addEventListener("htmx:afterSettle", () => {
    ticks();
    const bar = chosen && [...document.querySelectorAll(".hit")].find((it) => time(it) === chosen);
    if (bar) show(bar.closest(".plot"), bar);
  });
  ticks();
})();
