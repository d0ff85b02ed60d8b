// Points at configurations: a tip under the pointer or the keyboard, and the chain of a chosen one.
"use strict";
(() => {
  const known = JSON.parse(document.getElementById("trials").textContent);
  const trials = known.trials;
  const marks = [...document.querySelectorAll("[data-c]")].filter((m) => trials[m.dataset.c]);
  const byKey = new Map();
  for (const m of marks) {
    if (!byKey.has(m.dataset.c)) byKey.set(m.dataset.c, []);
    byKey.get(m.dataset.c).push(m);
  }
  const tip = document.body.appendChild(element("div", { id: "tip", role: "tooltip" }));
  tip.hidden = true;

  function element(name, attributes = {}, text = "") {
    const made = document.createElement(name);
    for (const [k, v] of Object.entries(attributes)) made.setAttribute(k, v);
    made.textContent = text;
    return made;
  }

  function showTip(mark) {
    const [head, ...lines] = trials[mark.dataset.c].tip;
    tip.replaceChildren(element("strong", {}, head), ...lines.map((l) => element("div", {}, l)));
    tip.hidden = false;
    const box = mark.getBoundingClientRect();
    const right = box.right + 12 + tip.offsetWidth < document.documentElement.clientWidth;
    const left = right ? box.right + 12 : Math.max(4, box.left - 12 - tip.offsetWidth);
    const top = Math.min(box.top, window.innerHeight - tip.offsetHeight - 8);
    tip.style.left = `${left + window.scrollX}px`;
    tip.style.top = `${Math.max(4, top) + window.scrollY}px`;
    for (const m of byKey.get(mark.dataset.c)) m.classList.add("hovered");
  }

  function hideTip() {
    tip.hidden = true;
    for (const m of marks) m.classList.remove("hovered");
  }

  // One stop of the tabulator a chart; arrows go from mark to mark inside it.
  const charts = new Map();
  for (const m of marks) {
    const chart = m.closest("svg");
    if (!charts.has(chart)) charts.set(chart, []);
    charts.get(chart).push(m);
  }
  for (const [, own] of charts) own[0].setAttribute("tabindex", "0");

  function move(mark, step) {
    const own = charts.get(mark.closest("svg"));
    const next = own[(own.indexOf(mark) + step + own.length) % own.length];
    for (const m of own) m.setAttribute("tabindex", m === next ? "0" : "-1");
    next.focus();
  }

  const panel = document.getElementById("chosen");

  function choose(key) {
    for (const m of marks) m.classList.remove("chosen", "in-chain");
    for (const old of document.querySelectorAll(".chain")) old.remove();
    if (panel) panel.hidden = !key;
    if (!key) {
      history.replaceState(null, "", location.pathname + location.search);
      return;
    }
    const chain = trials[key].chain;
    for (const k of chain) for (const m of byKey.get(k) || []) m.classList.add("in-chain");
    for (const m of byKey.get(key)) m.classList.add("chosen");
    drawChain(chain);
    if (panel) fill(key, chain);
    history.replaceState(null, "", `#chain-${key}`);
  }

  function drawChain(chain) {
    for (const chart of document.querySelectorAll("svg.follows")) {
      const places = chain
        .map((k) => chart.querySelector(`[data-c="${CSS.escape(k)}"]`))
        .filter(Boolean)
        .map((m) => `${m.dataset.x},${m.dataset.y}`);
      if (places.length < 2) continue;
      const drawn = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
      drawn.setAttribute("class", "chain");
      drawn.setAttribute("points", places.join(" "));
      chart.append(drawn);
    }
  }

  function fill(key, chain) {
    const body = chain.map((k) => {
      const row = element("tr", k === key ? { class: "chosen-row", "aria-current": "true" } : {});
      const [first, ...rest] = trials[k].row;
      row.append(element("th", { scope: "row" }, first));
      rest.forEach((cell, i) =>
        row.append(element("td", known.words[i + 1] ? { class: "text tags" } : {}, cell)));
      return row;
    });
    panel.querySelector("h3").textContent = `Chain of ${trials[key].tip[0]}`;
    panel.querySelector("tbody").replaceChildren(...body);
  }

  for (const m of marks) {
    m.addEventListener("mouseenter", () => showTip(m));
    m.addEventListener("mouseleave", hideTip);
    m.addEventListener("focus", () => showTip(m));
    m.addEventListener("blur", hideTip);
    m.addEventListener("click", () => choose(m.dataset.c));
    m.addEventListener("keydown", (event) => {
      const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
      const own = charts.get(m.closest("svg"));
      if (event.key in steps) move(m, steps[event.key]);
      else if (event.key === "Home") move(m, -own.indexOf(m));
      else if (event.key === "End") move(m, own.length - 1 - own.indexOf(m));
      else if (event.key === "Enter" || event.key === " ") choose(m.dataset.c);
      else return;
      event.preventDefault();
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    if (tip.hidden) choose(null);
    else hideTip();
  });
  if (panel) panel.querySelector("button").addEventListener("click", () => choose(null));
  const folds = [...document.querySelectorAll("details:not(.long):not([open])")];
  window.addEventListener("beforeprint", () => folds.forEach((f) => { f.open = true; }));
  window.addEventListener("afterprint", () => folds.forEach((f) => { f.open = false; }));
  const asked = decodeURIComponent(location.hash).replace("#chain-", "");
  if (trials[asked] && byKey.has(asked)) choose(asked);
})();
