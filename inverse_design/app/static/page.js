// What neither plain forms nor htmx can do: progress as it goes on, files that are too large.
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

watchJob(document);
