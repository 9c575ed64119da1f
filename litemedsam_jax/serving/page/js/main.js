// Puts the parts together and opens the first case.

import { BoxTool } from "./box_tool.js";
import "./box_panel.js";
import { BrushTool } from "./brush_tool.js";
import { open } from "./case_list.js";
import "./keys.js";
import "./label_panel.js";
import "./learning.js";
import "./mask_list.js";
import { loadWorkspace } from "./session.js";
import { allPanes, allTools, setTools } from "./stage.js";
import { fail } from "./status.js";
import { emit, store } from "./store.js";
import "./window_panel.js";

setTools({
  box: new BoxTool(true),
  subtract: new BoxTool(false),
  brush: new BrushTool(true),
  erase: new BrushTool(false),
});
window.litemedsam = { store, panes: allPanes, tools: allTools }; // for tests and the curious

try {
  await loadWorkspace();
  const first = store.workspace.cases.find((entry) => entry.progress !== "saved") ?? store.workspace.cases[0];
  await open(first.id);
  emit("tool");
} catch (error) {
  fail(error);
}
