# ruff: noqa: E501
"""Programs in each language: one that is right, and some that do what programs must not.

``{port}`` is a port of this machine, ``{host}`` a file on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Programs:
    """The programs of a language.

    Attributes:
        right: defines f(x) = 2 x; the text of a problem's prompt and solution.
        wrong: defines another f.
        calls: writes f(1) and f(20) as answers.
        test: the same as a test beside the program, which fails if they are not 2 and 40.
        echo: reads a line and prints it.
        broken: does not compile, or is no program of the language.
        loop, memory, fork: never end; take all memory; start processes without end.
        network: says ``reached`` if it reaches the port.
        reads: prints the host's file.
        forgeries: name -> a program that claims to be right.
        patches: the same by changing what its tests call, which no test beside a program stops.
    """

    right: str
    wrong: str
    echo: str
    broken: str
    loop: str
    memory: str
    fork: str
    network: str
    reads: str
    test: str
    calls: str = ""
    forgeries: Mapping[str, str] = field(default_factory=dict)
    patches: Mapping[str, str] = field(default_factory=dict)


_JS = "function f(x) { return 2 * x; }\n"
_JS_CALLS = "codegen_answer(f(1)); codegen_answer(f(20));\n"
_JS_TEST = (
    "const assert = require('node:assert'); assert.equal(f(1), 2); assert.equal(f(20), 40);\n"
)
_JAVASCRIPT = Programs(
    right=_JS,
    wrong="function f(x) { return x + 1; }\n",
    calls=_JS_CALLS,
    test=_JS_TEST,
    echo="console.log(require('fs').readFileSync(0, 'utf8').trim());\n",
    broken="function f(x { return;\n",
    loop="while (true) {}\n",
    memory="const a = []; while (true) a.push(new Array(1e6).fill(a.length));\n",
    fork="const c = require('child_process'); while (true) c.spawn('/bin/sleep', ['60']);\n",
    network=(
        "require('net').connect({port}, '127.0.0.1', () => console.log('reached'))"
        ".on('error', (e) => console.log(e.code));\n"
    ),
    reads="console.log(require('fs').readFileSync('{host}', 'utf8'));\n",
    forgeries={
        "exit": "process.exit(0);\n",
        "exit in f": "function f(x) { process.exit(0); }\n",
        "at exit": "process.on('exit', () => { process.exitCode = 0; });\n",
        "marker": "console.log('passed ok OK All tests passed!');process.exit(0);\n",
        "answers": "require('fs').writeFileSync('.answers', '0\\n0\\n'); process.exit(0);\n",
        "writer": (
            "require('child_process').spawn('/bin/sh', ['-c', 'while :; do echo 1 >> .answers; "
            "done'], {detached: true}).unref(); process.exit(0);\n"
        ),
    },
    patches={
        "equal": (
            "const a = require('node:assert'); a.deepEqual = a.equal = () => {};\n"
            "function f(x) { return 0; }\n"
        ),
        "json": "JSON.stringify = String = () => '2';\nfunction f(x) { return '0'; }\n",
    },
)
PROGRAMS: Mapping[str, Programs] = {
    "javascript": _JAVASCRIPT,
    "typescript": Programs(
        right="function f(x: number): number { return 2 * x; }\n",
        wrong="function f(x: number): number { return x + 1; }\n",
        calls=_JS_CALLS,
        test=_JS_TEST,
        echo=_JAVASCRIPT.echo,
        broken="function f(x: number { return;\n",
        loop=_JAVASCRIPT.loop,
        memory=_JAVASCRIPT.memory,
        fork=_JAVASCRIPT.fork,
        network=_JAVASCRIPT.network,
        reads=_JAVASCRIPT.reads,
        forgeries=_JAVASCRIPT.forgeries,
        patches=_JAVASCRIPT.patches,
    ),
    "bash": Programs(
        right="f() { echo $((2 * $1)); }\n",
        wrong="f() { echo $(($1 + 1)); }\n",
        calls='codegen_answer "$(f 1)"; codegen_answer "$(f 20)"\n',
        test="set -e\n[[ $(f 1) = 2 ]]\n[[ $(f 20) = 40 ]]\n",
        echo="read -r line; echo $line\n",
        broken="if then fi (\n",
        loop="while :; do :; done\n",
        memory="x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done\n",
        fork=":() { : | : & }; while :; do :; done\n",
        network="(: < /dev/tcp/127.0.0.1/{port}) && echo reached\n",
        reads="cat '{host}'\n",
        forgeries={
            "exit": "exit 0\n",
            "trap": "trap 'exit 0' EXIT\nf() { echo 0; }\n",
            "marker": "echo passed ok OK; exit 0\n",
            "answers": "printf '0\\n0\\n' > .answers; exit 0\n",
            "test": "[[() { true; }\nset +e\nf() { echo 0; }; exit 0\n",
        },
    ),
    "perl": Programs(
        right="sub f { return 2 * $_[0]; }\n",
        wrong="sub f { return $_[0] + 1; }\n",
        calls="codegen_answer(f(1)); codegen_answer(f(20));\n",
        test="die if f(1) != 2; die if f(20) != 40;\n",
        echo="my $line = <STDIN>; print $line;\n",
        broken="sub f { return (; }\n",
        loop="while (1) {}\n",
        memory="my @a; while (1) { push @a, 'x' x 1000000; }\n",
        fork="while (1) { fork; }\n",
        network=("use IO::Socket; print 'reached' if IO::Socket::INET->new('127.0.0.1:{port}');\n"),
        reads="open(F, '<', '{host}'); print <F>;\n",
        forgeries={
            "exit": "exit 0;\n",
            "at exit": "END { $? = 0; }\nsub f { return 0; }\nexit 0;\n",
            "posix exit": "use POSIX; POSIX::_exit(0);\n",
            "marker": "print 'passed ok'; exit 0;\n",
            "answers": "open(F, '>', '.answers'); print F \"0\\n0\\n\"; close F; exit 0;\n",
            "die": "BEGIN { *CORE::GLOBAL::die = sub { exit 0 }; }\nsub f { return 0; }\n",
        },
    ),
    "c": Programs(
        right="#include <assert.h>\nint f(int x) { return 2 * x; }\n",
        wrong="#include <assert.h>\nint f(int x) { return x + 1; }\n",
        test="int main() {\n  assert(f(1) == 2);\n  assert(f(20) == 40);\n  return 0;\n}\n",
        echo="int main() { char b[99]; fgets(b, 99, stdin); fputs(b, stdout); return 0; }\n",
        broken="int main( { return 0; }\n",
        loop="int main() { for (;;); }\n",
        memory=(
            "#include <string.h>\nint main() { for (;;) { char* p = malloc(1 << 20); "
            "if (p) memset(p, 1, 1 << 20); } }\n"
        ),
        fork="#include <unistd.h>\nint main() { for (;;) fork(); }\n",
        network=(
            "#include <arpa/inet.h>\n#include <sys/socket.h>\nint main() {\n"
            "  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons({port})};\n"
            '  inet_aton("127.0.0.1", &a.sin_addr);\n'
            '  if (!connect(socket(2, 1, 0), (void*)&a, sizeof a)) puts("reached"); return 0; }\n'
        ),
        reads=(
            'int main() { FILE* f = fopen("{host}", "r"); int c; '
            "while (f && (c = getc(f)) > 0) putchar(c); return 0; }\n"
        ),
        forgeries={
            "exit": "#include <assert.h>\nint f(int x) { exit(0); }\n",
            "constructor": (
                "#include <assert.h>\n__attribute__((constructor)) void early() { exit(0); }\n"
                "int f(int x) { return 0; }\n"
            ),
            "at exit": (
                "#include <assert.h>\n#include <unistd.h>\nvoid late() { _exit(0); }\n"
                "int f(int x) { atexit(late); exit(1); }\n"
            ),
            "abort": (
                "#include <assert.h>\n#include <signal.h>\nvoid end(int n) { exit(0); }\n"
                "int f(int x) { signal(SIGABRT, end); return 0; }\n"
            ),
        },
    ),
    "cpp": Programs(
        right="#include <cassert>\nint f(int x) { return 2 * x; }\n",
        wrong="#include <cassert>\nint f(int x) { return x + 1; }\n",
        calls="int main() { codegen_answer(f(1)); codegen_answer(f(20)); }\n",
        test="int main() {\n  assert(f(1) == 2);\n  assert(f(20) == 40);\n}\n",
        echo=(
            "#include <iostream>\nint main() { std::string s; std::getline(std::cin, s); "
            "std::cout << s << std::endl; }\n"
        ),
        broken="int main( { return 0; }\n",
        loop="int main() { volatile int x = 0; for (;;) x = x + 1; }\n",
        memory=(
            "#include <vector>\nint main() { std::vector<std::vector<char>> a; "
            "for (;;) a.emplace_back(1 << 20, 1); }\n"
        ),
        fork="#include <unistd.h>\nint main() { for (;;) fork(); }\n",
        network=(
            "#include <arpa/inet.h>\n#include <sys/socket.h>\n#include <cstdio>\nint main() {\n"
            "  sockaddr_in a{}; a.sin_family = AF_INET; a.sin_port = htons({port});\n"
            '  inet_aton("127.0.0.1", &a.sin_addr);\n'
            '  if (!connect(socket(2, 1, 0), (sockaddr*)&a, sizeof a)) puts("reached"); }\n'
        ),
        reads=(
            '#include <fstream>\n#include <iostream>\nint main() { std::ifstream f("{host}"); '
            "std::cout << f.rdbuf(); return 0; }\n"
        ),
        forgeries={
            "exit": "#include <cassert>\nint f(int x) { std::exit(0); }\n",
            "global": (
                "#include <cassert>\nstruct E { E() { std::_Exit(0); } } e;\nint f(int x) { return 0; }\n"
            ),
            "marker": (
                '#include <cassert>\nint f(int x) { std::puts("passed"); std::quick_exit(0); }\n'
            ),
            "answers": (
                "#include <cassert>\n"
                'int f(int x) { std::ofstream(".answers") << "0\\n0\\n"; std::exit(0); }\n'
            ),
            "terminate": (
                "#include <cassert>\n#include <csignal>\n"
                "int f(int x) { std::signal(SIGABRT, [](int) { std::_Exit(0); }); return 0; }\n"
            ),
        },
    ),
    "java": Programs(
        right="class Problem {\n  static int f(int x) {\n    return 2 * x;\n  }\n",
        wrong="class Problem {\n  static int f(int x) {\n    return x + 1;\n  }\n",
        calls=(
            "public static void main(String[] args) {\n"
            "CodegenAnswers.answer(f(1)); CodegenAnswers.answer(f(20));\n}\n}\n"
        ),
        test="public static void main(String[] args) {\nassert f(1) == 2; assert f(20) == 40;\n}\n}\n",
        echo=(
            "class A { public static void main(String[] a) { "
            "System.out.println(new java.util.Scanner(System.in).nextLine()); } }\n"
        ),
        broken="class A { int f( }\n",
        loop="class A { public static void main(String[] a) { while (true) {} } }\n",
        memory=(
            "class A { public static void main(String[] a) { java.util.List<byte[]> l = "
            "new java.util.ArrayList<>(); while (true) l.add(new byte[1 << 20]); } }\n"
        ),
        fork=(
            "class A { public static void main(String[] a) throws Exception { while (true) try { "
            'new ProcessBuilder("/bin/sleep", "60").start(); } catch (Throwable e) {} } }\n'
        ),
        network=(
            "class A { public static void main(String[] a) throws Exception { "
            'new java.net.Socket("127.0.0.1", {port}); System.out.println("reached"); } }\n'
        ),
        reads=(
            "class A { public static void main(String[] a) throws Exception { System.out.println("
            'java.nio.file.Files.readString(java.nio.file.Path.of("{host}"))); } }\n'
        ),
        forgeries={
            "exit": "class Problem {\n  static int f(int x) {\n    System.exit(0); return 0;\n  }\n",
            "static": (
                "class Problem {\n  static { Runtime.getRuntime().halt(0); }\n"
                "  static int f(int x) { return 0; }\n"
            ),
            "hook": (
                "class Problem {\n  static int f(int x) {\n    Runtime.getRuntime().addShutdownHook("
                "new Thread(() -> Runtime.getRuntime().halt(0))); throw new Error();\n  }\n"
            ),
            # Another function main, and a text in which a comment seems to begin.
            "main": (
                "class Cheat { public static void main(String[] a) { } }\nclass Problem {\n"
                '  static String s = """\n/*\n""";\n  static int f(int x) { return 0; }\n'
            ),
        },
    ),
    "rust": Programs(
        right="fn f(x: i64) -> i64 { 2 * x }\n",
        wrong="fn f(x: i64) -> i64 { x + 1 }\n",
        calls="fn main() { codegen_answer(f(1)); codegen_answer(f(20)); }\n",
        test="fn main() { assert_eq!(f(1), 2); assert_eq!(f(20), 40); }\n",
        echo=(
            "fn main() { let mut s = String::new(); std::io::stdin().read_line(&mut s).unwrap(); "
            'print!("{}", s); }\n'
        ),
        broken="fn main( { }\n",
        loop="fn main() { let mut x = 0u64; loop { x = x.wrapping_add(std::hint::black_box(1)); } }\n",
        memory="fn main() { let mut a = Vec::new(); loop { a.push(vec![1u8; 1 << 20]); } }\n",
        fork=(
            'fn main() { loop { let _ = std::process::Command::new("/bin/sleep")'
            '.arg("60").spawn(); } }\n'
        ),
        network=(
            'fn main() { if std::net::TcpStream::connect("127.0.0.1:{port}").is_ok() '
            '{ println!("reached"); } }\n'
        ),
        reads='fn main() { println!("{}", std::fs::read_to_string("{host}").unwrap()); }\n',
        forgeries={
            "exit": "fn f(_: i64) -> i64 { std::process::exit(0) }\n",
            "panic hook": (
                "fn f(_: i64) -> i64 { std::panic::set_hook(Box::new(|_| std::process::exit(0))); 0 }\n"
            ),
            "include": 'fn f(_: i64) -> i64 { println!("passed"); std::process::exit(0) }\n',
        },
    ),
    "go": Programs(
        right="package main\n\nfunc f(x int) int { return 2 * x }\n",
        wrong="package main\n\nfunc f(x int) int { return x + 1 }\n",
        calls="func main() {\n\tcodegen_answer(f(1))\n\tcodegen_answer(f(20))\n}\n",
        test=('func main() {\n\tif f(1) != 2 || f(20) != 40 {\n\t\tpanic("wrong")\n\t}\n}\n'),
        echo=(
            'package main\n\nimport (\n\t"bufio"\n\t"fmt"\n\t"os"\n)\n\nfunc main() {\n'
            "\ts, _ := bufio.NewReader(os.Stdin).ReadString('\\n')\n\tfmt.Print(s)\n}\n"
        ),
        broken="package main\n\nfunc main( {\n",
        loop="package main\n\nfunc main() {\n\tfor {\n\t}\n}\n",
        memory=(
            "package main\n\nfunc main() {\n\tvar a [][]byte\n\tfor {\n\t\tb := make([]byte, 1<<20)\n"
            "\t\tfor i := range b {\n\t\t\tb[i] = 1\n\t\t}\n\t\ta = append(a, b)\n\t}\n}\n"
        ),
        fork=(
            'package main\n\nimport "os/exec"\n\nfunc main() {\n\tfor {\n'
            '\t\texec.Command("/bin/sleep", "60").Start()\n\t}\n}\n'
        ),
        network=(
            'package main\n\nimport (\n\t"fmt"\n\t"net"\n)\n\nfunc main() {\n'
            '\tif _, err := net.Dial("tcp", "127.0.0.1:{port}"); err == nil {\n'
            '\t\tfmt.Println("reached")\n\t}\n}\n'
        ),
        reads=(
            'package main\n\nimport (\n\t"fmt"\n\t"os"\n)\n\nfunc main() {\n'
            '\tb, _ := os.ReadFile("{host}")\n\tfmt.Println(string(b))\n}\n'
        ),
        forgeries={
            "exit": 'package main\n\nimport "os"\n\nfunc f(x int) int { os.Exit(0); return 0 }\n',
            "init": (
                'package main\n\nimport "os"\n\nfunc init() { os.Exit(0) }\n\n'
                "func f(x int) int { return 0 }\n"
            ),
        },
    ),
    "ruby": Programs(
        right="def f(x)\n  2 * x\nend\n",
        wrong="def f(x)\n  x + 1\nend\n",
        calls="codegen_answer(f(1))\ncodegen_answer(f(20))\n",
        test="raise 'wrong' if f(1) != 2\nraise 'wrong' if f(20) != 40\n",
        echo="puts gets\n",
        broken="def f(x\n",
        loop="loop {}\n",
        memory="a = []\nloop { a << 'x' * 1000000 }\n",
        fork="loop { begin; fork; rescue; end }\n",
        network="require 'socket'\nTCPSocket.new('127.0.0.1', {port})\nputs 'reached'\n",
        reads="puts File.read('{host}')\n",
        forgeries={
            "exit": "exit!\n",
            "at exit": "at_exit { exit!(0) }\ndef f(x)\n  0\nend\n",
            "raise": "module Kernel\n  def raise(*)\n    exit!(0)\n  end\nend\ndef f(x)\n  0\nend\n",
            "answers": "File.write('.answers', \"0\\n0\\n\")\nexit!\n",
        },
    ),
    "php": Programs(
        right="<?php\nfunction f($x) { return 2 * $x; }\n",
        wrong="<?php\nfunction f($x) { return $x + 1; }\n",
        calls="codegen_answer(f(1)); codegen_answer(f(20));\n",
        test="assert(f(1) === 2); assert(f(20) === 40);\n",
        echo="<?php echo fgets(STDIN);\n",
        broken="<?php function f( {\n",
        loop="<?php while (true) {}\n",
        memory="<?php $a = []; while (true) $a[] = str_repeat('x', 1000000);\n",
        fork="<?php while (true) proc_open(['/bin/sleep', '60'], [], $pipes);\n",
        network="<?php if (@fsockopen('127.0.0.1', {port})) echo 'reached';\n",
        reads="<?php echo file_get_contents('{host}');\n",
        forgeries={
            "exit": "<?php\nexit(0);\n",
            "shutdown": (
                "<?php\nregister_shutdown_function(function () { exit(0); });\n"
                "function f($x) { throw new Exception(); }\n"
            ),
            "handler": (
                "<?php\nset_exception_handler(function ($e) { exit(0); });\n"
                "function f($x) { return 0; }\n"
            ),
        },
    ),
    "lua": Programs(
        right="function f(x) return 2 * x end\n",
        wrong="function f(x) return x + 1 end\n",
        calls="codegen_answer(f(1)) codegen_answer(f(20))\n",
        test="assert(f(1) == 2) assert(f(20) == 40)\n",
        echo="print(io.read())\n",
        broken="function f(x\n",
        loop="while true do end\n",
        memory="local a = {} while true do a[#a + 1] = string.rep('x', 1000000) .. #a end\n",
        fork="while true do io.popen('/bin/sleep 60') end\n",
        network="os.execute('(: < /dev/tcp/127.0.0.1/{port}) && echo reached')\n",
        reads="print(io.open('{host}'):read('a'))\n",
        forgeries={
            "exit": "os.exit(0)\n",
            "assert": "function assert() end\nfunction f(x) return 0 end os.exit(0)\n",
        },
    ),
    "r": Programs(
        right="f <- function(x) 2 * x\n",
        wrong="f <- function(x) x + 1\n",
        calls="codegen_answer(f(1))\ncodegen_answer(f(20))\n",
        test="stopifnot(f(1) == 2)\nstopifnot(f(20) == 40)\n",
        echo="cat(readLines(file('stdin'), n = 1), '\\n')\n",
        broken="f <- function(x {\n",
        loop="while (TRUE) {}\n",
        memory="a <- list(); while (TRUE) a[[length(a) + 1]] <- runif(1e6)\n",
        fork="while (TRUE) system('/bin/sleep 60', wait = FALSE)\n",
        network="s <- socketConnection('127.0.0.1', {port}); cat('reached')\n",
        reads="cat(readLines('{host}'))\n",
        forgeries={
            "exit": "quit('no', 0)\n",
            "stop": "stopifnot <- function(...) quit('no', 0)\nf <- function(x) 0\n",
        },
    ),
    "haskell": Programs(
        right="f :: Int -> Int\nf x = 2 * x\n",
        wrong="f :: Int -> Int\nf x = x + 1\n",
        test='main :: IO ()\nmain = if f 1 == 2 && f 20 == 40 then return () else error "wrong"\n',
        echo="main = getLine >>= putStrLn\n",
        broken="main = (\n",
        loop="main = let go n = if n < 0 then print n else go (abs (n + 1)) in go (0 :: Integer)\n",
        memory="main = print (length xs + sum xs) where xs = [1 ..] :: [Int]\n",
        fork="",
        network="",
        reads='main = readFile "{host}" >>= putStrLn\n',
        forgeries={
            "exit": (
                "import System.IO.Unsafe\nimport System.Exit\n"
                "f :: Int -> Int\nf x = unsafePerformIO exitSuccess\n"
            ),
        },
    ),
    "csharp": Programs(
        right="class Problem {\n  static int F(int x) {\n    return 2 * x;\n  }\n",
        wrong="class Problem {\n  static int F(int x) {\n    return x + 1;\n  }\n",
        calls=(
            "static void Main() {\nCodegenAnswers.Answer(F(1)); CodegenAnswers.Answer(F(20));\n}\n}\n"
        ),
        test=(
            "static void Main() {\nSystem.Diagnostics.Debug.Assert(F(1) == 2); "
            "System.Diagnostics.Debug.Assert(F(20) == 40);\n}\n}\n"
        ),
        echo="class A { static void Main() { System.Console.WriteLine(System.Console.ReadLine()); } }\n",
        broken="class A { int F( }\n",
        loop="class A { static void Main() { while (true) {} } }\n",
        memory=(
            "class A { static void Main() { var l = new System.Collections.Generic.List<byte[]>(); "
            "while (true) { var b = new byte[1 << 20]; for (int i = 0; i < b.Length; i += 999) "
            "b[i] = 1; l.Add(b); } } }\n"
        ),
        fork=(
            "class A { static void Main() { while (true) try { "
            'System.Diagnostics.Process.Start("/bin/sleep", "60"); } catch {} } }\n'
        ),
        network=(
            "class A { static void Main() { "
            'new System.Net.Sockets.TcpClient("127.0.0.1", {port}).GetStream().WriteByte(1); '
            'System.Console.WriteLine("reached"); } }\n'
        ),
        reads=(
            "class A { static void Main() { "
            'System.Console.WriteLine(System.IO.File.ReadAllText("{host}")); } }\n'
        ),
        forgeries={
            "exit": "class Problem {\n  static int F(int x) {\n    System.Environment.Exit(0); return 0;\n  }\n",
            "static": (
                "class Problem {\n  static Problem() { System.Environment.Exit(0); }\n"
                "  static int F(int x) { return 0; }\n"
            ),
            "at exit": (
                "class Problem {\n  static int F(int x) {\n    System.AppDomain.CurrentDomain.ProcessExit "
                "+= (a, b) => System.Environment.ExitCode = 0; throw new System.Exception();\n  }\n"
            ),
            "handler": (
                "class Problem {\n  static int F(int x) {\n    System.AppDomain.CurrentDomain"
                ".UnhandledException += (a, b) => System.Environment.Exit(0); return 0;\n  }\n"
            ),
            "answers": (
                "class Problem {\n  static int F(int x) {\n    System.IO.File.WriteAllText("
                '"/tmp/.answers", "0\\n0\\n"); System.Environment.Exit(0); return 0;\n  }\n'
            ),
        },
    ),
    "kotlin": Programs(
        right="fun f(x: Int): Int {\n    return 2 * x\n}\n",
        wrong="fun f(x: Int): Int {\n    return x + 1\n}\n",
        calls="fun main() {\n    codegen_answer(f(1)); codegen_answer(f(20))\n}\n",
        test="fun main() {\n    check(f(1) == 2); check(f(20) == 40)\n}\n",
        echo="fun main() { println(readLine()) }\n",
        broken="fun main( { }\n",
        loop="fun main() { while (true) {} }\n",
        memory="fun main() { val l = ArrayList<ByteArray>(); while (true) l.add(ByteArray(1 shl 20)) }\n",
        fork=(
            "fun main() { while (true) try { "
            'ProcessBuilder("/bin/sleep", "60").start() } catch (e: Throwable) {} }\n'
        ),
        network='fun main() { java.net.Socket("127.0.0.1", {port}); println("reached") }\n',
        reads='fun main() { println(java.io.File("{host}").readText()) }\n',
        forgeries={
            "exit": "fun f(x: Int): Int { System.exit(0); return 0 }\n",
            "property": "val early = Runtime.getRuntime().halt(0)\nfun f(x: Int): Int { return 0 }\n",
            "hook": (
                "fun f(x: Int): Int { Runtime.getRuntime().addShutdownHook("
                "Thread { Runtime.getRuntime().halt(0) }); throw Error() }\n"
            ),
            "handler": (
                "fun f(x: Int): Int { Thread.setDefaultUncaughtExceptionHandler { _, _ -> "
                "Runtime.getRuntime().halt(0) }; return 0 }\n"
            ),
            "answers": (
                'fun f(x: Int): Int { java.io.File(".answers").writeText("0\\n0\\n"); '
                "Runtime.getRuntime().halt(0); return 0 }\n"
            ),
            "main": (
                'fun main(args: Array<String>) { }\nval s = """\n/*\n"""\n'
                "fun f(x: Int): Int { return 0 }\n"
            ),
        },
        patches={"check": "fun check(x: Boolean) {}\nfun f(x: Int): Int { return 0 }\n"},
    ),
    "scala": Programs(
        right="object Problem {\n  def f(x: Int): Int = {\n    2 * x\n  }\n",
        wrong="object Problem {\n  def f(x: Int): Int = {\n    x + 1\n  }\n",
        calls=(
            "def main(args: Array[String]): Unit = {\n"
            "CodegenAnswers.answer(f(1)); CodegenAnswers.answer(f(20))\n}\n}\n"
        ),
        test="def main(args: Array[String]) = {\nassert(f(1) == 2); assert(f(20) == 40)\n}\n}\n",
        echo="object A extends App { println(scala.io.StdIn.readLine()) }\n",
        broken="object A { def f( }\n",
        loop="object A { def main(a: Array[String]): Unit = { while (true) {} } }\n",
        memory=(
            "object A { def main(a: Array[String]): Unit = { val l = "
            "new java.util.ArrayList[Array[Byte]](); while (true) l.add(new Array[Byte](1 << 20)) } }\n"
        ),
        fork=(
            "object A { def main(a: Array[String]): Unit = { while (true) try { "
            'new ProcessBuilder("/bin/sleep", "60").start() } catch { case e: Throwable => } } }\n'
        ),
        network=(
            'object A extends App { new java.net.Socket("127.0.0.1", {port}); println("reached") }\n'
        ),
        reads='object A extends App { println(scala.io.Source.fromFile("{host}").mkString) }\n',
        forgeries={
            "exit": "object Problem {\n  def f(x: Int): Int = {\n    sys.exit(0)\n  }\n",
            "static": (
                "object Problem {\n  Runtime.getRuntime.halt(0)\n  def f(x: Int): Int = {\n    0\n  }\n"
            ),
            "handler": (
                "object Problem {\n  def f(x: Int): Int = {\n    Thread.setDefaultUncaughtExceptionHandler("
                "new Thread.UncaughtExceptionHandler { def uncaughtException(t: Thread, e: Throwable) = "
                "Runtime.getRuntime.halt(0) }); 0\n  }\n"
            ),
            "answers": (
                "object Problem {\n  def f(x: Int): Int = {\n    java.nio.file.Files.write("
                'java.nio.file.Paths.get(".answers"), "0\\n0\\n".getBytes); '
                "Runtime.getRuntime.halt(0); 0\n  }\n"
            ),
            "main": (
                "object Cheat { def main(a: Array[String]): Unit = { } }\nobject Problem {\n"
                '  val s = """\n/*\n"""\n  def f(x: Int): Int = {\n    0\n  }\n'
            ),
        },
        patches={
            "assert": (
                "object Problem {\n  def assert(x: Boolean): Unit = {}\n"
                "  def f(x: Int): Int = {\n    0\n  }\n"
            )
        },
    ),
    "swift": Programs(
        right="func f(x: Int) -> Int {\n    return 2 * x\n}\n",
        wrong="func f(x: Int) -> Int {\n    return x + 1\n}\n",
        calls="codegen_answer(f(x: 1))\ncodegen_answer(f(x: 20))\n",
        test="assert(f(x: 1) == 2)\nassert(f(x: 20) == 40)\n",
        echo="print(readLine()!)\n",
        broken="func f( {\n",
        loop="var x = 0\nwhile true { x = x &+ 1 }\n",
        memory=(
            "var a: [[UInt8]] = []\nwhile true { a.append([UInt8](repeating: 1, count: 1 << 20)) }\n"
        ),
        fork=(
            "import Foundation\nwhile true { let p = Process(); "
            'p.executableURL = URL(fileURLWithPath: "/bin/sleep"); p.arguments = ["60"]; '
            "try? p.run() }\n"
        ),
        network=(
            "import Glibc\nvar a = sockaddr_in()\na.sin_family = sa_family_t(AF_INET)\n"
            "a.sin_port = in_port_t(UInt16({port}).bigEndian)\n"
            'inet_aton("127.0.0.1", &a.sin_addr)\n'
            "let s = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)\n"
            "let r = withUnsafePointer(to: &a) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) "
            "{ connect(s, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) } }\n"
            'if r == 0 { print("reached") }\n'
        ),
        reads='import Foundation\nprint(try String(contentsOfFile: "{host}", encoding: .utf8))\n',
        forgeries={
            "exit": "import Glibc\nfunc f(x: Int) -> Int { exit(0) }\n",
            "top": "import Glibc\nfunc f(x: Int) -> Int { return 0 }\n_exit(0)\n",
            "at exit": ("import Glibc\nfunc f(x: Int) -> Int { atexit { _exit(0) }; exit(1) }\n"),
            "signal": (
                "import Glibc\nfunc f(x: Int) -> Int { signal(SIGILL) { _ in _exit(0) }; "
                "signal(SIGTRAP) { _ in _exit(0) }; return 0 }\n"
            ),
            "answers": (
                'import Glibc\nfunc f(x: Int) -> Int { let a = fopen(".answers", "w")!; '
                'fputs("0\\n0\\n", a); fclose(a); _exit(0) }\n'
            ),
        },
        patches={
            "assert": "func assert(_ x: Bool) {}\nfunc f(x: Int) -> Int { return 0 }\n",
        },
    ),
}
