// Next edits: after a change the server is asked for the next one, which is shown as a hint in the
// text. Tab jumps to it, or applies it if the cursor is there; Escape dismisses it.

const vscode = require("vscode");

const WAIT_MS = 150; // after a change
const NEAR = 2; // lines between the cursor and an edit that Tab applies without a jump
const ACCEPTED = "github.copilot.didAcceptCompletionItem"; // a server of next edits has this command
const LONGEST = 200; // characters of a hint

// What to show for an edit: for each line the characters to strike and the text to insert behind
// them. Lines are counted from the first of the edit; columns are UTF-16 units.
function hints(before, after) {
  const [old, now] = [before, after].map((text) => text.split(/\r?\n/));
  let first = 0;
  while (first < Math.min(old.length, now.length) && old[first] === now[first]) {
    first += 1;
  }
  let last = 0;
  const most = Math.min(old.length, now.length) - first;
  while (last < most && old[old.length - 1 - last] === now[now.length - 1 - last]) {
    last += 1;
  }
  const removed = old.slice(first, old.length - last);
  const added = now.slice(first, now.length - last);
  const found = [];
  for (let i = 0; i < removed.length; i += 1) {
    if (i >= added.length) {
      found.push({ line: first + i, start: 0, end: removed[i].length, insert: "" });
    } else if (removed[i] !== added[i]) {
      found.push({ line: first + i, ...replaced(removed[i], added[i]) });
    }
  }
  const more = added.slice(removed.length);
  if (more.length) {
    const line = Math.max(0, first + removed.length - 1);
    const end = old[line].length;
    const insert = (first + removed.length ? "⏎" : "") + more.join("⏎");
    found.push({ line, start: end, end, insert: first + removed.length ? insert : `${insert}⏎` });
  }
  return found;
}

function replaced(before, after) {
  let start = 0;
  while (start < Math.min(before.length, after.length) && before[start] === after[start]) {
    start += 1;
  }
  let same = 0;
  const most = Math.min(before.length, after.length) - start;
  while (same < most && before[before.length - 1 - same] === after[after.length - 1 - same]) {
    same += 1;
  }
  const end = before.length - same;
  return { start, end, insert: after.slice(start, after.length - same) };
}

class NextEdits {
  constructor(clientOf) {
    this.clientOf = clientOf; // the client changes when the server is restarted
    this.shown = undefined; // { editor, version, range, text, first, hint }
    this.timer = undefined;
    this.removed = vscode.window.createTextEditorDecorationType({
      textDecoration: "line-through",
      backgroundColor: new vscode.ThemeColor("diffEditor.removedTextBackground"),
    });
    this.inserted = vscode.window.createTextEditorDecorationType({});
    this.jump = vscode.window.createTextEditorDecorationType({});
  }

  register(subscriptions) {
    const { commands, window, workspace } = vscode;
    subscriptions.push(
      this.removed,
      this.inserted,
      this.jump,
      commands.registerCommand("codegen.nextEdit.accept", () => this.accept()),
      commands.registerCommand("codegen.nextEdit.dismiss", () => this.hide()),
      workspace.onDidChangeTextDocument((event) => this.changed(event)),
      window.onDidChangeActiveTextEditor(() => this.hide()),
    );
  }

  changed({ document, contentChanges, reason }) {
    if (document !== vscode.window.activeTextEditor?.document || !contentChanges.length) {
      return;
    }
    this.hide();
    if (reason === undefined) {
      this.timer = setTimeout(() => this.ask(), WAIT_MS); // not after an undo or redo
    }
  }

  async ask() {
    const client = this.clientOf();
    const editor = vscode.window.activeTextEditor;
    const commands = client?.initializeResult?.capabilities.executeCommandProvider?.commands;
    if (!editor || !commands?.includes(ACCEPTED)) {
      return;
    }
    const { document } = editor;
    const version = document.version;
    const convert = client.code2ProtocolConverter;
    const answer = await client
      .sendRequest("textDocument/copilotInlineEdit", {
        textDocument: { uri: convert.asUri(document.uri), version },
        position: convert.asPosition(editor.selection.active),
        context: { triggerKind: 2 },
      })
      .catch(() => undefined);
    const edit = answer?.edits?.[0];
    const isCurrent = editor === vscode.window.activeTextEditor && document.version === version;
    if (!edit || !isCurrent) {
      return;
    }
    await this.show(editor, edit);
    await client.sendNotification("textDocument/didShowInlineEdit", {
      item: { command: edit.command },
    });
  }

  async show(editor, { range, text }) {
    const { document } = editor;
    const { start, end } = range;
    const place = new vscode.Range(start.line, start.character, end.line, end.character);
    const found = hints(document.getText(place), text);
    const first = start.line + (found[0]?.line ?? 0);
    this.shown = { editor, version: document.version, place, text, first };
    const at = (hint) =>
      new vscode.Range(start.line + hint.line, hint.start, start.line + hint.line, hint.end);
    editor.setDecorations(this.removed, found.filter((hint) => hint.end > hint.start).map(at));
    editor.setDecorations(
      this.inserted,
      found.filter((hint) => hint.insert).map((hint) => decorated(at(hint), hint.insert)),
    );
    this.point();
    await vscode.commands.executeCommand("setContext", "codegen.nextEdit", true);
  }

  // Says at the cursor where the edit is, if it is far.
  point() {
    const { editor, first } = this.shown;
    const line = editor.selection.active.line;
    const end = editor.document.lineAt(line).range.end;
    const hint = decorated(new vscode.Range(end, end), `  ⇥ next edit in line ${first + 1}`);
    editor.setDecorations(this.jump, this.isFar() ? [hint] : []);
  }

  isFar() {
    return Math.abs(this.shown.editor.selection.active.line - this.shown.first) > NEAR;
  }

  async accept() {
    const { editor, version, place, text, first } = this.shown ?? {};
    if (!editor || editor.document.version !== version) {
      await this.hide();
      return;
    }
    if (this.isFar()) {
      const end = editor.document.lineAt(first).range.end;
      editor.selection = new vscode.Selection(end, end);
      editor.revealRange(new vscode.Range(end, end));
      this.point();
      return;
    }
    await this.hide();
    // Its text as it is: the server tells by it that the edit was accepted.
    await editor.edit((builder) => builder.replace(place, text));
    const lines = text.split("\n").length - 1;
    const last = Math.max(0, place.start.line + lines - (text.endsWith("\n") ? 1 : 0));
    const end = editor.document.lineAt(Math.min(last, editor.document.lineCount - 1)).range.end;
    editor.selection = new vscode.Selection(end, end);
  }

  async hide() {
    clearTimeout(this.timer);
    if (!this.shown) {
      return;
    }
    for (const kind of [this.removed, this.inserted, this.jump]) {
      this.shown.editor.setDecorations(kind, []);
    }
    this.shown = undefined;
    await vscode.commands.executeCommand("setContext", "codegen.nextEdit", false);
  }
}

function decorated(range, text) {
  const color = new vscode.ThemeColor("editorGhostText.foreground");
  const shown = text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
  const contentText = shown.replace(/ /g, "\u00a0"); // others are not shown
  return { range, renderOptions: { after: { contentText, color, fontStyle: "italic" } } };
}

module.exports = { NextEdits, hints };
