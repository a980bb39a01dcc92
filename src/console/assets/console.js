// What the console does better with script. Without it all of it reads and edits.
"use strict";

// Times in the viewer's own zone, with UTC beside them.
function localTimes(root) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (!zone || zone === "UTC" || zone === "Etc/UTC") return;
  const shown = { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" };
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (isNaN(at) || time.title) continue;
    time.title = time.textContent;
    const utc = at.toISOString().slice(11, 16);
    time.textContent = `${at.toLocaleString("en-GB", shown)} (${utc} UTC)`;
  }
}

// A list is filtered while one types: the server makes the page, and the list of it is put in.
function filterWhileTyping(form) {
  const list = document.getElementById(form.dataset.filter);
  const search = form.querySelector("input[type=search]");
  if (!list || !search) return;
  let timer, running;
  const ask = async () => {
    running?.abort();
    running = new AbortController();
    const address = `${form.action}?${new URLSearchParams(new FormData(form))}`;
    try {
      const answer = await fetch(address, { signal: running.signal });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const found = page.getElementById(list.id);
      if (!found) return;
      list.replaceChildren(...found.childNodes);
      localTimes(list);
      history.replaceState(null, "", address);
    } catch (stopped) {
      // Another letter was typed, or the server is away: the button asks again.
    }
  };
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, 150);
  });
}

// A form that was changed is not left without a question.
function guardChanges(form) {
  const filled = () => new URLSearchParams(new FormData(form)).toString();
  const before = form.dataset.changed === "yes" ? null : filled();
  let sent = false;
  form.addEventListener("submit", () => { sent = true; });
  window.addEventListener("beforeunload", (event) => {
    if (!sent && filled() !== before) event.preventDefault();
  });
}

function copies(button) {
  const from = document.getElementById(button.dataset.copy);
  if (!from || !navigator.clipboard) return;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(from.textContent.trim());
    button.textContent = "Copied";
  });
}

localTimes(document);
document.querySelectorAll("form[data-filter]").forEach(filterWhileTyping);
document.querySelectorAll("form[data-guarded]").forEach(guardChanges);
document.querySelectorAll("button[data-copy]").forEach(copies);
document.getElementById("wrong")?.focus();
