// Draws a page's figures once plotly, which the page holds compressed, has been unpacked. Until then `Plotly` is what
// stands here, so that each figure's own script can ask for it to be drawn. A figure in a closed fold is drawn when
// that is opened: before, its place has no width.
(() => {
  const DARK = "DARK COLOURS";
  const LEAST = 0.7; // of a figure's width: where there is less room it keeps its width, and its box scrolls
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const figures = [];
  const packed = document.querySelector('script[type="application/gzip"]').textContent;

  const unpacked = (async () => {
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    delete window.Plotly;
    document.head.append(script);
    const plotly = window.Plotly;
    window.Plotly = Object.assign(Object.create(plotly), { newPlot });
    return plotly;
  })();

  function recoloured(value) {
    if (typeof value === "string") return DARK[value.toLowerCase()] ?? value;
    if (value === null || typeof value !== "object" || ArrayBuffer.isView(value)) return value;
    if (Array.isArray(value)) return typeof value.at(-1) === "number" ? value : value.map(recoloured);
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, recoloured(inner)]));
  }

  function width({ place, layout }) {
    const room = place.closest(".wide")?.clientWidth ?? Infinity;
    const fitting = layout.width > room && room >= LEAST * layout.width ? room : layout.width;
    if (fitting) place.style.width = `${fitting}px`;
    return fitting;
  }

  function shown(figure) {
    const [data, layout] = dark.matches ? recoloured([figure.data, figure.layout]) : [figure.data, figure.layout];
    return [figure.place, data, { ...layout, width: width(figure) }, figure.config];
  }

  async function unfolded(place) {
    for (let fold; (fold = place.closest("details:not([open])")); )
      await new Promise((opened) => fold.addEventListener("toggle", opened, { once: true }));
  }

  async function newPlot(id, data, layout, config) {
    const place = typeof id === "string" ? document.getElementById(id) : id;
    let plotly;
    try {
      plotly = await unpacked;
    } catch (error) {
      place.textContent = `This figure cannot be drawn: a browser of 2023 or later is needed (${error}).`;
      return new Promise(() => {});
    }
    await unfolded(place);
    const figure = { place, data, layout, config };
    const plot = await plotly.newPlot(...shown(figure));
    figures.push(figure);
    return plot;
  }

  dark.addEventListener("change", async () => {
    const plotly = await unpacked;
    figures.forEach((figure) => plotly.react(...shown(figure)));
  });
  window.addEventListener("resize", async () => {
    const plotly = await unpacked;
    for (const figure of figures)
      if (figure.layout.width && figure.place._fullLayout.width !== width(figure))
        plotly.relayout(figure.place, { width: width(figure) });
  });
  window.Plotly = { newPlot };
})();
