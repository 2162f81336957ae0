// An inline completion provider for JupyterLab 4.1 or newer, written by hand as a federated module:
// nothing has to be built. It asks `codegen serve http`; address and token are in JupyterLab's
// settings, under Inline Completer.

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
    }

    configure(settings) {
      this.settings = { ...DEFAULTS, ...settings };
    }

    async fetch(request, context) {
      this.running?.abort(); // the server gives up what nobody waits for
      const running = (this.running = new AbortController());
      const { endpoint, token } = this.settings;
      const language = request.mimeType?.includes("python") ? "python" : "";
      const body = {
        prompt: request.text.slice(0, request.offset),
        suffix: request.text.slice(request.offset) || "\n",
        max_tokens: 64,
        n: context.triggerKind === 0 ? 3 : 1, // 0 is an explicit request
        language,
        user: NAME,
      };
      const answer = await fetch(`${endpoint}/v1/completions`, {
        method: "POST",
        headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
        body: JSON.stringify(body),
        signal: running.signal,
      });
      if (!answer.ok) {
        throw new Error(`codegen answers ${answer.status}: ${await answer.text()}`);
      }
      const { choices } = await answer.json();
      return { items: choices.filter((c) => c.text).map((c) => ({ insertText: c.text })) };
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
