#ifndef CODEGEN_ANSWERS
#define CODEGEN_ANSWERS
#include <bits/stdc++.h>
namespace codegen {
template <typename T, typename = void> struct Text;
template <typename T> std::string text(const T& value) { return Text<T>::of(value); }
inline std::string quoted(const std::string& value) {
  std::ostringstream out;
  out << '"' << std::hex;
  for (unsigned char c : value)
    if (c < 32 || c == '"' || c == '\\') out << '\\' << static_cast<int>(c) << ';';
    else out << c;
  return out.str() + '"';
}
template <typename T> std::string joined(const T& items, const char* ends, bool sorted = false) {
  std::vector<std::string> parts;
  for (const auto& item : items) parts.push_back(text<std::decay_t<decltype(item)>>(item));
  if (sorted) std::sort(parts.begin(), parts.end());
  std::string all(1, ends[0]);
  for (const auto& part : parts) all += part + ",";
  return all + ends[1];
}
template <typename T> struct Text<T, std::enable_if_t<std::is_integral_v<T>>> {
  static std::string of(T value) { return std::to_string(value); }
};
template <typename T> struct Text<T, std::enable_if_t<std::is_floating_point_v<T>>> {
  static std::string of(T value) {
    char buffer[64];
    const double number = static_cast<double>(value);
    if (number == std::floor(number) && std::fabs(number) < 1e15)
      std::snprintf(buffer, sizeof buffer, "%.0f", number + 0.0);
    else
      std::snprintf(buffer, sizeof buffer, "%.17g", number);
    return std::string(buffer) == "-0" ? "0" : buffer;
  }
};
template <> struct Text<std::string> {
  static std::string of(const std::string& value) { return quoted(value); }
};
template <> struct Text<const char*> {
  static std::string of(const char* value) { return quoted(value); }
};
template <> struct Text<std::nullopt_t> {
  static std::string of(std::nullopt_t) { return "null"; }
};
template <typename T> struct Text<std::optional<T>> {
  static std::string of(const std::optional<T>& value) { return value ? text(*value) : "null"; }
};
template <typename A, typename B> struct Text<std::pair<A, B>> {
  static std::string of(const std::pair<A, B>& v) {
    return "(" + text<std::decay_t<A>>(v.first) + "," + text<std::decay_t<B>>(v.second) + ",)";
  }
};
template <typename... Ts> struct Text<std::tuple<Ts...>> {
  static std::string of(const std::tuple<Ts...>& value) {
    return std::apply([](const auto&... v) { return "(" + (("" + text(v) + ",") + ... + ")"); },
                      value);
  }
};
template <typename T, typename A> struct Text<std::vector<T, A>> {
  static std::string of(const std::vector<T, A>& value) {
    if constexpr (std::is_same_v<T, bool>)
      return joined(std::vector<int>(value.begin(), value.end()), "[]");
    else
      return joined(value, "[]");
  }
};
template <typename K, typename V, typename C, typename A> struct Text<std::map<K, V, C, A>> {
  static std::string of(const std::map<K, V, C, A>& v) { return joined(v, "{}", true); }
};
template <typename K, typename V, typename H, typename E, typename A>
struct Text<std::unordered_map<K, V, H, E, A>> {
  static std::string of(const std::unordered_map<K, V, H, E, A>& v) {
    return joined(v, "{}", true);
  }
};
template <typename T, typename C, typename A> struct Text<std::set<T, C, A>> {
  static std::string of(const std::set<T, C, A>& v) { return joined(v, "{}", true); }
};
}  // namespace codegen
template <typename T> void codegen_answer(const T& value) {
  std::ofstream(".answers", std::ios::app)
      << codegen::text<std::decay_t<const T>>(value) << std::endl;
}
#endif
