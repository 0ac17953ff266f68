/* Collects the blocks of a page from a parser's events. Types and meaning: page_reader.pyi.
 *
 * What happens at nearly every event is here; what a page seldom holds (formulas, form controls, raised text) is left to methods of a
 * subclass in Python, which sees and changes the reader's state through its members. Which tags and attributes are which, and which values
 * are worth such a call, comes from Python too, so that it is said in one place.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>

#include "page_texts.h"

/* Kinds of tags: a tag without one is BLOCK. Those from LIST on also change the place of the blocks inside. */
enum { BLOCK, ROOT, INLINE, LINK, IMAGE, RARE_INLINE, SKIPPED, SCRIPT, RARE_SKIPPED, LINE_BREAK, READING, LIST, TABLE, ROW, CELL, PRE };
enum { OTHER, NAME, HIDDEN, STYLE }; /* kinds of attributes */
enum { STYLE_HINTS, NAME_HINTS, SCRIPT_HINTS, IMAGE_HINTS, N_HINTS };
enum { START_RARE, END_RARE, START_SKIPPED, START_ASIDE, END_ASIDE, ASIDE_CHARACTERS, HIDES, IS_RENDERED_MATH, REFUSE, N_CALLS };

static const char *const call_names[N_CALLS] = {
    "start_rare", "end_rare", "start_skipped", "start_aside", "end_aside", "aside_characters", "hides", "is_rendered_math", "refuse",
};
static PyObject *calls[N_CALLS], *empty, *space, *new_line, *none_text;

/* Rows of one size, in room that doubles. */
typedef struct {
    void *items;
    Py_ssize_t n, room;
} Rows;

/* All fields are 64-bit, so that a column of rows is every width-th number. */
typedef struct {
    int64_t list_element, table, row, cell, cell_number, pre;
} Place;
typedef struct {
    int64_t element, link_chars, is_pre, has_formula, is_hidden;
    Place place;
} Block;
typedef struct {
    int64_t parent, first_block, end_block, depth, ended_before, is_hidden, cells;
} Element;

typedef struct {
    PyObject_HEAD
    PyObject *kinds, *attributes, *hint_words; /* from Python: tag -> kind, attribute -> kind, and what `hints` points into */
    Hints hints[N_HINTS];
    Py_ssize_t max_elements;
    PyObject *texts, *inline_names, *tags, *element_names; /* of all blocks, of all elements */
    PyObject *pieces, *lines, *names, *marks;              /* of the line and the block that grow */
    PyObject *math, *script, *formula;                     /* Python's own; only whether they are None is read here */
    Rows blocks, elements, end_order, outer_places;
    Place place;
    int64_t loose_cells;           /* cells outside any row */
    Py_ssize_t element, depth;     /* the innermost open element (-1: none), and how many are open */
    Py_ssize_t pre, hidden, links; /* how many such elements are open */
    Py_ssize_t link_chars, breaks, skipping;
    char is_aside, skipping_reads_math, any_formula;
    Scratch scratch;
} Reader;

static void *add_row(Rows *rows, size_t size) {
    if (rows->n == rows->room) {
        Py_ssize_t room = rows->room ? 2 * rows->room : 64;
        void *items = (size_t)room <= PY_SSIZE_T_MAX / size ? PyMem_Realloc(rows->items, room * size) : NULL;
        if (!items) {
            PyErr_NoMemory();
            return NULL;
        }
        rows->items = items, rows->room = room;
    }
    return (char *)rows->items + rows->n++ * size;
}

/* Rows of `width` numbers as bytes, column by column. */
static PyObject *columns(const Rows *rows, Py_ssize_t width) {
    if (rows->n > PY_SSIZE_T_MAX / width / (Py_ssize_t)sizeof(int64_t)) return PyErr_NoMemory();
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, rows->n * width * sizeof(int64_t));
    if (!bytes) return NULL;
    int64_t *into = (int64_t *)PyBytes_AS_STRING(bytes), *from = rows->items;
    for (Py_ssize_t column = 0; column < width; column++)
        for (Py_ssize_t row = 0; row < rows->n; row++) *into++ = from[row * width + column];
    return bytes;
}

