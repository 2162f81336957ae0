const util = require("util");
const platform = require("path");

const shared = 2;
let size = 0, größe = 1;

function area(width, height) {
  const product = width * height, size = 7; // 🐍
  return { product, size: size + product }; // a shorthand
}

function twice(count) {
  var result = [];
  for (let count = 0; count < 2; count++) result.push(count);
  for (const one of [count]) {
    const inner = (count) => count + one;
    result.push(inner(count), ((one) => one * 2)(5));
  }
  { let count = 9; result.push(count); }
  return result;
}

function unpack({ width, height: tall, ...rest }, [first, , third = first] = [1, 2]) {
  const text = `${width} ${tall} ${third} ${Object.keys(rest)}`;
  label: for (const width of [1, 2]) { if (width > 1) break label; }
  return text + first;
}

class Box {
  #hidden = 3;
  static made = 0;
  constructor(width, height) {
    this.width = width;
    this.height = height;
    Box.made += 1;
  }
  get area() { return area(this.width, this.height).product + this.#hidden; }
  width2(width) { const self = this; return function area() { return self.width + width; }; }
}

function risky(error) {
  try { throw new Error("bad"); } catch (error) { size += 1; return error.message; }
  finally { größe += error.length; }
}

function later() {
  hoisted = 4;
  var hoisted;
  return typeof undeclared + hoisted + (function hoisted() { return typeof hoisted; })();
}

function limits(value) {
  const name = "limit of it", most = 125;
  if (value > 125) return [value, "limit of it"];
  return [most, name];
}

console.log(JSON.stringify([
  area(2, 3), twice(4), unpack({ width: 1, height: 2, depth: 3 }), new Box(2, 5).area,
  new Box(1, 1).width2(4)(), risky("error"), later(), limits(3), limits(300), größe,
  util.inspect({ shared, size }), Box.made,
]));
log(platform.sep);
function log(text) {
  size += text.length;
  console.log(text);
}
