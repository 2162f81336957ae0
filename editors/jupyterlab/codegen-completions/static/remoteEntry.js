// An inline completion provider for JupyterLab 4.1 or newer, written by hand as a federated module:
// nothing has to be built. It asks `codegen serve http`; address and token are in JupyterLab's
// settings, under Inline Completer. A fast answer that is uncertain is replaced by the certain one.
// Where nothing is to be completed, the next edit is shown if it inserts text at the cursor: ghost
// text can do no more.

(() => {
  const NAME = "codegen-completions";
  const DEFAULTS = {
    enabled: true,
    timeout: 15000,
    debouncerDelay: 0,
    endpoint: "http://127.0.0.1:8012",
    token: "",
    nextEdits: true,
  };
  const MOST_LINES = 8; // of one change; more of them are another text
  let scope;

  // The lines of two texts that differ, and where they begin.
  function difference(before, after) {
    const [old, now] = [before, after].map((text) => text.split("\n"));
    let start = 0;
    while (start < Math.min(old.length, now.length) && old[start] === now[start]) {
      start += 1;
    }
    let end = 0;
    const most = Math.min(old.length, now.length) - start;
    while (end < most && old[old.length - 1 - end] === now[now.length - 1 - end]) {
      end += 1;
    }
    return { start, old: old.slice(start, old.length - end), now: now.slice(start, now.length - end) };
  }

  // A prompt in the format of Zed's model Zeta 2, which `codegen serve http` takes apart.
  function nextEditPrompt({ text, offset, mimeType }, { start, old, now }) {
    const path = mimeType?.includes("python") ? "cell.py" : "cell.txt";
    const change = [...old.map((line) => `-${line}`), ...now.map((line) => `+${line}`)];
    const end = text.endsWith("\n") ? "" : "\n";
    return [
      "<[fim-suffix]><[fim-prefix]><filename>edit_history",
      `--- a/${path}`,
      `+++ b/${path}`,
      `@@ -${start + 1},${old.length} +${start + 1},${now.length} @@`,
      ...change,
      "",
      `<filename>${path}`,
      "<<<<<<< CURRENT",
      `${text.slice(0, offset)}<|user_cursor|>${text.slice(offset)}${end}=======`,
      "<[fim-middle]>",
    ].join("\n");
  }

  // What an answer of that model inserts at the cursor; "" if it changes anything else.
  function inserted(answer, text, offset) {
    const [before, after] = [text.slice(0, offset), text.slice(offset)];
    let rewritten = answer.replace(/>>>>>>> UPDATED\s*$/, "");
    if (!text.endsWith("\n")) {
      rewritten = rewritten.replace(/\n$/, "");
    }
    const fits = rewritten.startsWith(before) && rewritten.endsWith(after);
    return fits ? rewritten.slice(offset, Math.max(offset, rewritten.length - after.length)) : "";
  }

  class Provider {
    constructor() {
      this.name = "codegen";
      this.identifier = "codegen";
      this.schema = {
        default: DEFAULTS,
        properties: {
          endpoint: { title: "Address", type: "string", description: "Of codegen serve http." },
          token: { title: "Token", type: "string", description: "What the server printed." },
          nextEdits: { title: "Next edits", type: "boolean", description: "Where they insert text." },
        },
      };
      this.opened = null; // the cell, and its text before the latest edits
      this.settings = DEFAULTS;
      this.count = 0;
    }

    configure(settings) {
      this.settings = { ...DEFAULTS, ...settings };
    }

    async fetch(request, context) {
      this.running?.abort(); // the server gives up what nobody waits for
      this.running = new AbortController();
      const change = this.edited(request, context);
      const language = request.mimeType?.includes("python") ? "python" : "";
      const asked = {
        prompt: request.text.slice(0, request.offset),
        suffix: request.text.slice(request.offset) || "\n",
        max_tokens: 64,
        n: context.triggerKind === 0 ? 3 : 1, // 0 is an explicit request
        language,
        user: NAME,
      };
      const { signal } = this.running;
      const fast = await this.ask({ ...asked, certain: false }, signal);
      if (fast.certain || !fast.items.length) {
        const found = fast.certain ? fast : await this.ask(asked, signal);
        const isNext = !found.items.length && change && fast.nextEdits && this.settings.nextEdits;
        return isNext ? await this.nextEdit(request, change, signal) : found;
      }
      // The answer is uncertain: JupyterLab shows it, and `stream` replaces it by the certain one.
      const token = String(++this.count);
      this.uncertain = { token, asked, signal };
      return { items: [{ ...fast.items[0], isIncomplete: true, token }] };
    }

    // The lines of a cell that were edited since it was entered; null if there are none.
    edited({ text }, { widget }) {
      const cell = `${widget?.id} ${widget?.content?.activeCell?.model?.id}`;
      if (this.opened?.cell === cell) {
        const change = difference(this.opened.text, text);
        const lines = Math.max(change.old.length, change.now.length);
        if (lines <= MOST_LINES) {
          return lines ? change : null;
        }
      }
      this.opened = { cell, text };
      return null;
    }

    // The text that the next edit inserts at the cursor.
    async nextEdit(request, change, signal) {
      const body = { prompt: nextEditPrompt(request, change), max_tokens: 512, user: NAME };
      const { items } = await this.ask(body, signal);
      const [{ insertText: answer } = {}] = items;
      const insertText = answer ? inserted(answer, request.text, request.offset) : "";
      return { items: insertText ? [{ insertText }] : [] };
    }

    async *stream(token) {
      if (this.uncertain?.token !== token) {
        return;
      }
      const { asked, signal } = this.uncertain;
      try {
        const { items } = await this.ask(asked, signal);
        yield { response: items[0] ?? { insertText: "" } };
      } catch (error) {
        if (!signal.aborted) {
          throw error;
        }
      }
    }

    async ask(body, signal) {
      const { endpoint, token } = this.settings;
      const answer = await fetch(`${endpoint}/v1/completions`, {
        method: "POST",
        headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
        body: JSON.stringify(body),
        signal,
      });
      if (!answer.ok) {
        throw new Error(`codegen answers ${answer.status}: ${await answer.text()}`);
      }
      const { choices, certain, next_edits: nextEdits } = await answer.json();
      const items = choices.filter((c) => c.text).map((c) => ({ insertText: c.text }));
      return { items, certain, nextEdits };
    }
  }

  async function shared(name) {
    const [newest] = Object.values(scope[name]);
    return (await newest.get())();
  }

  async function plugin() {
    const { ICompletionProviderManager } = await shared("@jupyterlab/completer");
    return {
      id: `${NAME}:provider`,
      autoStart: true,
      requires: [ICompletionProviderManager],
      activate: (_, manager) => manager.registerInlineProvider(new Provider()),
    };
  }

  window._JUPYTERLAB = window._JUPYTERLAB ?? {};
  window._JUPYTERLAB[NAME] = {
    init: (given) => {
      scope = given;
    },
    get: async () => {
      const made = await plugin();
      return () => ({ __esModule: true, default: made });
    },
  };
})();
