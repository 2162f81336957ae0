// Starts `codegen serve lsp`; vscode-languageclient does the rest (inline completion is LSP 3.18).

const vscode = require("vscode");
const { LanguageClient, TransportKind } = require("vscode-languageclient/node");

let client;
let status;

function makeClient() {
  const [command, ...args] = vscode.workspace.getConfiguration("codegen").get("command");
  const server = { command, args, transport: TransportKind.stdio };
  const options = {
    documentSelector: [{ scheme: "file" }, { scheme: "untitled" }],
    synchronize: { configurationSection: "codegen" },
  };
  const made = new LanguageClient("codegen", "codegen", server, options);
  made.onNotification("$/codegen/status", show);
  return made;
}

function show({ kind, message, busy }) {
  const icon = { Normal: busy ? "loading~spin" : "sparkle", Inactive: "circle-slash" };
  status.text = `$(${icon[kind] ?? "warning"}) codegen`;
  status.tooltip = message;
  status.show();
}

async function activate(context) {
  status = vscode.window.createStatusBarItem(vscode.StatusBarAlignment.Right);
  const restart = vscode.commands.registerCommand("codegen.restart", async () => {
    await client.stop().catch(() => {});
    client = makeClient();
    await client.start();
  });
  context.subscriptions.push(status, restart);
  client = makeClient();
  await client.start();
}

function deactivate() {
  return client?.stop();
}

module.exports = { activate, deactivate };
