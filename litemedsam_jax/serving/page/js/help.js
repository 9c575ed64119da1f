// What `?` shows.

const dialog = document.getElementById("help");
const MOUSE = ["Mouse", [
  ["drag", "box, stroke or view, by the tool; in another plane: between which slices the label lies"],
  ["drag a box", "move it; its handles resize it; with Shift a new box begins in it"],
  ["click", "choose a box; in another plane: go there"],
  ["wheel", "slices; on a 2D image: zoom"],
  ["Ctrl+wheel", "zoom (also pinch)"],
  ["Shift+wheel", "size of brush and eraser"],
  ["right drag", "window: width across, level up and down"],
  ["middle drag", "move the image (also Space and drag)"],
]];

export async function openHelp() {
  if (dialog.open) { dialog.close(); return; }
  const { KEYS } = await import("./keys.js");
  const columns = document.createElement("div");
  columns.className = "keys";
  columns.append(...[MOUSE, ...KEYS].flatMap(([heading, rows]) => {
    const name = document.createElement("h2");
    name.textContent = heading;
    const list = document.createElement("dl");
    list.append(...rows.flatMap(entry));
    return [name, list];
  }));
  dialog.replaceChildren(columns);
  dialog.showModal();
}

function entry([key, text]) {
  if (!text) return []; // a second key of what another row explains
  const [keys, meaning] = / … /.test(text.split(":")[0]) ? text.split(": ") : [key, text];
  const term = document.createElement("dt"), explained = document.createElement("dd");
  term.textContent = keys;
  explained.textContent = meaning;
  return [term, explained];
}

dialog.addEventListener("keydown", (event) => { if (event.key === "?") dialog.close(); });
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
document.getElementById("help-button").addEventListener("click", openHelp);
