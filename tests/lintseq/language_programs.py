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

JAVA = """\
import java.io.IOException;
import java.util.*;
import java.util.function.Function;

interface Visitor<R> {
    R number(int value);

    R sum(Expression left, Expression right);
}

abstract class Expression {
    protected final String name;

    Expression(String name) {
        this.name = name;
    }

    abstract <R> R accept(Visitor<R> visitor);
}

class Num extends Expression {
    private final int value;

    Num(int value) {
        super("num");
        this.value = value;
    }

    @Override
    <R> R accept(Visitor<R> visitor) {
        return visitor.number(value);
    }
}

class Sum extends Expression {
    private final Expression left, right;

    Sum(Expression left, Expression right) {
        super("sum");
        this.left = left;
        this.right = right;
    }

    @Override
    <R> R accept(Visitor<R> visitor) {
        return visitor.sum(left, right);
    }
}

public class Calculator {
    enum Level {
        LOW(1),
        HIGH(2);

        private final int rank;

        Level(int rank) {
            this.rank = rank;
        }
    }

    private final Map<String, Integer> cache = new HashMap<>();
    private int misses;

    public int evaluate(Expression expression) {
        Integer known = cache.get(expression.name);
        if (known != null) {
            return known;
        }
        misses += 1;
        int result = expression.accept(new Visitor<Integer>() {
            @Override
            public Integer number(int value) {
                return value;
            }

            @Override
            public Integer sum(Expression left, Expression right) {
                int first = evaluate(left);
                return first + evaluate(right);
            }
        });
        cache.put(expression.name, result);
        return result;
    }

    private static String read(int times) throws IOException {
        String text;
        if (times > 1) {
            text = "many";
        } else {
            text = "few";
        }
        while (true) {
            times--;
            if (times < 0) {
                break;
            }
        }
        if (text.isEmpty()) {
            throw new IOException("nothing");
        }
        return text;
    }

    public static void main(String[] args) {
        Calculator calculator = new Calculator();
        Function<Integer, Integer> twice = (x) -> {
            int y = x * 2;
            return y;
        };
        try {
            System.out.println(read(twice.apply(args.length)));
        } catch (IOException error) {
            System.out.println(error.getMessage());
        }
        switch (args.length) {
            case 0:
                System.out.println(Level.LOW.rank);
                break;
            default:
                System.out.println(calculator.evaluate(new Sum(new Num(1), new Num(2))));
        }
    }
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
    ("java", JAVA),
    ("javascript", JAVASCRIPT),
    ("typescript", TYPESCRIPT),
]
