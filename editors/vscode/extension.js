// Starts `codegen serve lsp`; vscode-languageclient does the rest (inline completion is LSP 3.18).
// A fast answer that turns out to be uncertain is replaced by the certain one that follows it.

const vscode = require("vscode");
const { LanguageClient, TransportKind } = require("vscode-languageclient/node");
const { NextEdits } = require("./next_edits.js");

let client;
let status;
let replacement; // an answer to show in place of the one on the screen, until it is shown

function makeClient() {
  const [command, ...args] = vscode.workspace.getConfiguration("codegen").get("command");
  const server = { command, args, transport: TransportKind.stdio };
  const options = {
    documentSelector: [{ scheme: "file" }, { scheme: "untitled" }],
    synchronize: { configurationSection: "codegen" },
    initializationOptions: { certainAnswers: true },
    middleware: { provideInlineCompletionItems: provide },
  };
  const made = new LanguageClient("codegen", "codegen", server, options);
  made.onNotification("$/codegen/status", show);
  made.onNotification("$/codegen/certainAnswer", replace);
  return made;
}

function show({ kind, message, busy }) {
  const icon = { Normal: busy ? "loading~spin" : "sparkle", Inactive: "circle-slash" };
  status.text = `$(${icon[kind] ?? "warning"}) codegen`;
  status.tooltip = message;
  status.show();
}

// VS Code has no call that changes a suggestion on the screen: it is hidden, and asked for again.
async function replace({ uri, position, items }) {
  const editor = vscode.window.activeTextEditor;
  const at = new vscode.Position(position.line, position.character);
  if (!editor || !isAt(uri, at, editor.document, editor.selection.active)) {
    return;
  }
  await vscode.commands.executeCommand("editor.action.inlineSuggest.hide");
  if (items.length) {
    replacement = { uri, at, items, version: editor.document.version };
    await vscode.commands.executeCommand("editor.action.inlineSuggest.trigger");
  }
}

function provide(document, position, context, token, next) {
  const known = replacement;
  replacement = undefined;
  if (known?.version !== document.version || !isAt(known.uri, known.at, document, position)) {
    return next(document, position, context, token);
  }
  const place = new vscode.Range(position, position);
  return known.items.map((item) => new vscode.InlineCompletionItem(item.insertText, place));
}

function isAt(uri, at, document, position) {
  return client.code2ProtocolConverter.asUri(document.uri) === uri && at.isEqual(position);
}

async function activate(context) {
  status = vscode.window.createStatusBarItem(vscode.StatusBarAlignment.Right);
  const restart = vscode.commands.registerCommand("codegen.restart", async () => {
    await client.stop().catch(() => {});
    client = makeClient();
    await client.start();
  });
  context.subscriptions.push(status, restart);
  new NextEdits(() => client).register(context.subscriptions);
  client = makeClient();
  await client.start();
}

function deactivate() {
  return client?.stop();
}

module.exports = { activate, deactivate };
