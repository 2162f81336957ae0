const vm = require("node:vm"), fs = require("node:fs");
if (!vm.SourceTextModule) {
  const flags = ["--experimental-vm-modules", "--no-warnings", __filename];
  const stdio = ["inherit", "inherit", "inherit"];
  process.exit(require("node:child_process").spawnSync(process.execPath, flags, { stdio }).status);
}
function check(text) {
  const code = text.replace(/^#!/, "//");
  try {
    vm.compileFunction(code, ["exports", "require", "module", "__filename", "__dirname"]);
  } catch (error) {
    try {
      new vm.SourceTextModule(code);
    } catch (second) {
      const chosen = /^\s*(import|export)\b/m.test(code) ? second : error;
      const place = /:(\d+)\n/.exec(chosen.stack || "");
      return `${place ? place[1] : 0}\t${chosen.message}`;
    }
  }
  return "";
}
const states = fs.readFileSync(0, "utf8").split("\0");
fs.writeSync(1, states.map((text) => check(text).replace(/\n/g, " ") + "\n").join(""));
