"""A few programs in each language, which their compilers accept."""

C = """\
#include <stdio.h>
#include <stdlib.h>

#define LIMIT 3
#define TWICE(x) (2 * twice_of(x))

typedef struct node {
    int value;
    struct node *next;
} node_t;

enum color {
    RED,
    GREEN,
};

static int twice_of(int x);

static int twice_of(int x)
{
    return 2 * x;
}

#ifdef VERBOSE
static int verbose = 1;
#endif

static node_t *push(node_t *list, int value)
{
    node_t *node = malloc(sizeof(node_t));
    if (node == NULL) {
        goto failed;
    }
    node->value = value;
    node->next = list;
    return node;
failed:
    return list;
}

int main(int argc, char **argv)
{
    node_t *list = NULL;
    int total = 0;
    for (int i = 0; i < LIMIT; i++) {
        /* the newest first */
        list = push(list, TWICE(i));
    }
    for (node_t *node = list; node != NULL; node = node->next) {
        total += node->value;
    }
    switch (argc) {
    case RED:
        puts("red");
        break;
    default:
        printf("%d %s %d", total, argv[0], GREEN);
    }
    return 0;
}
"""

CPP = """\
#include <map>
#include <string>
#include <vector>

using namespace std;

namespace shapes {

template <typename T>
T largest(const vector<T>& values) {
  T best = values.at(0);
  for (const auto& value : values) {
    if (best < value) {
      best = value;
    }
  }
  return best;
}

class Shape {
 public:
  explicit Shape(string name) : name_(name) {}
  virtual ~Shape() {}

  virtual double area() const = 0;

  const string& name() const {
    return name_;
  }

 private:
  string name_;
};

class Square : public Shape {
 public:
  Square(double side) : Shape("square"), side_(side) {}

  double area() const override;

 private:
  double side_;
};

double Square::area() const {
  return side_ * side_;
}

}  // namespace shapes

struct Point {
  int x;
  int y;
};

bool operator<(const Point& a, const Point& b) {
  return a.x < b.x;
}

int main() {
  shapes::Square square(2);
  map<string, double> areas;
  areas[square.name()] = square.area();
  vector<Point> points = {{1, 2}, {3, 4}};
  auto sum = [&](int start) {
    int total = start;
    for (const Point& point : points) {
      total += point.x + point.y;
    }
    return total;
  };
  Point best = shapes::largest(points);
  return sum(best.x) + static_cast<int>(areas.size());
}
"""

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

RUST = """\
use std::collections::HashMap;
use std::fmt;
use std::fmt::Write;

const LIMIT: usize = 3;

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Number(i64),
    Plus,
}

#[derive(Debug)]
struct Error {
    text: String,
    place: usize,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} at {}", self.text, self.place)
    }
}

trait Evaluate {
    fn evaluate(&self) -> Option<i64>;
}

struct Line<T> {
    tokens: Vec<T>,
}

impl<T> Line<T> {
    fn new() -> Self {
        Line { tokens: Vec::new() }
    }

    fn size(&self) -> usize {
        self.tokens.len()
    }
}

impl Evaluate for Line<Token> {
    fn evaluate(&self) -> Option<i64> {
        let mut total = 0;
        for token in &self.tokens {
            match token {
                Token::Number(value) => {
                    total += value;
                }
                Token::Plus => {}
            }
        }
        if self.size() == 0 {
            return None;
        }
        Some(total)
    }
}

fn parse(text: &str) -> Result<Line<Token>, Error> {
    let mut line = Line::new();
    for (place, word) in text.split(' ').enumerate() {
        let token = if word == "+" {
            Token::Plus
        } else {
            let value = word.parse::<i64>().map_err(|_| Error {
                text: word.to_string(),
                place,
            })?;
            Token::Number(value)
        };
        line.tokens.push(token);
    }
    Ok(line)
}

fn main() {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut out = String::new();
    for text in ["1 + 2", "a"].iter().take(LIMIT) {
        let count = seen.entry(text.to_string()).or_insert(0);
        *count += 1;
        match parse(text) {
            Ok(line) => {
                writeln!(out, "{:?} {:?}", line.tokens, line.evaluate()).unwrap();
            }
            Err(error) => println!("{}", error),
        }
    }
    print!("{}", out);
}
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
    ("c", C),
    ("cpp", CPP),
    ("go", GO),
    ("java", JAVA),
    ("javascript", JAVASCRIPT),
    ("rust", RUST),
    ("typescript", TYPESCRIPT),
]
