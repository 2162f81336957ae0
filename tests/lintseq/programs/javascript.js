import { readFileSync } from "node:fs";
import path, { join as joined } from "node:path";

const DEFAULTS = {
  depth: 3,
  names: ["a", "b"],
  format(value) {
    const text = String(value);
    return text.trim();
  },
};

class Tree {
  #root = null;

  constructor(options) {
    this.options = { ...DEFAULTS, ...options };
    this.size = 0;
  }

  insert(value) {
    const node = { value, left: null };
    if (this.#root === null) {
      this.#root = node;
    } else {
      node.left = this.#root;
      this.#root = node;
    }
    this.size += 1;
    return this;
  }
}

function load(file) {
  let lines;
  try {
    lines = readFileSync(joined(path.sep, file), "utf8").split("\n");
  } catch (error) {
    console.error(error);
    lines = [];
  }
  const tree = new Tree({ depth: 2 });
  lines.forEach((line) => {
    const trimmed = line.trim();
    switch (trimmed[0]) {
      case "#":
        break;
      default:
        tree.insert(trimmed);
    }
  });
  for (const [index, line] of lines.entries()) {
    console.log(`${index}
      ${line}`);
  }
  return tree;
}

export default load;
