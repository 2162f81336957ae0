// Python's view of order.hpp: the type SuffixIndex. _core.pyi documents each method.
//
// Written against the limited API of CPython 3.11, so that one build serves all later versions. The
// interpreter lock is held throughout: a call takes microseconds, and the lock is what makes one
// index safe to use from several threads. Arguments are converted, which may run Python code,
// before the structure is accessed.
#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#include <Python.h>

#include <cmath>
#include <limits>
#include <string>

#include "order.hpp"

namespace {

using suffix::Order;
using suffix::Token;

PyObject* budget_error = nullptr;

struct Object {
    PyObject_HEAD
    Order* order;
};

Order& order(PyObject* self) { return *reinterpret_cast<Object*>(self)->order; }

// Runs the body; every C++ exception becomes a Python exception.
template <class Body>
PyObject* guarded(const Body& body) {
    try {
        return body();
    } catch (const suffix::UnknownSequence& error) {
        PyErr_SetString(PyExc_KeyError, error.what());
    } catch (const suffix::Finished& error) {
        PyErr_SetString(PyExc_ValueError, error.what());
    } catch (const suffix::OverBudget& error) {
        PyErr_SetString(budget_error, error.what());
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    } catch (const std::length_error&) {
        PyErr_NoMemory();
    } catch (const std::exception& error) {
        PyErr_SetString(PyExc_SystemError, error.what());
    }
    return nullptr;
}

// Tokens given as a buffer of 32- or 64-bit integers (without a copy if they are 32-bit), or as a
// sequence of integers.
class Tokens {
public:
    Tokens() = default;
    Tokens(const Tokens&) = delete;
    Tokens& operator=(const Tokens&) = delete;
    ~Tokens() {
        if (held_) PyBuffer_Release(&view_);
    }
    const Token* data() const { return data_; }
    std::size_t size() const { return size_; }

    bool read(PyObject* object) {
        if (PyList_Check(object) || PyTuple_Check(object)) return read_sequence(object);
        if (PyObject_CheckBuffer(object)) return read_buffer(object);
        if (PyUnicode_Check(object) || !PySequence_Check(object)) {
            PyErr_SetString(PyExc_TypeError,
                            "tokens must be a sequence of integers or an array of int32 or int64");
            return false;
        }
        return read_sequence(object);
    }

private:
    bool read_buffer(PyObject* object) {
        if (PyObject_GetBuffer(object, &view_, PyBUF_CONTIG_RO | PyBUF_FORMAT) != 0) return false;
        held_ = true;
        const char* format = view_.format == nullptr ? "B" : view_.format;
        if (*format == '@' || *format == '=' || *format == '<') ++format;
        const bool integers = std::strlen(format) == 1 && std::strchr("ilq", *format) != nullptr;
        if (view_.ndim != 1 || !integers || (view_.itemsize != 4 && view_.itemsize != 8)) {
            PyErr_SetString(PyExc_TypeError,
                            "an array of tokens must have one dimension and int32 or int64 items");
            return false;
        }
        size_ = static_cast<std::size_t>(view_.len / view_.itemsize);
        if (view_.itemsize == 8) {
            const auto* wide = static_cast<const std::int64_t*>(view_.buf);
            copy_.resize(size_);
            for (std::size_t i = 0; i < size_; ++i) {
                if (wide[i] < 0 || wide[i] > std::numeric_limits<Token>::max())
                    return refuse(static_cast<long long>(wide[i]));
                copy_[i] = static_cast<Token>(wide[i]);
            }
            data_ = copy_.data();
            return true;
        }
        data_ = static_cast<const Token*>(view_.buf);
        Token signs = 0;
        for (std::size_t i = 0; i < size_; ++i) signs |= data_[i];
        if (signs >= 0) return true;
        return refuse(*std::find_if(data_, data_ + size_, [](Token t) { return t < 0; }));
    }

    bool read_sequence(PyObject* object) {
        const bool list = PyList_Check(object);
        const Py_ssize_t size = PySequence_Size(object);
        if (size < 0) return false;
        copy_.reserve(static_cast<std::size_t>(size));
        for (Py_ssize_t i = 0; i < (list ? PyList_Size(object) : size); ++i) {
            PyObject* item = PySequence_GetItem(object, i);
            if (item == nullptr) return false;
            long long value = 0;
            const bool good = read_integer(item, &value);
            Py_DECREF(item);
            if (!good) return false;
            copy_.push_back(static_cast<Token>(value));
        }
        data_ = copy_.data();
        size_ = copy_.size();
        return true;
    }