static int is_none(PyObject *object) { return !object || object == Py_None; }

/* A method of the subclass, with one or two arguments or none. */
static PyObject *call(Reader *self, int method, PyObject *first, PyObject *second) {
    PyObject *args[] = {(PyObject *)self, first, second};
    return PyObject_VectorcallMethod(calls[method], args, 1 + (first != NULL) + (second != NULL), NULL);
}

/* The truth of what a method says of a value; -1 on error. */
static int asks(Reader *self, int method, PyObject *value) {
    PyObject *found = call(self, method, value, NULL);
    if (!found) return -1;
    int truth = PyObject_IsTrue(found);
    Py_DECREF(found);
    return truth;
}

/* The kind that a name has in a dict, 0 for none; -1 on error. */
static int kind_in(PyObject *kinds, PyObject *name) {
    PyObject *found = PyDict_GetItemWithError(kinds, name);
    int kind = found ? (int)PyLong_AsLong(found) : 0;
    return PyErr_Occurred() ? -1 : kind < 0 ? 0 : kind;
}

static int end_line(Reader *self) {
    if (PyList_GET_SIZE(self->pieces)) {
        PyObject *line = collapsed(self->pieces, &self->scratch);
        if (!line) return -1;
        int failed = PyUnicode_GET_LENGTH(line) && PyList_Append(self->lines, line) < 0;
        Py_DECREF(line);
        if (failed || clear_list(self->pieces) < 0 || clear_list(self->marks) < 0) return -1;
    }
    Py_XSETREF(self->formula, Py_NewRef(Py_None));
    return 0;
}

/* The text inside `pre`: as it stands, but for line ends around it, and empty where it is white space. */
static PyObject *preformatted(Reader *self) {
    PyObject *whole = PyUnicode_Join(empty, self->pieces);
    if (!whole) return NULL;
    Py_ssize_t first = 0, end = PyUnicode_GET_LENGTH(whole);
    while (first < end && PyUnicode_READ_CHAR(whole, first) == '\n') first++;
    while (first < end && PyUnicode_READ_CHAR(whole, end - 1) == '\n') end--;
    PyObject *text = is_space(whole) ? Py_NewRef(empty) : PyUnicode_Substring(whole, first, end);
    Py_DECREF(whole);
    if (!text || clear_list(self->pieces) < 0 || clear_list(self->marks) < 0) Py_CLEAR(text);
    return text;
}

/* Adds the block that grew, where it has any text. */
static int add_block(Reader *self, PyObject *text) {
    if (!PyUnicode_GET_LENGTH(text)) return 0;
    Block *block = add_row(&self->blocks, sizeof *block);
    if (!block) return -1;
    *block = (Block){self->element, self->link_chars, self->pre > 0, self->any_formula, self->hidden > 0, self->place};
    return PyList_Append(self->texts, text) < 0 || append_new(self->inline_names, joined(space, self->names)) < 0 ? -1 : 0;
}

/* Ends the block that grows. */
static int flush(Reader *self) {
    PyObject *text;
    if (self->pre && !PyList_GET_SIZE(self->lines)) {
        text = preformatted(self);
    } else {
        if (end_line(self) < 0) return -1;
        text = joined(new_line, self->lines);
    }
    if (!text) return -1;
    int failed = add_block(self, text) < 0 || clear_list(self->lines) < 0 || clear_list(self->names) < 0;
    Py_DECREF(text);
    self->link_chars = self->breaks = self->any_formula = 0;
    Py_XSETREF(self->formula, Py_NewRef(Py_None));
    return failed ? -1 : 0;
}

static int flush_any(Reader *self) {
    return (PyList_GET_SIZE(self->pieces) || PyList_GET_SIZE(self->lines)) && flush(self) < 0 ? -1 : 0;
}

static int line_break(Reader *self) {
    if (self->pre) return PyList_Append(self->pieces, new_line);
    self->breaks++;
    return self->breaks == 2 ? flush(self) : end_line(self);
}

