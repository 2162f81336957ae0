// Runs next edits of the extension with stand-ins for VS Code and the client; prints what happened.
// node vscode_next_edits.mjs NEXT_EDITS < JSON: [[text before, text after], ...]

import { readFileSync } from "node:fs";
import Module, { createRequire } from "node:module";

class Position {
  constructor(line, character) {
    Object.assign(this, { line, character });
  }
}
class Range {
  constructor(a, b, c, d) {
    [this.start, this.end] = c === undefined ? [a, b] : [new Position(a, b), new Position(c, d)];
  }
}
class Selection extends Range {
  get active() {
    return this.end;
  }
}
class Document {
  constructor(text) {
    Object.assign(this, { text, version: 1, uri: "file:///a.py" });
  }
  get lines() {
    return this.text.split("\n");
  }
  get lineCount() {
    return this.lines.length;
  }
  offset({ line, character }) {
    const above = this.lines.slice(0, line);
    return above.reduce((sum, one) => sum + one.length + 1, character);
  }
  getText({ start, end }) {
    return this.text.slice(this.offset(start), this.offset(end));
  }
  lineAt(line) {
    return { range: new Range(line, 0, line, this.lines[line].length) };
  }
}

const document = new Document("a = 1\nb = a\n\n\n\nc = a\n");
const editor = {
  document,
  selection: new Selection(0, 1, 0, 1),
  decorations: new Map(),
  setDecorations(kind, places) {
    this.decorations.set(kind, places);
  },
  revealRange() {},
  async edit(make) {
    make({ replace: (place, text) => type(place, text) });
  },
};
const context = {};
const commands = {};
const handlers = {};
const vscode = {
  Position,
  Range,
  Selection,
  ThemeColor: class {},
  window: {
    activeTextEditor: editor,
    createTextEditorDecorationType: (given) => ({ given }),
    onDidChangeActiveTextEditor: (handler) => (handlers.switched = handler),
  },
  workspace: { onDidChangeTextDocument: (handler) => (handlers.changed = handler) },
  commands: {
    registerCommand: (name, run) => (commands[name.split(".").pop()] = run),
    executeCommand: async (_, name, value) => (context[name] = value),
  },
};
const load = Module._load;
Module._load = (name, ...rest) => (name === "vscode" ? vscode : load(name, ...rest));
const { NextEdits, hints } = createRequire(import.meta.url)(process.argv[2]);

const asked = [];
const told = [];
let edits = [];
let meanwhile = () => {};
const client = {
  initializeResult: {
    capabilities: {
      executeCommandProvider: { commands: ["github.copilot.didAcceptCompletionItem"] },
    },
  },
  code2ProtocolConverter: { asUri: (uri) => uri, asPosition: (position) => position },
  async sendRequest(method, params) {
    asked.push([method, params.textDocument.version, params.position.line]);
    meanwhile();
    return { edits };
  },
  sendNotification: async (method, params) => told.push([method, params]),
};
new NextEdits(() => client).register([]);

function type(place, text, reason) {
  const [start, end] = [document.offset(place.start), document.offset(place.end)];
  document.text = document.text.slice(0, start) + text + document.text.slice(end);
  document.version += 1;
  handlers.changed({ document, contentChanges: [{}], reason });
}
const later = () => new Promise((resolve) => setTimeout(resolve, 300));
const shown = () => {
  const parts = [...editor.decorations.values()].flat();
  return parts.map((part) => part.renderOptions?.after.contentText ?? document.getText(part));
};
const edit = (line, text, id) => ({
  text,
  range: { start: { line, character: 0 }, end: { line: line + 1, character: 0 } },
  command: { arguments: [id] },
});

const found = {};
edits = [edit(5, "c = x\n", "one")];
type(new Range(0, 0, 0, 1), "x");
await later();
found.far = { asked: [...asked], shown: shown(), told: [...told], key: context["codegen.nextEdit"] };
await commands.accept();
found.jumped = { text: document.text, line: editor.selection.active.line, shown: shown() };
edits = [];
await commands.accept();
found.applied = { text: document.text, shown: shown(), key: context["codegen.nextEdit"] };
await later();
found.followed = asked.length;
edits = [edit(1, "b = x\n", "two")];
type(new Range(0, 1, 0, 1), " ", 1); // an undo
await later();
found.undone = asked.length;
meanwhile = () => type(new Range(0, 1, 0, 1), " ");
editor.selection = new Selection(0, 2, 0, 2);
edits = [edit(1, "b = x\n", "three")];
type(new Range(0, 1, 0, 1), " ");
setTimeout(() => (meanwhile = () => {}), 200);
await new Promise((resolve) => setTimeout(resolve, 170));
found.late = shown();
await later();
found.near = shown();
await commands.dismiss();
found.dismissed = { text: document.text.includes("b = x"), shown: shown() };

found.hints = JSON.parse(readFileSync(0, "utf8")).map(([before, after]) => hints(before, after));
console.log(JSON.stringify(found));
process.exit(0);
