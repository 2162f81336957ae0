// Runs the extension with stand-ins for VS Code and its language client; prints what it did.
// node vscode_certain.mjs EXTENSION

import Module, { createRequire } from "node:module";

class Position {
  constructor(line, character) {
    Object.assign(this, { line, character });
  }
  isEqual(other) {
    return this.line === other.line && this.character === other.character;
  }
}

const document = { uri: "file:///a.py", version: 7 };
const editor = { document, selection: { active: new Position(3, 5) } };
const commands = [];
const handlers = {};
let options;

const item = { show() {} };
const vscode = {
  Position,
  Range: class {},
  InlineCompletionItem: class {
    constructor(insertText) {
      this.insertText = insertText;
    }
  },
  StatusBarAlignment: {},
  ThemeColor: class {},
  window: {
    activeTextEditor: editor,
    createStatusBarItem: () => item,
    createTextEditorDecorationType: () => ({}),
    onDidChangeActiveTextEditor() {},
  },
  workspace: {
    getConfiguration: () => ({ get: () => ["codegen", "serve", "lsp"] }),
    onDidChangeTextDocument() {},
  },
  commands: {
    registerCommand: () => ({}),
    executeCommand: async (name) => commands.push(name.split(".").pop()),
  },
};
class LanguageClient {
  constructor(_id, _name, _server, given) {
    options = given;
    this.code2ProtocolConverter = { asUri: (uri) => uri };
  }
  onNotification(method, handler) {
    handlers[method] = handler;
  }
  async start() {}
}
const stubs = { vscode, "vscode-languageclient/node": { LanguageClient, TransportKind: {} } };
const load = Module._load;
Module._load = (name, ...rest) => stubs[name] ?? load(name, ...rest);

const extension = createRequire(import.meta.url)(process.argv[2]);
await extension.activate({ subscriptions: [] });

const provide = options.middleware.provideInlineCompletionItems;
const shown = (at = new Position(3, 5)) => {
  const found = provide(document, at, {}, {}, () => [{ insertText: "asked again" }]);
  return found.map((one) => one.insertText);
};
const answer = async (more = {}) => {
  commands.length = 0;
  const position = { line: 3, character: 5 };
  const items = [{ insertText: "certain" }];
  await handlers["$/codegen/certainAnswer"]({ uri: "file:///a.py", position, items, ...more });
  return [...commands];
};

const found = { options: options.initializationOptions };
found.before = shown();
found.commands = await answer();
found.replaced = shown();
found.once = shown();
found.nothing = await answer({ items: [] });
found.elsewhere = await answer({ position: { line: 3, character: 6 } });
found.other_file = await answer({ uri: "file:///b.py" });
found.unchanged = shown();
await answer();
document.version += 1;
found.typed = shown();
console.log(JSON.stringify(found));