/* The blocks to come stand in this list, table, row, cell or `pre`. */
static int enter(Reader *self, int kind, int64_t element) {
    Place *outer = add_row(&self->outer_places, sizeof *outer), *place = &self->place;
    if (!outer) return -1;
    *outer = *place;
    if (kind == PRE) {
        self->pre++;
        place->pre = element;
    } else if (kind == TABLE) {
        *place = (Place){place->list_element, element, -1, -1, 0, place->pre};
    } else if (kind == ROW) {
        *place = (Place){place->list_element, place->table, element, -1, 0, place->pre};
    } else if (kind == CELL) {
        int64_t *cells = place->row < 0 ? &self->loose_cells : &((Element *)self->elements.items)[place->row].cells;
        place->cell = element;
        place->cell_number = (*cells)++;
    } else if (place->list_element < 0) {
        place->list_element = element;
    }
    return 0;
}

static int start_block(Reader *self, int kind, PyObject *tag, PyObject *names, int is_hidden) {
    if (flush_any(self) < 0) return -1;
    self->breaks = 0;
    Element *element = add_row(&self->elements, sizeof *element);
    if (!element) return -1;
    *element = (Element){self->element, self->blocks.n, 0, self->depth, self->end_order.n, is_hidden, 0};
    self->element = self->elements.n - 1;
    self->depth++;
    self->hidden += is_hidden;
    if (PyList_Append(self->tags, tag) < 0 || PyList_Append(self->element_names, names) < 0) return -1;
    if (kind >= LIST && enter(self, kind, self->element) < 0) return -1;
    if (self->element < self->max_elements) return 0;
    PyObject *found = call(self, REFUSE, NULL, NULL);
    Py_XDECREF(found);
    return found ? 0 : -1;
}

static int end_block(Reader *self, int kind) {
    if (flush_any(self) < 0) return -1;
    self->breaks = 0;
    if (self->element < 0 || (kind >= LIST && !self->outer_places.n)) {
        PyErr_SetString(PyExc_ValueError, "an element ends that has not begun");
        return -1;
    }
    int64_t *ended = add_row(&self->end_order, sizeof *ended);
    if (!ended) return -1;
    Element *element = (Element *)self->elements.items + self->element;
    *ended = self->element;
    element->end_block = self->blocks.n;
    self->hidden -= element->is_hidden;
    self->element = element->parent;
    self->depth--;
    if (kind >= LIST) {
        self->place = ((Place *)self->outer_places.items)[--self->outer_places.n];
        self->pre -= kind == PRE;
    }
    return 0;
}

/* Reads no text to the end of the element that begins. */
static void skip(Reader *self, int reads_math) {
    self->is_aside = 1;
    self->skipping = 1;
    self->skipping_reads_math = reads_math;
}

/* What an element's attributes say: its names, a new reference, and whether it is hidden. */
static int read_attributes(Reader *self, int kind, PyObject *attrs, PyObject **names, int *is_hidden) {
    *names = Py_NewRef(empty);
    *is_hidden = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(attrs); i++) {
        PyObject *value = PyTuple_GET_ITEM(PyTuple_GET_ITEM(attrs, i), 1);
        int attribute = kind_in(self->attributes, PyTuple_GET_ITEM(PyTuple_GET_ITEM(attrs, i), 0));
        if (attribute == NAME) {
            Py_SETREF(*names, with_name(*names, value == Py_None ? none_text : value));
            if (!*names) return -1;
        } else if (attribute == STYLE && value != Py_None && holds_hint(&self->hints[STYLE_HINTS], value)) {
            attribute = asks(self, HIDES, value);
            if (attribute > 0) *is_hidden = kind != ROOT;
        } else if (attribute == HIDDEN) {
            *is_hidden = kind != ROOT && (value == Py_None || PyUnicode_CompareWithASCIIString(value, "until-found"));
        }
        if (attribute < 0) {
            Py_CLEAR(*names);
            return -1;
        }
    }
    return 0;
}

/* Whether one of the attributes' values holds one of the hints. */
static int any_hint(const Hints *hints, PyObject *attrs) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(attrs); i++) {
        PyObject *value = PyTuple_GET_ITEM(PyTuple_GET_ITEM(attrs, i), 1);
        if (value != Py_None && holds_hint(hints, value)) return 1;
    }
    return 0;
}

static PyObject *done(int status) { return status < 0 ? NULL : Py_NewRef(Py_None); }

