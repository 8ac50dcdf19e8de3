// What neither plain forms nor htmx can do: progress as it goes on, files that are too large, plates by hand.
"use strict";

function watchJob(root) {
  const job = root.querySelector("[data-events]");
  if (!job) return;
  const bar = job.querySelector("progress");
  const words = job.querySelector("#words");
  const source = new EventSource(job.dataset.events);
  source.onmessage = (message) => {
    const said = JSON.parse(message.data);
    if (said.share === null) bar.removeAttribute("value");
    else bar.value = said.share;
    if (words.textContent !== said.words) words.textContent = said.words;
  };
  source.addEventListener("end", () => { source.close(); window.location.reload(); });
}

document.addEventListener("change", (event) => {
  const input = event.target;
  if (!input.dataset || !input.dataset.most || !input.files.length) return;
  const most = Number(input.dataset.most);
  const large = input.files[0].size > most;
  input.setCustomValidity(large ? `This file is larger than ${(most / 1e6).toFixed(0)} MB; give it to the command line instead.` : "");
  if (large) input.reportValidity();
});

function editPlates(root) {
  const form = root.querySelector("#moves-form");
  if (!form) return;
  const moves = form.querySelector("#moves");
  const said = root.querySelector("#moved");
  let taken = null;

  const name = (well) => well.dataset.well;
  const what = (well) => well.querySelector(".what").textContent.trim();
  function letGo() {
    if (taken) taken.removeAttribute("aria-pressed");
    taken = null;
  }
  function take(well) {
    letGo();
    taken = well;
    well.setAttribute("aria-pressed", "true");
    said.textContent = `Taken: ${what(well)} from ${name(well)}.`;
  }
  function put(from, to) {
    if (from !== to) {
      const [one, two] = [from.querySelector(".what"), to.querySelector(".what")];
      const held = one.cloneNode(true);
      one.replaceWith(two.cloneNode(true));
      two.replaceWith(held);
      [from.className, to.className] = [to.className, from.className];
      moves.value = `${moves.value} ${name(from)}>${name(to)}`.trim();
      said.textContent = `${what(to)} is in ${name(to)} now, ${what(from)} in ${name(from)}. Not saved yet.`;
    }
    letGo();
    to.focus();
  }
  function beside(well, key) {
    const cell = well.closest("td");
    const row = cell.parentElement;
    const rows = { ArrowUp: row.previousElementSibling, ArrowDown: row.nextElementSibling };
    if (key in rows) return rows[key] && rows[key].cells[cell.cellIndex].querySelector("button");
    const next = { ArrowLeft: cell.previousElementSibling, ArrowRight: cell.nextElementSibling }[key];
    return next && next.querySelector("button");
  }
  for (const grid of root.querySelectorAll("table.plate")) {
    grid.addEventListener("click", (event) => {
      const well = event.target.closest("button");
      if (!well) return;
      if (taken) put(taken, well);
      else take(well);
    });
    grid.addEventListener("keydown", (event) => {
      const well = event.target.closest("button");
      if (!well) return;
      if (event.key === "Escape") { letGo(); said.textContent = "Let go."; return; }
      const next = event.key.startsWith("Arrow") ? beside(well, event.key) : null;
      if (!next) return;
      event.preventDefault();
      for (const each of grid.querySelectorAll('button[tabindex="0"]')) each.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
    grid.addEventListener("dragstart", (event) => { take(event.target.closest("button")); event.dataTransfer.setData("text/plain", name(taken)); });
    grid.addEventListener("dragover", (event) => { if (taken && event.target.closest("button")) event.preventDefault(); });
    grid.addEventListener("drop", (event) => {
      const well = event.target.closest("button");
      event.preventDefault();
      if (taken && well) put(taken, well);
    });
    grid.addEventListener("dragend", letGo);
  }
}

watchJob(document);
editPlates(document);
