function codegen_answer(value) {
  const text = (v, depth) => {
    if (depth > 200) return "deep";
    if (v === null || v === undefined) return "null";
    if (typeof v === "number") return String(v === 0 ? 0 : v);
    if (typeof v === "string") return JSON.stringify(v);
    if (typeof v !== "object") return typeof v + " " + String(v);
    const inner = (item) => text(item, depth + 1);
    if (Array.isArray(v)) return "[" + Array.from(v, inner).join(",") + "]";
    if (v instanceof Set) return "set[" + Array.from(v, inner).sort().join(",") + "]";
    const pairs = v instanceof Map ? Array.from(v) : Object.entries(v);
    return "{" + pairs.map(([k, item]) => inner(k) + ":" + inner(item)).sort().join(",") + "}";
  };
  require("node:fs").appendFileSync(".answers", text(value, 0) + "\n");
}