/* An inline element, or a block-level one. */
static int start_shown(Reader *self, int kind, PyObject *tag, PyObject *attrs) {
    PyObject *names;
    int is_hidden, status = 0;
    if (read_attributes(self, kind, attrs, &names, &is_hidden) < 0) return -1;
    if (kind < INLINE || kind >= LIST) {
        status = start_block(self, kind, tag, names, is_hidden);
    } else {
        if (!is_hidden && holds_hint(&self->hints[NAME_HINTS], names)) is_hidden = status = asks(self, IS_RENDERED_MATH, names);
        if (status >= 0 && is_hidden) {
            skip(self, 1); /* what may be the hidden or the visible form of a formula */
        } else if (status >= 0) {
            if (PyUnicode_GET_LENGTH(names)) status = PyList_Append(self->names, names);
            self->links += kind == LINK;
            if (status >= 0 && (kind == RARE_INLINE || (kind == IMAGE && any_hint(&self->hints[IMAGE_HINTS], attrs)))) {
                PyObject *found = call(self, START_RARE, tag, attrs);
                status = found ? 0 : -1;
                Py_XDECREF(found);
            }
        }
    }
    Py_DECREF(names);
    return status;
}

static int are_attributes(PyObject *attrs) {
    int fit = PyTuple_Check(attrs);
    for (Py_ssize_t i = 0; fit && i < PyTuple_GET_SIZE(attrs); i++) {
        PyObject *pair = PyTuple_GET_ITEM(attrs, i);
        fit = PyTuple_Check(pair) && PyTuple_GET_SIZE(pair) == 2 && PyUnicode_Check(PyTuple_GET_ITEM(pair, 0)) &&
              (PyTuple_GET_ITEM(pair, 1) == Py_None || PyUnicode_Check(PyTuple_GET_ITEM(pair, 1)));
    }
    return fit;
}

static PyObject *start_element(Reader *self, PyObject *const *args, Py_ssize_t n_args) {
    if (n_args != 2 || !PyUnicode_Check(args[0]) || !are_attributes(args[1])) {
        PyErr_SetString(PyExc_TypeError, "start_element takes a str, and a tuple of pairs of str and str or None");
        return NULL;
    }
    if (self->is_aside) {
        if (!is_none(self->math) || self->skipping_reads_math) return call(self, START_ASIDE, args[0], args[1]);
        self->skipping++;
        Py_RETURN_NONE;
    }
    int kind = kind_in(self->kinds, args[0]);
    if (kind < 0) return NULL;
    if (kind == LINE_BREAK) return done(line_break(self));
    if (kind == READING) return call(self, START_RARE, args[0], args[1]);
    if (kind == RARE_SKIPPED || (kind == SCRIPT && any_hint(&self->hints[SCRIPT_HINTS], args[1]))) return call(self, START_SKIPPED, args[0], args[1]);
    if (kind != SKIPPED && kind != SCRIPT) return done(start_shown(self, kind, args[0], args[1]));
    skip(self, 0);
    Py_RETURN_NONE;
}

static PyObject *end_element(Reader *self, PyObject *tag) {
    if (self->is_aside) {
        if (!is_none(self->math) || !is_none(self->script)) return call(self, END_ASIDE, tag, NULL);
        self->skipping--;
        self->is_aside = self->skipping > 0;
        Py_RETURN_NONE;
    }
    int kind = kind_in(self->kinds, tag);
    if (kind < 0) return NULL;
    if (kind == RARE_INLINE || kind == READING) return call(self, END_RARE, tag, NULL);
    if (kind == LINK && self->links > 0) self->links--;
    if (kind == INLINE || kind == LINK || kind == IMAGE || kind == LINE_BREAK) Py_RETURN_NONE;
    return done(end_block(self, kind));
}

