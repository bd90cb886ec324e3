"use strict";
const svgName = "http://www.w3.org/2000/svg";
const box = document.getElementById("reading");

function make(parent, name, attributes) {
  const element = document.createElementNS(svgName, name);
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  return parent.appendChild(element);
}

function nearest(readings, x) {
  let best = null;
  for (const entry of readings.at) if (!best || Math.abs(entry[0] - x) < Math.abs(best[0] - x)) best = entry;
  return best;
}

function show(plot, readings, layer, event) {
  const frame = plot.getBoundingClientRect();
  const entry = nearest(readings, (event.clientX - frame.left) / frame.width * readings.size[0]);
  if (!entry) return;
  layer.replaceChildren();
  box.replaceChildren();
  make(layer, "line", { class: "cursor", x1: entry[0], x2: entry[0], y1: readings.top, y2: readings.bottom });
  box.appendChild(document.createElement("b")).textContent = "step " + entry[1].toLocaleString("en");
  entry[2].forEach((line, index) => {
    const group = plot.querySelector('g[data-series="' + index + '"]');
    if (!line || group.classList.contains("off")) return;
    if (line[1] !== null) make(layer, "circle", { class: "cursor-dot " + readings.colours[index], cx: entry[0], cy: line[1], r: 4.5 });
    const row = box.appendChild(document.createElement("span"));
    row.appendChild(document.createElement("i")).className = readings.colours[index];
    row.appendChild(document.createElement("em")).textContent = readings.names[index] + " " + line[0];
  });
  box.hidden = false;
  const right = event.clientX + 16 + box.offsetWidth < innerWidth;
  box.style.left = (right ? event.clientX + 16 : event.clientX - 16 - box.offsetWidth) + "px";
  box.style.top = Math.max(8, event.clientY - box.offsetHeight - 12) + "px";
}

for (const plot of document.querySelectorAll(".plot")) {
  const readings = JSON.parse(plot.dataset.readings);
  const layer = make(plot.querySelector("svg"), "g", {});
  plot.addEventListener("pointermove", event => show(plot, readings, layer, event));
  plot.addEventListener("pointerleave", () => { layer.replaceChildren(); box.hidden = true; });
}

for (const key of document.querySelectorAll("[data-toggle]")) {
  key.addEventListener("click", () => {
    const group = key.closest("figure").querySelector('g[data-series="' + key.dataset.toggle + '"]');
    const off = group.classList.toggle("off");
    key.setAttribute("aria-pressed", String(!off));
  });
}

addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(part => { part.open = true; }));
