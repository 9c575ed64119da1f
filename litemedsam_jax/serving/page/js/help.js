// What `?` shows.

const dialog = document.getElementById("help");

export async function openHelp() {
  if (dialog.open) { dialog.close(); return; }
  const { KEYS } = await import("./keys.js");
  const title = document.createElement("h2");
  title.textContent = "Keys";
  const columns = document.createElement("div");
  columns.className = "keys";
  for (const [heading, rows] of KEYS) {
    const list = document.createElement("dl");
    const name = document.createElement("h2");
    name.textContent = heading;
    for (const [key, text] of rows) {
      if (!text) continue;
      const term = document.createElement("dt"), meaning = document.createElement("dd");
      term.textContent = /^\w+ … /.test(text) ? text.split(":")[0] : key;
      meaning.textContent = /^\w+ … /.test(text) ? text.split(": ")[1] : text;
      list.append(term, meaning);
    }
    const block = document.createElement("div");
    block.append(name, list);
    columns.append(block);
  }
  dialog.replaceChildren(title, columns);
  dialog.showModal();
}

dialog.addEventListener("keydown", (event) => { if (event.key === "?") dialog.close(); });
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
document.getElementById("help-button").addEventListener("click", openHelp);
