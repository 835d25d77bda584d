// Refreshes the status page. Without it the page is complete, only not live.
"use strict";
(() => {
  const board = document.getElementById("board");
  const told = document.getElementById("told");
  const fresh = document.getElementById("fresh");
  const pause = document.getElementById("pause");
  const every = 5000;
  let paused = false;
  let timer = 0;

  // Where the focus was, so that a keyboard does not lose its place when the rows are replaced.
  const place = (element) => board.contains(element) && element.getAttribute("href");

  function show(html) {
    const made = new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
    const href = place(document.activeElement);
    board.replaceChildren(made);
    if (href) board.querySelector(`a[href="${CSS.escape(href)}"]`)?.focus({ preventScroll: true });
    fresh.textContent = `as of ${made.dataset.at}`;
    if (told.textContent !== made.dataset.summary) told.textContent = made.dataset.summary;
  }

  async function refresh() {
    try {
      const answer = await fetch(board.dataset.from, { cache: "no-store", redirect: "error" });
      if (answer.status === 401) return signedOut();
      if (!answer.ok) throw new Error(answer.status);
      show(await answer.text());
    } catch {
      fresh.textContent = "The node does not answer; trying again.";
    }
    wait();
  }

  // A screen that nobody uses names no patient any longer.
  function signedOut() {
    board.replaceChildren();
    const text = "You were signed out. Reload the page to sign in.";
    fresh.textContent = text;
    told.textContent = text;
    pause.hidden = true;
  }

  function wait() {
    clearTimeout(timer);
    if (!paused && !document.hidden) timer = setTimeout(refresh, every);
  }

  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    if (paused) clearTimeout(timer); else refresh();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && !paused) refresh(); });
  wait();
})();
