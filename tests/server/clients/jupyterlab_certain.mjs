// Runs JupyterLab's part with a stand-in for its completer; prints the texts that it shows.
// node jupyterlab_certain.mjs EXTENSION ENDPOINT TOKEN, and a JSON list on standard input: texts with
// the cursor at the end, or lists of a text, the cursor and the name of the cell

import { readFileSync } from "node:fs";

const [script, endpoint, token] = process.argv.slice(2);
globalThis.window = globalThis;
(0, eval)(readFileSync(script, "utf8"));
let provider;
const manager = { registerInlineProvider: (given) => (provider = given) };
const completer = async () => () => ({ ICompletionProviderManager: {} });
const extension = window._JUPYTERLAB["codegen-completions"];
extension.init({ "@jupyterlab/completer": { "4.6.6": { get: completer } } });
(await extension.get())().default.activate({}, manager);
provider.configure({ endpoint, token });

const found = [];
for (const given of JSON.parse(readFileSync(0, "utf8"))) {
  const [text, offset, id] = Array.isArray(given) ? given : [given, given.length, "cell"];
  const request = { text, offset, mimeType: "text/x-python" };
  const widget = { id: "notebook", content: { activeCell: { model: { id } } } };
  const { items } = await provider.fetch(request, { triggerKind: 1, widget });
  const shown = { first: items[0]?.insertText ?? "", last: items[0]?.insertText ?? "" };
  if (items[0]?.isIncomplete) {
    // As JupyterLab's reconciliator does.
    for await (const reply of provider.stream(items[0].token)) {
      shown.last = reply.response.insertText;
    }
  }
  found.push({ ...shown, replaced: Boolean(items[0]?.isIncomplete) });
}
console.log(JSON.stringify(found));
