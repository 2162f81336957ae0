// Python's view of the kernels. _core.pyi documents each function.
//
// Tensors come as addresses: torch's have no buffer protocol for bfloat16. Shapes and types have
// been checked by the caller (__init__.py). Every function exists once for each instruction set,
// whose name it ends with; SETS names those that this CPU has. The interpreter lock is released.
#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#include <Python.h>

#include <new>

#include "avx2.hpp"
#include "avx512_bf16.hpp"
#include "pass.hpp"

namespace {

// What the templates call, of the functions of a namespace.
#define SET(NAME, NAMESPACE, NUMBER, FUSED, STATE)                                   \
    struct NAME {                                                               \
        using Number = NUMBER;                                                  \
        static constexpr auto norm = NAMESPACE::norm;                           \
        static constexpr auto gate = NAMESPACE::gate;                           \
        static constexpr auto rotate = NAMESPACE::rotate;                       \
        static constexpr auto add = NAMESPACE::add;                             \
        static constexpr auto scratch4 = NAMESPACE::scratch4;                   \
        static constexpr auto prepare4 = NAMESPACE::prepare4<NUMBER>;                 \
        static constexpr auto blocks4 = NAMESPACE::blocks4 FUSED;               \
        static constexpr auto scratch8 = NAMESPACE::scratch8;                   \
        static constexpr auto prepare8 = NAMESPACE::prepare8<NUMBER>;                 \
        static constexpr auto blocks8 = NAMESPACE::blocks8 FUSED;               \
        static constexpr auto blocks_own = NAMESPACE::blocks_own;               \
        static constexpr auto write_states = NAMESPACE::write_states STATE;     \
        static constexpr auto most_queries = NAMESPACE::most_queries;           \
        static constexpr auto attention_scratch = NAMESPACE::attention_scratch; \
        static constexpr auto attend = NAMESPACE::attend STATE;                 \
    }

template <class T>
T* at(unsigned long long address) {
    return reinterpret_cast<T*>(static_cast<uintptr_t>(address));
}

// Calls a kernel without the interpreter lock; None, or MemoryError.
template <class Kernel>
PyObject* unlocked(Kernel kernel) {
    bool enough = true;
    Py_BEGIN_ALLOW_THREADS
    try {
        kernel();
    } catch (const std::bad_alloc&) {
        enough = false;
    }
    Py_END_ALLOW_THREADS
    if (!enough) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

template <class Set>
PyObject* linear(PyObject*, PyObject* args) {
    unsigned long long x, product, y;
    long rows;
    if (!PyArg_ParseTuple(args, "KKKl", &x, &product, &y, &rows)) return nullptr;
    return unlocked([&] {
        thread_local cpu::Room room;
        using Number = typename Set::Number;
        cpu::multiply<Set>(*at<cpu::Product>(product), at<Number>(x), at<Number>(y), rows, room,
                           nullptr);
    });
}

template <class Set>
PyObject* norm(PyObject*, PyObject* args) {
    unsigned long long x, weight, y;
    long rows, size;
    float epsilon;
    if (!PyArg_ParseTuple(args, "KKKllf", &x, &weight, &y, &rows, &size, &epsilon)) return nullptr;
    using Number = typename Set::Number;
    Set::norm(at<Number>(x), at<Number>(weight), at<Number>(y), rows, size, epsilon);
    Py_RETURN_NONE;
}

template <class Set>
PyObject* gate(PyObject*, PyObject* args) {
    unsigned long long x, y;
    long rows, size;
    if (!PyArg_ParseTuple(args, "KKll", &x, &y, &rows, &size)) return nullptr;
    using Number = typename Set::Number;
    Set::gate(at<Number>(x), at<Number>(y), rows, size);
    Py_RETURN_NONE;
}

template <class Set>
PyObject* rotate(PyObject*, PyObject* args) {
    unsigned long long x, cosines, sines;
    long rows, heads, turned, dim;
    if (!PyArg_ParseTuple(args, "KKKllll", &x, &cosines, &sines, &rows, &heads, &turned, &dim))
        return nullptr;
    using Number = typename Set::Number;
    Set::rotate(at<Number>(x), at<Number>(cosines), at<Number>(sines), rows, heads, turned, dim);
    Py_RETURN_NONE;
}

template <class Set>
PyObject* attend(PyObject*, PyObject* args) {
    unsigned long long states, parts, slots, out;
    long count;
    cpu::Heads size{};
    if (!PyArg_ParseTuple(args, "KKKlKlllf", &states, &parts, &slots, &count, &out, &size.heads,
                          &size.kv_heads, &size.dim, &size.scale))
        return nullptr;
    return unlocked([&] {
        using Number = typename Set::Number;
        cpu::attend<Set>(at<Number>(states), at<cpu::Part>(parts), at<cpu::Slots>(slots), count,
                         size, at<Number>(out), nullptr);
    });
}

template <class Set>
PyObject* run(PyObject*, PyObject* args) {
    unsigned long long layers, final_norm, head, x, cosines, sines, parts, slots, kept, logits;
    long count, number, helpers;
    cpu::Model model{};
    if (!PyArg_ParseTuple(args, "KlKKlllllffKKKKKlKlKl", &layers, &model.count, &final_norm, &head,
                          &model.hidden, &model.feed_forward, &model.heads.heads,
                          &model.heads.kv_heads, &model.heads.dim, &model.heads.scale,
                          &model.epsilon, &x, &cosines, &sines, &parts, &slots, &count, &kept,
                          &number, &logits, &helpers))
        return nullptr;
    model.layers = at<cpu::Layer>(layers);
    model.norm = at<void>(final_norm);
    model.head = *at<cpu::Product>(head);
    return unlocked([&] {
        using Number = typename Set::Number;
        cpu::run<Set>(model, at<Number>(x), at<Number>(cosines), at<Number>(sines),
                      at<cpu::Part>(parts), at<cpu::Slots>(slots), count, at<int64_t>(kept),
                      number, at<Number>(logits), helpers);
    });
}

#define FUNCTIONS(NAME, SUFFIX)                                                               \
    {"linear_" SUFFIX, linear<NAME>, METH_VARARGS, "Rows times narrow weights."},             \
    {"norm_" SUFFIX, norm<NAME>, METH_VARARGS, "Root mean square normalization."},            \
    {"gate_" SUFFIX, gate<NAME>, METH_VARARGS, "The gated half of a feed-forward layer."},    \
    {"rotate_" SUFFIX, rotate<NAME>, METH_VARARGS, "Rotary positions."},                      \
    {"attend_" SUFFIX, attend<NAME>, METH_VARARGS, "Attention of few queries over slots."},   \
    {"run_" SUFFIX, run<NAME>, METH_VARARGS, "A forward pass."},
#define WIDE(NAME, SUFFIX) \
    {"run_" SUFFIX "_wide", run<NAME>, METH_VARARGS, "A forward pass with slots in float32."},

#ifdef CPU_AVX2
SET(Avx2, avx2, float, <false>, <uint16_t>);
SET(Avx2Wide, avx2, float, <false>, <float>);
#endif
#ifdef CPU_AVX2_VNNI
SET(Avx2Vnni, avx2, float, <true>, <uint16_t>);
SET(Avx2VnniWide, avx2, float, <true>, <float>);
#endif
#ifdef CPU_AVX512_VNNI
SET(Avx512Vnni, avx512_vnni, float, <float>, <uint16_t>);
SET(Avx512VnniWide, avx512_vnni, float, <float>, <float>);
#endif
#ifdef CPU_AVX512_BF16
SET(Avx512Bf16, avx512_bf16, uint16_t, <uint16_t>, );
#endif

PyMethodDef functions[] = {
#ifdef CPU_AVX2
    FUNCTIONS(Avx2, "avx2") WIDE(Avx2Wide, "avx2")
#endif
#ifdef CPU_AVX2_VNNI
    FUNCTIONS(Avx2Vnni, "avx2_vnni") WIDE(Avx2VnniWide, "avx2_vnni")
#endif
#ifdef CPU_AVX512_VNNI
    FUNCTIONS(Avx512Vnni, "avx512_vnni") WIDE(Avx512VnniWide, "avx512_vnni")
#endif
#ifdef CPU_AVX512_BF16
    FUNCTIONS(Avx512Bf16, "avx512_bf16")
#endif
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef module = {PyModuleDef_HEAD_INIT, "_core", "Products of few rows on a CPU.", -1,
                      functions, nullptr, nullptr, nullptr, nullptr};

bool add_name(PyObject* names, const char* name) {
    PyObject* text = PyUnicode_FromString(name);
    const bool added = text != nullptr && PyList_Append(names, text) == 0;
    Py_XDECREF(text);
    return added;
}

}  // namespace

PyMODINIT_FUNC PyInit__core() {
    PyObject* self = PyModule_Create(&module);
    PyObject* names = PyList_New(0);
    bool right = self != nullptr && names != nullptr;
#ifdef CPU_AVX2
    if (right && avx2::supported()) right = add_name(names, "avx2");
#endif
#ifdef CPU_AVX2_VNNI
    if (right && avx2::fuses()) right = add_name(names, "avx2_vnni");
#endif
#ifdef CPU_AVX512_VNNI
    if (right && avx512_vnni::supported()) right = add_name(names, "avx512_vnni");
#endif
#ifdef CPU_AVX512_BF16
    if (right && avx512_bf16::supported()) right = add_name(names, "avx512_bf16");
#endif
    right = right && PyModule_AddObjectRef(self, "SETS", names) == 0;
    Py_XDECREF(names);
    if (right) return self;
    Py_XDECREF(self);
    return nullptr;
}
