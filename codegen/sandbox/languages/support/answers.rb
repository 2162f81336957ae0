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
