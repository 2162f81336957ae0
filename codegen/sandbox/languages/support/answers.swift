
import Glibc

func codegen_write(_ text: String, _ mode: String) {
    guard let file = fopen(".answers", mode) else { fatalError("no answers") }
    fputs(text, file)
    fclose(file)
}

func codegen_answer(_ value: Any?) { codegen_write(codegen_text(value as Any) + "\n", "a") }
func codegen_answer(_ value: [Any]) { codegen_write(codegen_text(value) + "\n", "a") }
func codegen_answer(_ value: [AnyHashable: Any]) { codegen_write(codegen_text(value) + "\n", "a") }

func codegen_text(_ v: Any) -> String {
    if let n = v as? Double { return codegen_number(n) }
    if let n = v as? Float { return codegen_number(Double(n)) }
    if v is String || v is Character {
        return "\"" + "\(v)".unicodeScalars.map {
            $0.value < 32 || $0 == "\"" || $0 == "\\" ? "\\\($0.value);" : String($0)
        }.joined() + "\""
    }
    let mirror = Mirror(reflecting: v)
    let parts = mirror.children.map { codegen_text($0.value) }
    switch mirror.displayStyle {
    case .optional: return parts.first ?? "nil"
    case .collection: return "[" + parts.joined(separator: ",") + "]"
    case .set: return "[" + parts.sorted().joined(separator: ",") + "]"
    case .dictionary: return "{" + parts.sorted().joined(separator: ",") + "}"
    case .tuple: return "(" + parts.joined(separator: ",") + ")"
    default: return "\(v)"
    }
}

func codegen_number(_ n: Double) -> String {
    return n == n.rounded() && abs(n) < 1e15 ? "\(Int(n))" : "\(n)"
}
