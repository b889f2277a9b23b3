"use strict";
(() => {
  const field = document.getElementById("filter");
  const said = document.getElementById("matches");
  const rows = [...document.querySelectorAll("table.everything tbody tr")];
  let texts = null;
  const show = () => {
    texts ??= rows.map((row) => row.textContent.toLowerCase());
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    rows.forEach((row, index) => {
      row.hidden = !words.every((word) => texts[index].includes(word));
      found += row.hidden ? 0 : 1;
    });
    said.textContent = `${found} of ${rows.length}`;
  };
  field.addEventListener("input", show);
  document.addEventListener("play", (event) => {
    document.querySelectorAll("audio").forEach((other) => other !== event.target && other.pause());
  }, true);
})();
