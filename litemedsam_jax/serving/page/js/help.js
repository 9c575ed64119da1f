// What `?` shows.

const dialog = document.getElementById("help");

export async function openHelp() {
  if (dialog.open) { dialog.close(); return; }
  const { KEYS } = await import("./keys.js");
  const title = document.createElement("h2");
  title.textContent = "Keys";
  const columns = document.createElement("div");
  columns.className = "keys";
  const halves = [document.createElement("div"), document.createElement("div")];
  columns.append(...halves);
  for (const [at, [heading, rows]] of KEYS.entries()) {
    const name = document.createElement("h2");
    name.textContent = heading;
    const list = document.createElement("dl");
    for (const [key, text] of rows) {
      if (!text) continue;
      const [keys, meaning] = / … /.test(text.split(":")[0]) ? text.split(": ") : [key, text];
      const term = document.createElement("dt"), explained = document.createElement("dd");
      term.textContent = keys;
      explained.textContent = meaning;
      list.append(term, explained);
    }
    halves[at % 2 ? 1 : 0].append(name, list);
  }
  dialog.replaceChildren(title, columns);
  dialog.showModal();
}

dialog.addEventListener("keydown", (event) => { if (event.key === "?") dialog.close(); });
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
document.getElementById("help-button").addEventListener("click", openHelp);