static PyObject *characters(Reader *self, PyObject *data) {
    if (!PyUnicode_Check(data)) {
        PyErr_SetString(PyExc_TypeError, "characters takes a str");
        return NULL;
    }
    if (self->is_aside) {
        if (!is_none(self->math) || !is_none(self->script)) return call(self, ASIDE_CHARACTERS, data, NULL);
        Py_RETURN_NONE;
    }
    int is_blank = is_space(data);
    if (is_blank && !self->pre && !PyList_GET_SIZE(self->pieces)) Py_RETURN_NONE;
    if (PyList_Append(self->pieces, data) < 0) return NULL;
    if (self->links) self->link_chars += PyUnicode_GET_LENGTH(data);
    if (!is_blank) {
        self->breaks = 0;
        if (!is_none(self->formula)) Py_SETREF(self->formula, Py_NewRef(Py_None));
    }
    Py_RETURN_NONE;
}

static PyObject *block_columns(Reader *self, PyObject *none) { return columns(&self->blocks, sizeof(Block) / sizeof(int64_t)); }

static PyObject *element_columns(Reader *self, PyObject *none) { return columns(&self->elements, sizeof(Element) / sizeof(int64_t)); }

static PyObject *ended(Reader *self, PyObject *none) { return columns(&self->end_order, 1); }

static PyObject *new_reader(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    Reader *self = (Reader *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->element = -1;
    self->place = (Place){-1, -1, -1, -1, 0, -1};
    self->math = Py_NewRef(Py_None);
    self->script = Py_NewRef(Py_None);
    self->formula = Py_NewRef(Py_None);
    PyObject **dicts[] = {&self->kinds, &self->attributes};
    PyObject **lists[] = {&self->texts, &self->inline_names, &self->tags, &self->element_names, &self->pieces, &self->lines, &self->names, &self->marks};
    int failed = 0;
    for (size_t i = 0; i < sizeof dicts / sizeof *dicts; i++) failed |= !(*dicts[i] = PyDict_New());
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) failed |= !(*lists[i] = PyList_New(0));
    if (failed) Py_CLEAR(self);
    return (PyObject *)self;
}

static int init_reader(Reader *self, PyObject *args, PyObject *keywords) {
    static char *names[] = {"kinds", "attributes", "hints", "max_elements", NULL};
    PyObject *kinds, *attributes, *words;
    Py_ssize_t max_elements;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!O!O!n", names, &PyDict_Type, &kinds, &PyDict_Type, &attributes, &PyTuple_Type, &words,
                                     &max_elements))
        return -1;
    if (PyTuple_GET_SIZE(words) != N_HINTS) {
        PyErr_Format(PyExc_ValueError, "hints are %d tuples of words", N_HINTS);
        return -1;
    }
    Hints hints[N_HINTS];
    for (int i = 0; i < N_HINTS; i++)
        if (set_hints(&hints[i], PyTuple_GET_ITEM(words, i)) < 0) return -1;
    memcpy(self->hints, hints, sizeof hints);
    Py_XSETREF(self->hint_words, Py_NewRef(words));
    Py_XSETREF(self->kinds, Py_NewRef(kinds));
    Py_XSETREF(self->attributes, Py_NewRef(attributes));
    self->max_elements = max_elements;
    return 0;
}

#define REFERENCES(self)                                                                                                            \
    {&self->kinds, &self->attributes, &self->hint_words, &self->texts, &self->inline_names, &self->tags, &self->element_names, \
     &self->pieces, &self->lines, &self->names, &self->marks, &self->math, &self->script, &self->formula}
enum { N_REFERENCES = 14 };

static int traverse(Reader *self, visitproc visit, void *arg) {
    PyObject **references[N_REFERENCES] = REFERENCES(self);
    for (int i = 0; i < N_REFERENCES; i++) Py_VISIT(*references[i]);
    return 0;
}

/* What else a cycle goes through (lists, dicts) clears itself; so the reader can be called, whatever is still to be cleared. */
static int clear(Reader *self) {
    Py_CLEAR(self->math);
    Py_CLEAR(self->script);
    Py_CLEAR(self->formula);
    return 0;
}

static void dealloc(Reader *self) {
    PyObject_GC_UnTrack(self);
    PyObject **references[N_REFERENCES] = REFERENCES(self);
    for (int i = 0; i < N_REFERENCES; i++) Py_CLEAR(*references[i]);
    void *memory[] = {self->blocks.items, self->elements.items, self->end_order.items, self->outer_places.items, self->scratch.codes};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) PyMem_Free(memory[i]);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