    static bool read_integer(PyObject* item, long long* value) {
        int overflow = 0;
        if (PyLong_Check(item)) {
            *value = PyLong_AsLongLongAndOverflow(item, &overflow);
        } else {
            PyObject* index = PyNumber_Index(item);
            if (index == nullptr) return false;
            *value = PyLong_AsLongLongAndOverflow(index, &overflow);
            Py_DECREF(index);
        }
        if (overflow != 0) *value = overflow < 0 ? -1 : std::numeric_limits<long long>::max();
        if (*value == -1 && overflow == 0 && PyErr_Occurred() != nullptr) return false;
        if (*value < 0 || *value > std::numeric_limits<Token>::max()) return refuse(*value);
        return true;
    }

    static bool refuse(long long value) {
        PyErr_Format(PyExc_ValueError, "token id %lld is not in 0 .. 2147483647", value);
        return false;
    }

    Py_buffer view_{};
    bool held_ = false;
    std::vector<Token> copy_;
    const Token* data_ = nullptr;
    std::size_t size_ = 0;
};

bool read_id(PyObject* object, std::uint64_t* id) {
    PyObject* index = PyNumber_Index(object);
    if (index == nullptr) return false;
    *id = PyLong_AsUnsignedLongLong(index);
    Py_DECREF(index);
    if (PyErr_Occurred() == nullptr) return true;
    if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
        PyErr_Clear();
        PyErr_SetString(PyExc_KeyError, "unknown sequence");
    }
    return false;
}

// --- life and death ------------------------------------------------------------------------------

PyObject* create(PyTypeObject* type, PyObject* args, PyObject* keywords) {
    static const char* names[] = {"budget", nullptr};
    PyObject* given = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O:SuffixIndex", const_cast<char**>(names),
                                     &given))
        return nullptr;
    std::uint64_t budget = 0;
    if (given != Py_None) {
        PyObject* index = PyNumber_Index(given);
        if (index == nullptr) return nullptr;
        const long long value = PyLong_AsLongLong(index);
        Py_DECREF(index);
        if (PyErr_Occurred() != nullptr) return nullptr;
        if (value <= static_cast<long long>(suffix::kOverhead)) {
            PyErr_Format(PyExc_ValueError, "budget is %lld; it must be above %d", value,
                         static_cast<int>(suffix::kOverhead));
            return nullptr;
        }
        budget = static_cast<std::uint64_t>(value);
    }
    auto* allocate = reinterpret_cast<allocfunc>(PyType_GetSlot(type, Py_tp_alloc));
    PyObject* self = allocate(type, 0);
    if (self == nullptr) return nullptr;
    reinterpret_cast<Object*>(self)->order = new (std::nothrow) Order(budget);
    if (reinterpret_cast<Object*>(self)->order == nullptr) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return self;
}

void destroy(PyObject* self) {
    PyTypeObject* type = Py_TYPE(self);
    delete reinterpret_cast<Object*>(self)->order;
    auto* release = reinterpret_cast<freefunc>(PyType_GetSlot(type, Py_tp_free));
    release(self);
    Py_DECREF(type);
}

// --- sequences -----------------------------------------------------------------------------------

PyObject* start(PyObject* self, PyObject*) {
    return guarded([&] { return PyLong_FromUnsignedLongLong(order(self).start()); });
}

PyObject* append(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "append takes a sequence and tokens");
        return nullptr;
    }
    std::uint64_t id = 0;
    Tokens tokens;
    if (!read_id(args[0], &id) || !tokens.read(args[1])) return nullptr;
    return guarded([&] {
        order(self).append(id, tokens.data(), tokens.size());
        Py_INCREF(Py_None);
        return Py_None;
    });
}

PyObject* add(PyObject* self, PyObject* object) {
    Tokens tokens;
    if (!tokens.read(object)) return nullptr;
    return guarded([&] {
        return PyLong_FromUnsignedLongLong(order(self).add(tokens.data(), tokens.size()));
    });
}

PyObject* oldest(PyObject* self, PyObject*) {
    return guarded([&] {
        const std::uint64_t id = order(self).oldest();
        if (id != 0) return PyLong_FromUnsignedLongLong(id);
        Py_INCREF(Py_None);
        return Py_None;
    });
}

PyObject* finish(PyObject* self, PyObject* object) {
    std::uint64_t id = 0;
    if (!read_id(object, &id)) return nullptr;
    return guarded([&] {
        order(self).finish(id);
        Py_INCREF(Py_None);
        return Py_None;
    });
}

