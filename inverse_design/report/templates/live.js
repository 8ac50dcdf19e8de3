// Draws the interactive figures. Where this does not run (a mail viewer, a printer), the still ones are shown.
(async () => {
  const packed = document.getElementById("plotly");
  if (!packed || !window.DecompressionStream) return;
  const bytes = Uint8Array.from(atob(packed.textContent.trim()), (sign) => sign.charCodeAt(0));
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const library = document.createElement("script");
  library.textContent = await new Response(unpacked).text(); // its checksum stands in the policy of this page
  document.head.append(library);
  for (const figure of document.querySelectorAll("figure:has(> .live)")) {
    const place = figure.querySelector(".live");
    const chart = JSON.parse(figure.querySelector("script").textContent);
    figure.classList.add("is-live");
    try {
      await window.Plotly.newPlot(place, chart.data, chart.layout, { displayModeBar: false, responsive: true });
    } catch (error) {
      figure.classList.remove("is-live");
    }
  }
  document.documentElement.dataset.figures = "live";
})();