#define MEMBER(name, type, flags) {#name, type, offsetof(Reader, name), flags, NULL}
static PyMemberDef members[] = {
    MEMBER(texts, T_OBJECT, READONLY), MEMBER(inline_names, T_OBJECT, READONLY), MEMBER(tags, T_OBJECT, READONLY),
    MEMBER(element_names, T_OBJECT, READONLY), MEMBER(pieces, T_OBJECT, READONLY), MEMBER(lines, T_OBJECT, READONLY),
    MEMBER(names, T_OBJECT, READONLY), MEMBER(marks, T_OBJECT, READONLY), MEMBER(element, T_PYSSIZET, READONLY),
    MEMBER(math, T_OBJECT, 0), MEMBER(script, T_OBJECT, 0), MEMBER(formula, T_OBJECT, 0),
    MEMBER(links, T_PYSSIZET, 0), MEMBER(breaks, T_PYSSIZET, 0), MEMBER(skipping, T_PYSSIZET, 0), MEMBER(is_aside, T_BOOL, 0),
    MEMBER(skipping_reads_math, T_BOOL, 0), MEMBER(any_formula, T_BOOL, 0), {NULL, 0, 0, 0, NULL},
};

static PyMethodDef methods[] = {
    {"start_element", (PyCFunction)(void (*)(void))start_element, METH_FASTCALL, "start_element(tag, attrs): see page_reader.pyi"},
    {"end_element", (PyCFunction)end_element, METH_O, "end_element(tag): see page_reader.pyi"},
    {"characters", (PyCFunction)characters, METH_O, "characters(data): see page_reader.pyi"},
    {"block_columns", (PyCFunction)block_columns, METH_NOARGS, "block_columns(): see page_reader.pyi"},
    {"element_columns", (PyCFunction)element_columns, METH_NOARGS, "element_columns(): see page_reader.pyi"},
    {"ended", (PyCFunction)ended, METH_NOARGS, "ended(): see page_reader.pyi"},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject reader_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pipeline.native.page_reader.PageReader",
    .tp_basicsize = sizeof(Reader),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "Collects the blocks of a page from a parser's events: see page_reader.pyi",
    .tp_new = new_reader,
    .tp_init = (initproc)init_reader,
    .tp_dealloc = (destructor)dealloc,
    .tp_traverse = (traverseproc)traverse,
    .tp_clear = (inquiry)clear,
    .tp_members = members,
    .tp_methods = methods,
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "page_reader", "The blocks of a page, from a parser's events.", -1, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_page_reader(void) {
    static const struct {
        const char *name;
        int kind;
    } kinds[] = {
        {"ROOT", ROOT}, {"INLINE", INLINE}, {"LINK", LINK}, {"IMAGE", IMAGE}, {"RARE_INLINE", RARE_INLINE}, {"SKIPPED", SKIPPED},
        {"SCRIPT", SCRIPT}, {"RARE_SKIPPED", RARE_SKIPPED}, {"LINE_BREAK", LINE_BREAK}, {"READING", READING}, {"LIST", LIST},
        {"TABLE", TABLE}, {"ROW", ROW}, {"CELL", CELL}, {"PRE", PRE}, {"NAME", NAME}, {"HIDDEN", HIDDEN}, {"STYLE", STYLE},
    };
    for (int i = 0; i < N_CALLS; i++)
        if (!calls[i] && !(calls[i] = PyUnicode_InternFromString(call_names[i]))) return NULL;
    if (!empty && !(empty = PyUnicode_FromString(""))) return NULL;
    if (!space && !(space = PyUnicode_FromString(" "))) return NULL;
    if (!new_line && !(new_line = PyUnicode_FromString("\n"))) return NULL;
    if (!none_text && !(none_text = PyUnicode_FromString("None"))) return NULL;
    PyObject *found = PyModule_Create(&module);
    if (!found || PyModule_AddType(found, &reader_type) < 0) {
        Py_XDECREF(found);
        return NULL;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (PyModule_AddIntConstant(found, kinds[i].name, kinds[i].kind) == 0) continue;
        Py_DECREF(found);
        return NULL;
    }
    return found;
}
