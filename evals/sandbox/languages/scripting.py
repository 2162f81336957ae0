"""Bash, Perl, Ruby, PHP, Lua and R: interpreted, each with its own equality of values."""

from __future__ import annotations

import re

from .base import Language
from .source import appended

BASH = Language(
    name="bash",
    title="Bash",
    aliases=("sh", "shell"),
    file="main.sh",
    tools=("bash",),
    install="bash bc",
    version=("{bash}", "--version"),
    run=("{bash}", "--norc", "--noprofile", "main.sh"),
    check=("{bash}", "-n", "main.sh"),
    comment="#",
    stop=("\n}",),
    answers="codegen_answer() { printf '%q\\n' \"$1\" >> .answers; }",
    guard=appended('printf %s "$CODEGEN_TOKEN" > .answers'),
)

PERL = Language(
    name="perl",
    title="Perl",
    aliases=("pl",),
    file="main.pl",
    tools=("perl",),
    install="perl libtest-deep-perl libdata-compare-perl",
    version=("{perl}", "-e", "print $^V"),
    run=("{perl}", "main.pl"),
    check=("{perl}", "-c", "main.pl"),
    shares=("/usr/share/perl*", "/etc/perl"),
    comment="#",
    stop=("\nsub ", "\n#", "\n\n"),
    answers=r"""
sub codegen_text {
    my ($v) = @_;
    return "undef" if !defined $v;
    my $kind = ref $v;
    return "[" . join(",", map { codegen_text($_) } @$v) . "]" if $kind eq "ARRAY";
    if ($kind eq "HASH") {
        my @pairs = map { codegen_text($_) . ":" . codegen_text($v->{$_}) } sort keys %$v;
        return "{" . join(",", @pairs) . "}";
    }
    my $text = "$v";
    $text =~ s/([\\"\x00-\x1f])/sprintf("\\%d;", ord($1))/ge;
    return "\"$text\"";
}
sub codegen_answer {
    open(my $codegen_file, ">>", ".answers");
    print $codegen_file codegen_text($_[0]), "\n";
    close($codegen_file);
}
""",
    guard=appended('{ open(my $f, ">", ".answers"); print $f $ENV{CODEGEN_TOKEN}; close($f); }'),
)

RUBY = Language(
    name="ruby",
    title="Ruby",
    aliases=("rb",),
    file="main.rb",
    tools=("ruby",),
    install="ruby ruby-test-unit",
    version=("{ruby}", "--version"),
    run=("{ruby}", "main.rb"),
    check=("{ruby}", "-c", "main.rb"),
    shares=("/usr/share/ruby*", "/usr/share/rubygems-integration", "/var/lib/gems"),
    any_address=True,
    comment="#",
    stop=("\nclass", "\ndef ", "\n#", "\n\n"),
    answers=r"""
def codegen_text(v)
  case v
  when Float then v.finite? && v == v.floor && v.abs < 1e15 ? v.to_i.to_s : v.to_s
  when Array then "[" + v.map { |item| codegen_text(item) }.join(",") + "]"
  when Set then "set" + codegen_text(v.map { |item| codegen_text(item) }.sort)
  when Hash
    pairs = v.map { |k, item| codegen_text(k) + ":" + codegen_text(item) }
    "{" + pairs.sort.join(",") + "}"
  else v.inspect
  end
end
def codegen_answer(value)
  File.open(".answers", "a") { |file| file.puts(codegen_text(value)) }
end
""",
    guard=appended('File.write(".answers", ENV["CODEGEN_TOKEN"])'),
)


def _php_guard(text: str) -> str:
    code = text.rstrip().removesuffix("?>")
    return f'{code}\nfile_put_contents(".answers", getenv("CODEGEN_TOKEN"));\n'


