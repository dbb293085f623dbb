
(() => {
  "use strict";
  const form = document.getElementById("filter");
  const samples = [...document.querySelectorAll("article.sample")];
  const folds = [...document.querySelectorAll("details.kind, details.more")];
  const opened = folds.map((fold) => fold.open);
  const value = (name) => form.elements[name].value;
  const apply = () => {
    const text = value("text").trim().toLowerCase();
    const [kind, category, verdict] = ["kind", "category", "verdict"].map(value);
    const changed = form.elements.changed.checked;
    let shown = 0;
    for (const sample of samples) {
      const data = sample.dataset;
      const fits =
        (!kind || data.kind === kind) &&
        (!category || data.category === category) &&
        (!verdict || data.verdicts.split("\n").includes(verdict)) &&
        (!changed || data.changed === "yes") &&
        (!text || sample.textContent.toLowerCase().includes(text));
      sample.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    const filtered = Boolean(text || kind || category || verdict || changed);
    folds.forEach((fold, i) => {
      fold.hidden = !fold.querySelector("article.sample:not([hidden])");
      fold.open = filtered || opened[i];
    });
    document.getElementById("shown").textContent = `${shown} of ${samples.length} shown`;
  };
  form.hidden = false;
  form.addEventListener("input", apply);
  form.addEventListener("reset", () => setTimeout(apply));
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
})();
