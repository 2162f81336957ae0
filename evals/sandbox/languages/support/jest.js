// The part of Jest that tests of exercises use. It comes after the program's text,
// codegen_program, and before the tests.
const codegen_tests = [];
const codegen_groups = [{ name: [], before: [], after: [] }];
const codegen_load = async () => {
  const commons =
    /^\s*(?:module\.)?exports\b/m.test(codegen_program) && !/^export\b/m.test(codegen_program);
  const file = `${__dirname}/program.${commons ? "cjs" : "mjs"}`;
  require("node:fs").writeFileSync(file, codegen_program);
  const loaded = await import(file);
  return commons ? { ...loaded.default, default: loaded.default } : loaded;
};
const describe = (name, body) => {
  const group = { name: [...codegen_groups.at(-1).name, name], before: [], after: [] };
  codegen_groups.push(group);
  body();
  codegen_groups.pop();
};
const test = (name, body) => {
  const around = [...codegen_groups];
  codegen_tests.push({ name: [...around.at(-1).name, name].join(" > "), body, around });
};
test.skip = () => {};
const [it, xtest, xit, xdescribe] = [test, test, test, describe];
const beforeEach = (body) => codegen_groups.at(-1).before.push(body);
const afterEach = (body) => codegen_groups.at(-1).after.push(body);
const codegen_call = (body) =>
  body.length ? new Promise((done, fail) => body((e) => (e ? fail(e) : done()))) : body();
const codegen_text = (value) => require("node:util").inspect(value, { depth: 4 }).slice(0, 500);
const codegen_equal = (a, b) => {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || !a || !b) return false;
  const kind = Object.prototype.toString.call(a);
  if (kind !== Object.prototype.toString.call(b)) return false;
  if (a instanceof Error) return a.message === b.message;
  if (a instanceof Date || a instanceof Number || a instanceof String || a instanceof Boolean)
    return Object.is(a.valueOf(), b.valueOf());
  if (a instanceof RegExp) return String(a) === String(b);
  if (Array.isArray(a) && a.length !== b.length) return false;
  if (a instanceof Set || a instanceof Map) {
    const rest = [...b];
    if (a.size !== b.size) return false;
    return [...a].every((item) => {
      const place = rest.findIndex((other) => codegen_equal(item, other));
      if (place >= 0) rest.splice(place, 1);
      return place >= 0;
    });
  }
  const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...keys].every((key) => codegen_equal(a[key], b[key]));
};
const codegen_thrown = (error, expected) => {
  const message = String(error && error.message !== undefined ? error.message : error);
  if (expected === undefined) return true;
  if (typeof expected === "string") return message.includes(expected);
  if (expected instanceof RegExp) return expected.test(message);
  if (typeof expected === "function") return error instanceof expected;
  return message === expected.message;
};
const codegen_matchers = {
  toBe: (a, b) => Object.is(a, b),
  toEqual: codegen_equal,
  toBeCloseTo: (a, b, digits = 2) => a === b || Math.abs(a - b) < 10 ** -digits / 2,
  toBeInstanceOf: (a, b) => a instanceof b,
  toBeUndefined: (a) => a === undefined,
  toBeDefined: (a) => a !== undefined,
  toBeNull: (a) => a === null,
  toBeTruthy: (a) => Boolean(a),
  toBeFalsy: (a) => !a,
  toBeGreaterThan: (a, b) => a > b,
  toBeGreaterThanOrEqual: (a, b) => a >= b,
  toBeLessThan: (a, b) => a < b,
  toBeLessThanOrEqual: (a, b) => a <= b,
  toContain: (a, b) => [...a].includes(b) || (typeof a === "string" && a.includes(b)),
  toContainEqual: (a, b) => [...a].some((item) => codegen_equal(item, b)),
  toHaveLength: (a, b) => a.length === b,
  toMatch: (a, b) => (b instanceof RegExp ? b.test(a) : a.includes(b)),
};
const expect = (value) => {
  const checks = (right) => {
    const all = {};
    const check = (name, found, ...more) => {
      if (found !== right)
        throw new Error(
          `expect(${codegen_text(value)})${right ? "" : ".not"}.${name}(` +
            `${more.map(codegen_text).join(", ")})`,
        );
    };
    for (const [name, matches] of Object.entries(codegen_matchers))
      all[name] = (...more) => check(name, matches(value, ...more), ...more);
    all.toThrow = all.toThrowError = (...more) => {
      let found = false;
      try {
        value();
      } catch (error) {
        found = codegen_thrown(error, ...more);
      }
      check("toThrow", found, ...more);
    };
    return all;
  };
  const later = (fails) => {
    const of = (pick) => (name) => async (...more) => {
      const settled = await Promise.resolve(typeof value === "function" ? value() : value).then(
        (found) => ({ found, failed: false }),
        (found) => ({ found, failed: true }),
      );
      if (settled.failed !== fails)
        throw new Error(`the promise ${fails ? "resolved" : "rejected"}: ${codegen_text(settled)}`);
      const throws = name.startsWith("toThrow");
      const given = throws && fails ? () => { throw settled.found; } : settled.found;
      return pick(expect(given))[name](...more);
    };
    const names = (make) => new Proxy({}, { get: (_, name) => make(name) });
    return names((name) => (name === "not" ? names(of((e) => e.not)) : of((e) => e)(name)));
  };
  return { ...checks(true), not: checks(false), resolves: later(false), rejects: later(true) };
};
const codegen_run = async () => {
  let failed = 0;
  for (const { name, body, around } of codegen_tests) {
    try {
      for (const group of around) for (const before of group.before) await codegen_call(before);
      await codegen_call(body);
      for (const group of around) for (const after of group.after) await codegen_call(after);
    } catch (error) {
      failed += 1;
      console.error(`FAILED ${name}\n  ${error && error.message ? error.message : error}`);
    }
  }
  if (failed || !codegen_tests.length) {
    console.error(`${failed} of ${codegen_tests.length} tests failed`);
    process.exit(1);
  }
};
