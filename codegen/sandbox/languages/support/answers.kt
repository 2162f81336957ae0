
fun codegen_answer(value: Any?) =
    java.io.File(".answers").appendText(codegen_text(value) + "\n")

fun codegen_text(v: Any?): String = when (v) {
    is Float, is Double -> {
        val n = (v as Number).toDouble()
        if (n == Math.rint(n) && Math.abs(n) < 1e15) n.toLong().toString() else n.toString()
    }
    is Char -> codegen_text(v.toString())
    is String -> v.map { if (it < ' ' || it == '"' || it == '\\') "\\" + it.toInt() + ";" else it }
        .joinToString("", "\"", "\"")
    is Map<*, *> -> v.map { codegen_text(it.key) + ":" + codegen_text(it.value) }.sorted()
        .joinToString(",", "{", "}")
    is Set<*> -> v.map { codegen_text(it) }.sorted().joinToString(",", "[", "]")
    is Iterable<*> -> v.joinToString(",", "[", "]") { codegen_text(it) }
    is Array<*> -> codegen_text(v.asList())
    is IntArray -> codegen_text(v.asList())
    is LongArray -> codegen_text(v.asList())
    is DoubleArray -> codegen_text(v.asList())
    is BooleanArray -> codegen_text(v.asList())
    is CharArray -> codegen_text(v.asList())
    is Pair<*, *> -> "(" + codegen_text(v.first) + "," + codegen_text(v.second) + ")"
    is Triple<*, *, *> -> "(" + codegen_text(v.toList()) + ")"
    else -> v.toString()
}
