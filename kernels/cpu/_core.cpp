// Python's view of few_rows.hpp. See _core.pyi for what each function does.
//
// Tensors come as addresses: torch's have no buffer protocol for bfloat16. Shapes and types have
// been checked by the caller (__init__.py). The interpreter lock is released where it takes long.
#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#include <Python.h>

#include <memory>
#include <new>

#include "few_rows.hpp"

namespace {

// Room for numbers, kept by each thread for its next call.
float* scratch(long numbers) {
    thread_local std::unique_ptr<float[]> room;
    thread_local long size = 0;
    if (numbers > size) {
        room.reset();
        size = 0;
        room.reset(new (std::nothrow) float[static_cast<size_t>(numbers)]);
        if (!room) return nullptr;
        size = numbers;
    }
    return room.get();
}

template <class T>
T* at(unsigned long long address) {
    return reinterpret_cast<T*>(static_cast<uintptr_t>(address));
}

PyObject* linear4(PyObject*, PyObject* args) {
    unsigned long long x, weights, y;
    long rows, outputs, inputs;
    if (!PyArg_ParseTuple(args, "KKKlll", &x, &weights, &y, &rows, &outputs, &inputs))
        return nullptr;
    float* room = scratch(rows * (inputs / few::group));
    if (room == nullptr) return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS
    few::linear4(at<uint16_t>(x), at<uint8_t>(weights), at<uint16_t>(y), rows, outputs, inputs,
                 room);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

PyObject* linear8(PyObject*, PyObject* args) {
    unsigned long long x, weights, scales, y;
    long rows, outputs, inputs;
    if (!PyArg_ParseTuple(args, "KKKKlll", &x, &weights, &scales, &y, &rows, &outputs, &inputs))
        return nullptr;
    float* room = scratch(rows * inputs);
    if (room == nullptr) return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS
    few::linear8(at<uint16_t>(x), at<int8_t>(weights), at<float>(scales), at<uint16_t>(y), rows,
                 outputs, inputs, room);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

PyObject* norm(PyObject*, PyObject* args) {
    unsigned long long x, weight, y;
    long rows, width;
    float epsilon;
    if (!PyArg_ParseTuple(args, "KKKllf", &x, &weight, &y, &rows, &width, &epsilon)) return nullptr;
    few::norm(at<uint16_t>(x), at<uint16_t>(weight), at<uint16_t>(y), rows, width, epsilon);
    Py_RETURN_NONE;
}

PyObject* gate(PyObject*, PyObject* args) {
    unsigned long long x, y;
    long rows, width;
    if (!PyArg_ParseTuple(args, "KKll", &x, &y, &rows, &width)) return nullptr;
    few::gate(at<uint16_t>(x), at<uint16_t>(y), rows, width);
    Py_RETURN_NONE;
}

PyObject* rotate(PyObject*, PyObject* args) {
    unsigned long long x, cosines, sines;
    long rows, heads, turned, dim;
    if (!PyArg_ParseTuple(args, "KKKllll", &x, &cosines, &sines, &rows, &heads, &turned, &dim))
        return nullptr;
    few::rotate(at<uint16_t>(x), at<uint16_t>(cosines), at<uint16_t>(sines), rows, heads, turned,
                dim);
    Py_RETURN_NONE;
}

PyObject* attend(PyObject*, PyObject* args) {
    unsigned long long queries, keys, values, cells, places, out;
    few::Attention a{};
    if (!PyArg_ParseTuple(args, "KKKKKKllllllf", &queries, &keys, &values, &cells, &places, &out,
                          &a.count, &a.heads, &a.kv_heads, &a.dim, &a.capacity, &a.query_stride,
                          &a.scale))
        return nullptr;
    a.queries = at<uint16_t>(queries);
    a.keys = at<uint16_t>(keys);
    a.values = at<uint16_t>(values);
    a.cells = at<int64_t>(cells);
    a.places = at<int64_t>(places);
    a.out = at<uint16_t>(out);
    float* room = scratch(few::attention_scratch(a));
    if (room == nullptr) return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS
    few::attend(a, room);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

PyMethodDef functions[] = {
    {"linear4", linear4, METH_VARARGS, "Rows times weights of four bits."},
    {"linear8", linear8, METH_VARARGS, "Rows times weights of eight bits."},
    {"norm", norm, METH_VARARGS, "Root mean square normalisation."},
    {"gate", gate, METH_VARARGS, "The gated half of a feed-forward layer."},
    {"rotate", rotate, METH_VARARGS, "Rotary positions."},
    {"attend", attend, METH_VARARGS, "Attention of few queries over cells."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef module = {PyModuleDef_HEAD_INIT, "_core", "Products of few rows on a CPU.", -1,
                      functions, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__core() {
    PyObject* self = PyModule_Create(&module);
    if (self == nullptr) return nullptr;
    PyObject* supported = few::supported() ? Py_True : Py_False;
    if (PyModule_AddObjectRef(self, "SUPPORTED", supported) != 0) {
        Py_DECREF(self);
        return nullptr;
    }
    return self;
}
