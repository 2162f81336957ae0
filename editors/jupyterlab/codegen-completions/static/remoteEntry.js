// An inline completion provider for JupyterLab 4.1 or newer, written by hand as a federated module:
// nothing has to be built. It asks `codegen serve http`; address and token are in JupyterLab's
// settings, under Inline Completer. A fast answer that is uncertain is replaced by the settled one.

(() => {
  const NAME = "codegen-completions";
  const DEFAULTS = {
    enabled: true,
    timeout: 15000,
    debouncerDelay: 0,
    endpoint: "http://127.0.0.1:8012",
    token: "",
  };
  let scope;

  class Provider {
    constructor() {
      this.name = "codegen";
      this.identifier = "codegen";
      this.schema = {
        default: DEFAULTS,
        properties: {
          endpoint: { title: "Address", type: "string", description: "Of codegen serve http." },
          token: { title: "Token", type: "string", description: "What the server printed." },
        },
      };
      this.settings = DEFAULTS;
      this.count = 0;
    }

    configure(settings) {
      this.settings = { ...DEFAULTS, ...settings };
    }

    async fetch(request, context) {
      this.running?.abort(); // the server gives up what nobody waits for
      this.running = new AbortController();
      const language = request.mimeType?.includes("python") ? "python" : "";
      const asked = {
        prompt: request.text.slice(0, request.offset),
        suffix: request.text.slice(request.offset) || "\n",
        max_tokens: 64,
        n: context.triggerKind === 0 ? 3 : 1, // 0 is an explicit request
        language,
        user: NAME,
      };
      const fast = await this.ask({ ...asked, settle: false }, this.running.signal);
      if (fast.settled || !fast.items.length) {
        return fast.settled ? fast : await this.ask(asked, this.running.signal);
      }
      // The answer is uncertain: JupyterLab shows it, and `stream` replaces it by the settled one.
      const token = String(++this.count);
      this.uncertain = { token, asked, signal: this.running.signal };
      return { items: [{ ...fast.items[0], isIncomplete: true, token }] };
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
      const { choices, settled } = await answer.json();
      const items = choices.filter((c) => c.text).map((c) => ({ insertText: c.text }));
      return { items, settled };
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