PyObject* remove(PyObject* self, PyObject* object) {
    std::uint64_t id = 0;
    if (!read_id(object, &id)) return nullptr;
    return guarded([&] {
        order(self).remove(id);
        Py_INCREF(Py_None);
        return Py_None;
    });
}

PyObject* is_finished(PyObject* self, PyObject* object) {
    std::uint64_t id = 0;
    if (!read_id(object, &id)) return nullptr;
    return guarded([&] { return PyBool_FromLong(order(self).is_finished(id)); });
}

template <class Items, class Convert>
PyObject* to_list(const Items& items, const Convert& convert) {
    PyObject* list = PyList_New(static_cast<Py_ssize_t>(items.size()));
    if (list == nullptr) return nullptr;
    for (std::size_t i = 0; i < items.size(); ++i) {
        PyObject* item = convert(items[i]);
        if (item == nullptr) {
            Py_DECREF(list);
            return nullptr;
        }
        PyList_SetItem(list, static_cast<Py_ssize_t>(i), item);
    }
    return list;
}

PyObject* text(PyObject* self, PyObject* object) {
    std::uint64_t id = 0;
    if (!read_id(object, &id)) return nullptr;
    return guarded([&] {
        return to_list(order(self).text(id), [](Token t) { return PyLong_FromLong(t); });
    });
}

PyObject* sequences(PyObject* self, PyObject*) {
    return guarded([&] {
        return to_list(order(self).ids(),
                       [](std::uint64_t id) { return PyLong_FromUnsignedLongLong(id); });
    });
}

// --- questions -----------------------------------------------------------------------------------

PyObject* count(PyObject* self, PyObject* object) {
    Tokens tokens;
    if (!tokens.read(object)) return nullptr;
    return guarded([&] {
        return PyLong_FromUnsignedLongLong(order(self).count(tokens.data(), tokens.size()));
    });
}

PyObject* match(PyObject* self, PyObject* object) {
    Tokens tokens;
    if (!tokens.read(object)) return nullptr;
    return guarded([&] {
        return PyLong_FromUnsignedLongLong(order(self).match(tokens.data(), tokens.size()));
    });
}

bool read_options(PyObject* args, PyObject* keywords, PyObject** subject,
                  suffix::DraftOptions* options) {
    static const char* names[] = {"",     "limit",  "factor",    "offset",    "min_probability",
                                  "tree", "sample", "min_match", "max_match", nullptr};
    int tree = 0;
    long long limit = static_cast<long long>(options->limit);
    long long sample = static_cast<long long>(options->sample);
    long long min_match = static_cast<long long>(options->min_match);
    long long max_match = static_cast<long long>(options->max_match);
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|LdddpLLL", const_cast<char**>(names),
                                     subject, &limit, &options->factor, &options->offset,
                                     &options->min_probability, &tree, &sample, &min_match,
                                     &max_match))
        return false;
    const char* wrong = nullptr;
    if (limit < 0 || limit > (1 << 20)) wrong = "limit must be in 0 .. 2**20";
    if (!(options->factor >= 0) || !std::isfinite(options->factor)) wrong = "factor must be at least 0";
    if (!std::isfinite(options->offset)) wrong = "offset must be finite";
    if (!(options->min_probability >= 0 && options->min_probability <= 1))
        wrong = "min_probability must be in 0 .. 1";
    if (sample < 1 || sample > (1 << 20)) wrong = "sample must be in 1 .. 2**20";
    if (min_match < 1) wrong = "min_match must be at least 1";
    if (max_match < 1) wrong = "max_match must be at least 1";
    if (wrong != nullptr) {
        PyErr_SetString(PyExc_ValueError, wrong);
        return false;
    }
    options->limit = static_cast<std::uint64_t>(limit);
    options->tree = tree != 0;
    options->sample = static_cast<std::uint64_t>(sample);
    options->min_match = static_cast<std::uint64_t>(min_match);
    options->max_match = static_cast<std::uint64_t>(max_match);
    return true;
}

PyObject* to_tuple(const suffix::Draft& draft) {
    PyObject* tokens = to_list(draft.tokens, [](Token t) { return PyLong_FromLong(t); });
    PyObject* parents = to_list(draft.parents, [](std::int32_t p) { return PyLong_FromLong(p); });
    PyObject* chances =
        to_list(draft.probabilities, [](double p) { return PyFloat_FromDouble(p); });
    if (tokens == nullptr || parents == nullptr || chances == nullptr) {
        Py_XDECREF(tokens);
        Py_XDECREF(parents);
        Py_XDECREF(chances);
        return nullptr;
    }
    return Py_BuildValue("(NNNdK)", tokens, parents, chances, draft.score,
                         static_cast<unsigned long long>(draft.match));
}

