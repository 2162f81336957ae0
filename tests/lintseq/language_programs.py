"""A few programs in each language, which their compilers accept."""

GO = """// Package main counts words.
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"
)

const (
	few = iota
	many
)

type entry struct {
	word  string
	count int
}

type byCount []entry

func (b byCount) Len() int           { return len(b) }
func (b byCount) Swap(i, j int)      { b[i], b[j] = b[j], b[i] }
func (b byCount) Less(i, j int) bool { return b[i].count > b[j].count }

// count returns the words of a text by how often they occur.
func count(text string) ([]entry, error) {
	seen := make(map[string]int)
	for _, word := range strings.Fields(text) {
		word = strings.ToLower(word)
		seen[word]++
	}
	if len(seen) == 0 {
		return nil, fmt.Errorf("no words")
	}
	var entries byCount
	for word, n := range seen {
		entries = append(entries, entry{word, n})
	}
	sort.Sort(entries)
	return entries, nil
}

func size(n int) string {
	switch {
	case n > 2:
		return "many"
	default:
		return "few"
	}
}

func main() {
	text := strings.Join(os.Args, " ")
	entries, err := count(text)
	if err != nil {
		fmt.Println(err)
		os.Exit(many)
	}
	total := 0
	for _, e := range entries {
		total += e.count
		fmt.Println(e.word, e.count)
	}
	fmt.Println(total, size(total), few)
}
"""

JAVASCRIPT = """\
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
    lines = readFileSync(joined(path.sep, file), "utf8").split("\\n");
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
"""

TYPESCRIPT = """\
type Shape = {
  name: string;
  area(): number;
};

enum Color {
  Red,
  Green = "green",
}

interface Painter<T extends Shape> {
  color: Color;
  paint(shape: T): string;
}

class Circle implements Shape {
  name = "circle";
  private factor = 3.14;

  constructor(private radius: number) {}

  area(): number {
    const squared = this.radius * this.radius;
    return squared * this.factor;
  }

  grow(by: number): void {
    this.radius += by;
  }
}

class Brush implements Painter<Circle> {
  color = Color.Red;

  paint(shape: Circle): string {
    let text = "";
    if (shape.area() > 1) {
      text += shape.name;
    }
    return text + this.color;
  }
}

function describe(shape: Shape): string;
function describe(shape: Shape, color: Color): string;
function describe(shape: Shape, color?: Color): string {
  const parts = [
    shape.name,
    String(shape.area()),
  ];
  if (color !== undefined) {
    parts.push(String(color));
  }
  return parts.join(" ");
}

const circle = new Circle(2);
circle.grow(1);
const brush = new Brush();
console.log(describe(circle, Color.Green), brush.paint(circle));
"""

PROGRAMS = [
    ("go", GO),
    ("javascript", JAVASCRIPT),
    ("typescript", TYPESCRIPT),
]
