import { readFile } from "fs";
import type { Stats } from "fs";

interface Shape { width: number; height: number }
type Pair<T> = [T, T];

function area(shape: Shape, scale: number): number {
  const { width } = shape;
  const tall = shape.height * scale;
  return width * tall;
}

export function load(name: string): void {
  const most = 4096, options = { name, most };
  if (name.length > 4096) return;
  console.log(options);
  readFile(name, () => undefined);
}

class Box implements Shape {
  height: number;
  constructor(public width: number, height: number) {
    this.height = height;
    this.width = width + 1;
  }
  scaled<T extends number>(by: T): Pair<number> {
    const both: Pair<number> = [this.width * by, this.height * by];
    return both;
  }
}

class Point {
  x: number;
  y: number;
  constructor(x: number, y: number) {
    this.x = x;
    this.y = y;
  }
}

const box = new Box(120, 3);
let seen: Stats | undefined;
console.log(area(box, 2), area({ width: 1, height: 2 }, 3), box.scaled(2), seen, new Point(1, 2));