PyObject* draft(PyObject* self, PyObject* args, PyObject* keywords) {
    PyObject* subject = nullptr;
    suffix::DraftOptions options;
    Tokens tokens;
    if (!read_options(args, keywords, &subject, &options) || !tokens.read(subject)) return nullptr;
    return guarded(
        [&] { return to_tuple(order(self).draft(tokens.data(), tokens.size(), options)); });
}

PyObject* draft_after(PyObject* self, PyObject* args, PyObject* keywords) {
    PyObject* subject = nullptr;
    suffix::DraftOptions options;
    std::uint64_t id = 0;
    if (!read_options(args, keywords, &subject, &options) || !read_id(subject, &id)) return nullptr;
    return guarded([&] { return to_tuple(order(self).draft_after(id, options)); });
}

PyObject* check(PyObject* self, PyObject*) {
    return guarded([&] {
        order(self).check();
        Py_INCREF(Py_None);
        return Py_None;
    });
}

Py_ssize_t length(PyObject* self) { return static_cast<Py_ssize_t>(order(self).tokens()); }

PyObject* get_billed(PyObject* self, void*) {
    return PyLong_FromUnsignedLongLong(order(self).billed());
}

PyObject* get_bytes(PyObject* self, void*) {
    return PyLong_FromSize_t(sizeof(Order) + order(self).bytes());
}

PyObject* get_budget(PyObject* self, void*) {
    if (order(self).budget() != 0) return PyLong_FromUnsignedLongLong(order(self).budget());
    Py_INCREF(Py_None);
    return Py_None;
}

template <class Function>
PyCFunction method(Function function) {
    return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

PyMethodDef methods[] = {
    {"start", start, METH_NOARGS, "Begins a sequence that will grow; returns its id."},
    {"append", method(append), METH_FASTCALL, "Appends tokens to a sequence."},
    {"add", add, METH_O, "Stores a finished sequence; returns its id."},
    {"finish", finish, METH_O, "Ends a sequence: it may be evicted from now on."},
    {"oldest", oldest, METH_NOARGS, "The sequence that is evicted next."},
    {"remove", remove, METH_O, "Takes a sequence out."},
    {"is_finished", is_finished, METH_O, "Whether a sequence has ended."},
    {"text", text, METH_O, "A sequence's tokens."},
    {"sequences", sequences, METH_NOARGS, "The ids of the stored sequences, oldest first."},
    {"count", count, METH_O, "How often a text occurs."},
    {"match", match, METH_O, "The length of the longest suffix of a context that occurs."},
    {"draft", method(draft), METH_VARARGS | METH_KEYWORDS, "A draft of what follows a context."},
    {"draft_after", method(draft_after), METH_VARARGS | METH_KEYWORDS,
     "A draft of what follows a stored sequence."},
    {"check", check, METH_NOARGS, "Checks all invariants."},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef properties[] = {
    {"billed", get_billed, nullptr, "Tokens that count against the budget.", nullptr},
    {"nbytes", get_bytes, nullptr, "Bytes of memory reserved.", nullptr},
    {"budget", get_budget, nullptr, "The budget, None for none.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char*>("Token sequences in suffix order; see _core.pyi.")},
    {Py_tp_new, reinterpret_cast<void*>(create)},
    {Py_tp_dealloc, reinterpret_cast<void*>(destroy)},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {Py_sq_length, reinterpret_cast<void*>(length)},
    {0, nullptr},
};

PyType_Spec spec = {"codegen.decoding.suffix._core.SuffixIndex", sizeof(Object), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, slots};

PyModuleDef module = {PyModuleDef_HEAD_INIT, "_core", "The compiled suffix structure.", -1,
                      nullptr, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__core() {
    PyObject* self = PyModule_Create(&module);
    if (self == nullptr) return nullptr;
    // Kept for the life of the process: the methods raise it.
    PyObject* errors = PyImport_ImportModule("codegen.decoding.suffix.plain");
    if (errors == nullptr) {
        Py_DECREF(self);
        return nullptr;
    }
    budget_error = PyObject_GetAttrString(errors, "BudgetError");
    Py_DECREF(errors);
    PyObject* type = budget_error == nullptr ? nullptr : PyType_FromSpec(&spec);
    if (type == nullptr || PyModule_AddObjectRef(self, "SuffixIndex", type) != 0) {
        Py_XDECREF(type);
        Py_DECREF(self);
        return nullptr;
    }
    Py_DECREF(type);
    return self;
}
