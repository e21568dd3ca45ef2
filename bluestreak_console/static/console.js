// Live pages, and keys. Everything else works without a script.
"use strict";

(() => {
  const main = document.getElementById("content");
  const at = (selector) => document.querySelector(selector);

  // Someone who types, unfolds or chooses is not to lose that.
  const isBusy = () =>
    document.activeElement?.matches("input, textarea, select") ||
    at("main details[open]") !== null ||
    !getSelection().isCollapsed;

  const refresh = async () => {
    if (document.hidden || isBusy()) return;
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!answer.ok || isBusy()) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-refresh]")) {
      const fresh = page.querySelector(`[data-refresh="${part.dataset.refresh}"]`);
      if (!fresh || fresh.outerHTML === part.outerHTML) continue;
      if (part.matches("tbody") && part.rows.length > fresh.rows.length) continue; // scrolled on
      part.replaceWith(fresh);
      htmx.process(fresh);
    }
    htmx.trigger(document.body, "changed");
  };

  if (main.dataset.live) {
    const source = new EventSource(main.dataset.live);
    source.addEventListener("changed", refresh);
    addEventListener("pagehide", () => source.close());
  }

  const pages = { o: 0, w: 1, p: 2 };
  let before = "";
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") document.activeElement?.blur();
    if (event.target.matches("input, textarea, select")) return;
    if (event.key === "/") {
      event.preventDefault();
      at("input[name=id]").focus();
    } else if (before === "g" && event.key in pages) {
      document.querySelectorAll("nav a")[pages[event.key]].click();
    }
    before = event.key;
  });
})();
