const fs = require("node:fs");
const homes = ["/usr/share/nodejs", "/usr/lib/node_modules", "/usr/local/lib/node_modules"];
const home = homes.find((path) => fs.existsSync(path + "/typescript/lib/typescript.js"));
if (!home) { process.stderr.write("no typescript"); process.exit(3); }
const ts = require(home + "/typescript/lib/typescript.js");
const options = {
  noEmit: true, target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, types: [],
  moduleResolution: ts.ModuleResolutionKind.Bundler, skipLibCheck: true, noResolve: true,
};
// Of a program alone nothing is known about the modules and the platform around it.
const elsewhere = new Set([2307, 2580, 2582, 2591, 2792, 7016]);
const host = ts.createCompilerHost(options), read = host.getSourceFile, kept = new Map();
let text = "", program;
host.getSourceFile = (name, ...rest) => {
  if (name === "main.ts") return ts.createSourceFile(name, text, rest[0], true);
  if (!kept.has(name)) kept.set(name, read.call(host, name, ...rest));
  return kept.get(name);
};
function check(state) {
  text = state;
  program = ts.createProgram(["main.ts"], options, host, program);
  const found = ts.getPreEmitDiagnostics(program, program.getSourceFile("main.ts"))
    .find((one) => one.category === ts.DiagnosticCategory.Error && !elsewhere.has(one.code));
  if (!found) return "";
  const line = found.file ? found.file.getLineAndCharacterOfPosition(found.start).line + 1 : 0;
  return `${line}\tTS${found.code} ${ts.flattenDiagnosticMessageText(found.messageText, " ")}`;
}
const states = fs.readFileSync(0, "utf8").split("\0");
fs.writeSync(1, states.map((state) => check(state).replace(/\n/g, " ") + "\n").join(""));