PHP = Language(
    name="php",
    title="PHP",
    file="main.php",
    tools=("php",),
    install="php-cli",
    version=("{php}", "--version"),
    run=(
        *("{php}", "-d", "memory_limit={memory_mib}M", "-d", "zend.assertions=1"),
        *("-d", "assert.exception=1", "-d", "display_errors=stderr", "main.php"),
    ),
    check=("{php}", "-l", "main.php"),
    shares=("/etc/php", "/usr/share/php"),
    any_address=True,
    stop=("\nfunction", "\n?>", "\n//", "\n#"),
    # As ===, which tells 1 from 1.0: serialize writes types.
    answers=r"""
function codegen_answer($value) {
    file_put_contents(".answers", addcslashes(serialize($value), "\0..\37\\") . "\n", FILE_APPEND);
}
""",
    answers_last=True,
    closing="?>",
    guard=_php_guard,
)

_LUA_EXIT = re.compile(r"^os\.exit\((.*)\)\s*\Z", re.M)
_LUA_DONE = (
    'do local f = io.open(".answers", "w") f:write(os.getenv("CODEGEN_TOKEN")) f:close() end'
)


def _lua_guard(text: str) -> str:
    """Tests of luaunit end with a call of exit, with its status."""
    found = _LUA_EXIT.search(text)
    if found is None:
        return f"{text}\n{_LUA_DONE}\n"
    end = f"local codegen_status = {found[1]}\nif codegen_status == 0 then {_LUA_DONE} end\n"
    return f"{text[: found.start()]}{end}os.exit(codegen_status)\n"


LUA = Language(
    name="lua",
    title="Lua",
    file="main.lua",
    tools=("lua5.4",),
    install="lua5.4 lua-unit",
    version=("{lua5.4}", "-v"),
    run=("{lua5.4}", "main.lua"),
    check=("{lua5.4}", "-e", 'assert(loadfile("main.lua"))'),
    shares=("/usr/share/lua",),
    comment="--",
    stop=("\nlocal", "\nfunction", "\n--", "\n\n"),
    answers=r"""
local function codegen_text(v)
  if type(v) == "number" then
    if v ~= v then return "nan" end
    if v == math.floor(v) and math.abs(v) < 1e15 then return string.format("%d", v) end
    return string.format("%.17g", v)
  end
  if type(v) == "string" then return (string.format("%q", v):gsub("\n", "n")) end
  if type(v) ~= "table" then return tostring(v) end
  local parts = {}
  for k, item in pairs(v) do parts[#parts + 1] = codegen_text(k) .. "=" .. codegen_text(item) end
  table.sort(parts)
  return "{" .. table.concat(parts, ",") .. "}"
end
local function codegen_answer(value)
  local file = io.open(".answers", "a")
  file:write(codegen_text(value), "\n")
  file:close()
end
""",
    guard=_lua_guard,
)

R = Language(
    name="r",
    title="R",
    file="main.R",
    tools=("Rscript",),
    install="r-base-core",
    version=("{Rscript}", "--version"),
    run=("{Rscript}", "--vanilla", "main.R"),
    check=("{Rscript}", "--vanilla", "-e", 'invisible(parse("main.R"))'),
    shares=("/etc/R", "/usr/share/R"),
    any_address=True,
    comment="#",
    stop=("\n#", "\n```"),
    # all.equal, by which the tests compare, takes numbers for equal that differ by 1.5e-8.
    answers=r"""
codegen_text <- function(v) {
  if (is.null(v)) return("NULL")
  named <- if (is.null(names(v))) "" else paste0(" names ", codegen_text(names(v)))
  if (is.list(v)) {
    parts <- vapply(seq_along(v), function(i) codegen_text(v[[i]]), "")
    return(paste0("list(", paste(parts, collapse = ","), ")", named))
  }
  if (is.numeric(v)) {
    parts <- ifelse(is.na(v), "NA", trimws(formatC(v, digits = 8, format = "g")))
    return(paste0("c(", paste(parts, collapse = ","), ")", named))
  }
  paste0("c(", paste(deparse(as.vector(unname(v))), collapse = " "), ")", named)
}
codegen_answer <- function(value) {
  cat(codegen_text(value), "\n", file = ".answers", append = TRUE, sep = "")
}
""",
    guard=appended('cat(Sys.getenv("CODEGEN_TOKEN"), file = ".answers")'),
)
