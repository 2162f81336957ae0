// The part of Catch 2 that tests of exercises use. It comes after the program, and then the tests.
#include <cmath>
#include <exception>
#include <functional>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace codegen_catch {
struct Case {
    std::string name;
    std::function<void()> run;
};
inline std::vector<Case>& cases() {
    static std::vector<Case> all;
    return all;
}
inline int& failures() {
    static int count = 0;
    return count;
}
struct Add {
    Add(const char* name, const char*, std::function<void()> run) { cases().push_back({name, run}); }
    Add(const char* name, std::function<void()> run) { cases().push_back({name, run}); }
};
struct Failed {};
inline void check(bool right, const char* text, bool ends) {
    if (right) return;
    ++failures();
    std::cerr << "  " << text << "\n";
    if (ends) throw Failed();
}
inline int run_all() {
    int failed = 0;
    for (auto& one : cases()) {
        int before = failures();
        try {
            one.run();
        } catch (const Failed&) {
        } catch (const std::exception& error) {
            ++failures();
            std::cerr << "  unexpected exception: " << error.what() << "\n";
        } catch (...) {
            ++failures();
            std::cerr << "  unexpected exception\n";
        }
        if (failures() > before) {
            ++failed;
            std::cerr << "FAILED " << one.name << "\n";
        }
    }
    if (failed) std::cerr << failed << " of " << cases().size() << " tests failed\n";
    return failed || cases().empty();
}
}  // namespace codegen_catch

namespace Catch {
template <typename T>
struct MatcherBase {
    virtual ~MatcherBase() = default;
    virtual bool match(const T& value) const = 0;
    virtual std::string describe() const { return ""; }
};
namespace Matchers {
struct WithinAbs {
    double target, margin;
    WithinAbs(double target, double margin) : target(target), margin(margin) {}
    bool match(double value) const { return std::fabs(value - target) <= margin; }
};
}  // namespace Matchers
}  // namespace Catch

#define CODEGEN_GLUE_(a, b) a##b
#define CODEGEN_GLUE(a, b) CODEGEN_GLUE_(a, b)
#define CODEGEN_CASE(name, ...)                                                              \
    static void name();                                                                      \
    static codegen_catch::Add CODEGEN_GLUE(name, _added)(__VA_ARGS__, name);                 \
    static void name()
#define TEST_CASE(...) CODEGEN_CASE(CODEGEN_GLUE(codegen_case_, __COUNTER__), __VA_ARGS__)
#define SECTION(...) if (true)
#define INFO(...)                       \
    do {                                \
        std::ostringstream codegen_out; \
        codegen_out << __VA_ARGS__;     \
    } while (false)
#define CATCH_REGISTER_ENUM(...)
#define CODEGEN_THROWS(kind, ends, text, ...)                                                \
    do {                                                                                     \
        bool codegen_thrown = false;                                                         \
        try {                                                                                \
            (void)(__VA_ARGS__);                                                             \
        } catch (kind) {                                                                     \
            codegen_thrown = true;                                                           \
        }                                                                                    \
        codegen_catch::check(codegen_thrown, text, ends);                                    \
    } while (false)
#define REQUIRE(...) codegen_catch::check(bool(__VA_ARGS__), "REQUIRE(" #__VA_ARGS__ ")", true)
#define CHECK(...) codegen_catch::check(bool(__VA_ARGS__), "CHECK(" #__VA_ARGS__ ")", false)
#define REQUIRE_FALSE(...) \
    codegen_catch::check(!(__VA_ARGS__), "REQUIRE_FALSE(" #__VA_ARGS__ ")", true)
#define CHECK_FALSE(...) codegen_catch::check(!(__VA_ARGS__), "CHECK_FALSE(" #__VA_ARGS__ ")", false)
#define REQUIRE_THROWS_AS(call, kind) \
    CODEGEN_THROWS(const kind&, true, "REQUIRE_THROWS_AS(" #call ", " #kind ")", call)
#define CHECK_THROWS_AS(call, kind) \
    CODEGEN_THROWS(const kind&, false, "CHECK_THROWS_AS(" #call ", " #kind ")", call)
#define REQUIRE_THROWS(...) CODEGEN_THROWS(..., true, "REQUIRE_THROWS(" #__VA_ARGS__ ")", __VA_ARGS__)
#define REQUIRE_NOTHROW(...) ((void)(__VA_ARGS__))
#define REQUIRE_THAT(value, ...)                                  \
    codegen_catch::check(                                         \
        (__VA_ARGS__).match(value), "REQUIRE_THAT(" #value ", " #__VA_ARGS__ ")", true)
#define CHECK_THAT(value, ...)                                    \
    codegen_catch::check(                                         \
        (__VA_ARGS__).match(value), "CHECK_THAT(" #value ", " #__VA_ARGS__ ")", false)
#define EXERCISM_RUN_ALL_TESTS
