package lua

// Names is what the host offers to scripts; the load-time checks measure a file against it.
// The language's own names (string, pairs, ...) need not be listed: Compile adds them.
type Names struct {
	// Known maps each global to its fields; nil or empty fields mean that they are not checked.
	Known map[string][]string
	// MustReturn names the functions whose value is the point of calling them ("reject"): a call that
	// stands alone as a statement is a problem.
	MustReturn map[string]bool
	// Keep names the places where a script may keep a value from one call to the next, for hints:
	// "conn.data or msg.data".
	Keep string
	// Absent explains names that are not known where they stand: "rules get it as an argument".
	Absent map[string]string
	// Mutable lifts the rules that keep one message's values from the next: for test files, which run alone.
	Mutable bool
	// Look is the host's own checks, nil if it has none. It sees every file that parses, one with other problems too: an
	// author is told all of them at once. The chunk has no Proto yet.
	Look func(*Chunk) []Problem
}

func (n *Names) keep() string {
	if n == nil || n.Keep == "" {
		return ""
	}
	return n.Keep
}

func (n *Names) absent(name string) string {
	if n == nil {
		return ""
	}
	return n.Absent[name]
}

// builtins are the names the sandbox itself defines, with the fields of its tables.
var builtins = map[string][]string{
	"_VERSION": nil, "assert": nil, "error": nil, "getmetatable": nil, "ipairs": nil, "next": nil, "pairs": nil,
	"pcall": nil, "rawequal": nil, "rawget": nil, "rawset": nil, "require": nil, "select": nil, "setmetatable": nil,
	"tonumber": nil, "tostring": nil, "type": nil, "unpack": nil, "xpcall": nil,
	"string": {"byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match", "rep", "reverse", "sub", "upper"},
	"table":  {"concat", "getn", "insert", "maxn", "remove", "sort", "unpack"},
	"math": {"abs", "acos", "asin", "atan", "atan2", "ceil", "cos", "cosh", "deg", "exp", "floor", "fmod", "frexp", "huge",
		"ldexp", "log", "log10", "max", "min", "mod", "modf", "pi", "pow", "rad", "random", "sin", "sinh", "sqrt", "tan", "tanh"},
}

// TextMethods are the methods of every string.
func TextMethods() []string { return builtins["string"] }

func (n *Names) known(name string) bool {
	if _, ok := builtins[name]; ok {
		return true
	}
	if n == nil {
		return false
	}
	_, ok := n.Known[name]
	return ok
}

// fields of a known global; nil when they are not checked.
func (n *Names) fields(name string) []string {
	if n != nil && len(n.Known[name]) > 0 {
		return n.Known[name]
	}
	return builtins[name]
}
