/* What page_reader.c asks of texts: whether they hold a word or only white space, and of lists of them. */
#ifndef CARAVAN_PAGE_TEXTS_H
#define CARAVAN_PAGE_TEXTS_H
#include <Python.h>

enum { MAX_HINTS = 8 };

/* Lower-case ASCII words of which a value must hold one, in either case, to be worth a call; `begins` marks their first characters. */
typedef struct {
    const char *words[MAX_HINTS];
    int n;
    char begins[128];
} Hints;

/* Where a line is put together. */
typedef struct {
    Py_UCS4 *codes;
    Py_ssize_t room;
} Scratch;

/* Reads a tuple of words, which has to outlive the hints. */
static int set_hints(Hints *hints, PyObject *words) {
    *hints = (Hints){0};
    if (!PyTuple_Check(words) || PyTuple_GET_SIZE(words) > MAX_HINTS) {
        PyErr_Format(PyExc_ValueError, "hints are tuples of at most %d words", MAX_HINTS);
        return -1;
    }
    for (; hints->n < PyTuple_GET_SIZE(words); hints->n++) {
        const char *word = PyUnicode_AsUTF8(PyTuple_GET_ITEM(words, hints->n));
        if (!word) return -1;
        for (Py_ssize_t i = 0; i == 0 || word[i]; i++) {
            if (word[i] > 0 && !(word[i] >= 'A' && word[i] <= 'Z')) continue;
            PyErr_SetString(PyExc_ValueError, "a hint is a word of ASCII in lower case");
            return -1;
        }
        hints->words[hints->n] = word;
        hints->begins[(int)word[0]] = 1;
        if (word[0] >= 'a' && word[0] <= 'z') hints->begins[word[0] - 32] = 1;
    }
    return 0;
}

static int begins_with(int kind, const void *data, Py_ssize_t length, const char *word) {
    for (Py_ssize_t i = 0; word[i]; i++) {
        if (i == length) return 0;
        Py_UCS4 code = PyUnicode_READ(kind, data, i);
        if ((code >= 'A' && code <= 'Z' ? code + 32 : code) != (Py_UCS4)word[i]) return 0;
    }
    return 1;
}

static int holds_hint(const Hints *hints, PyObject *text) {
    int kind = PyUnicode_KIND(text);
    const char *data = PyUnicode_DATA(text);
    Py_ssize_t length = PyUnicode_GET_LENGTH(text);
    for (Py_ssize_t at = 0; at < length; at++) {
        Py_UCS4 code = PyUnicode_READ(kind, data, at);
        if (code >= 128 || !hints->begins[code]) continue;
        for (int word = 0; word < hints->n; word++)
            if (begins_with(kind, data + at * kind, length - at, hints->words[word])) return 1;
    }
    return 0;
}

/* As str.isspace. */
static int is_space(PyObject *text) {
    int kind = PyUnicode_KIND(text);
    const void *data = PyUnicode_DATA(text);
    Py_ssize_t length = PyUnicode_GET_LENGTH(text);
    for (Py_ssize_t at = 0; at < length; at++)
        if (!Py_UNICODE_ISSPACE(PyUnicode_READ(kind, data, at))) return 0;
    return length > 0;
}

static int clear_list(PyObject *list) { return PyList_GET_SIZE(list) ? PyList_SetSlice(list, 0, PyList_GET_SIZE(list), NULL) : 0; }

/* Appends a new reference, which may be NULL with an error set, and gives it up. */
static int append_new(PyObject *list, PyObject *item) {
    int failed = !item || PyList_Append(list, item) < 0;
    Py_XDECREF(item);
    return failed ? -1 : 0;
}

/* The strings of a list, joined; the string itself where it is one. */
static PyObject *joined(PyObject *separator, PyObject *list) {
    if (PyList_GET_SIZE(list) == 1 && PyUnicode_CheckExact(PyList_GET_ITEM(list, 0))) return Py_NewRef(PyList_GET_ITEM(list, 0));
    return PyUnicode_Join(separator, list);
}

/* `names`, a space, and the value. */
static PyObject *with_name(PyObject *names, PyObject *value) {
    Py_ssize_t n = PyUnicode_GET_LENGTH(names), length = PyUnicode_GET_LENGTH(value);
    Py_UCS4 of_names = PyUnicode_MAX_CHAR_VALUE(names), of_value = PyUnicode_MAX_CHAR_VALUE(value);
    PyObject *result = length < PY_SSIZE_T_MAX - n ? PyUnicode_New(n + 1 + length, of_names > of_value ? of_names : of_value) : PyErr_NoMemory();
    if (!result) return NULL;
    PyUnicode_WRITE(PyUnicode_KIND(result), PyUnicode_DATA(result), n, ' ');
    if (PyUnicode_CopyCharacters(result, 0, names, 0, n) < 0 || PyUnicode_CopyCharacters(result, n + 1, value, 0, length) < 0) Py_CLEAR(result);
    return result;
}

/* " ".join("".join(pieces).split()). */
static PyObject *collapsed(PyObject *pieces, Scratch *scratch) {
    Py_ssize_t total = 0, n = 0, n_pieces = PyList_GET_SIZE(pieces);
    for (Py_ssize_t i = 0; i < n_pieces; i++) {
        PyObject *piece = PyList_GET_ITEM(pieces, i);
        if (!PyUnicode_Check(piece)) {
            PyErr_SetString(PyExc_TypeError, "pieces is a list of str");
            return NULL;
        }
        if (PyUnicode_GET_LENGTH(piece) > PY_SSIZE_T_MAX / 4 - total) return PyErr_NoMemory();
        total += PyUnicode_GET_LENGTH(piece);
    }
    if (total > scratch->room) {
        Py_UCS4 *codes = PyMem_Realloc(scratch->codes, total * sizeof *codes);
        if (!codes) return PyErr_NoMemory();
        scratch->codes = codes, scratch->room = total;
    }
    int is_apart = 0; /* white space came since the last other character */
    for (Py_ssize_t i = 0; i < n_pieces; i++) {
        PyObject *piece = PyList_GET_ITEM(pieces, i);
        int kind = PyUnicode_KIND(piece);
        const void *data = PyUnicode_DATA(piece);
        Py_ssize_t length = PyUnicode_GET_LENGTH(piece);
        for (Py_ssize_t at = 0; at < length; at++) {
            Py_UCS4 code = PyUnicode_READ(kind, data, at);
            if (Py_UNICODE_ISSPACE(code)) {
                is_apart = n > 0;
                continue;
            }
            if (is_apart) scratch->codes[n++] = ' ';
            scratch->codes[n++] = code, is_apart = 0;
        }
    }
    return PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, scratch->codes, n);
}

#endif
