package configs

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// decoder walks the parsed file and sets the fields of a Config. The
// library's own Unmarshal stops at the first value of a wrong type; an
// operator wants to hear of all of them at once, each with its place.
type decoder struct {
	*source
	parser   unstable.Parser
	problems []Problem
}

// decode sets what text says in cfg and returns all that is wrong with it.
// ok is false if text is not TOML at all; then nothing was set.
func decode(file string, text []byte, cfg *Config) (problems []Problem, ok bool) {
	cfg.source = newSource(file, text)
	d := &decoder{source: &cfg.source}
	var anything map[string]any
	if err := toml.Unmarshal(text, &anything); err != nil { // syntax, keys and tables that are there twice
		return []Problem{d.syntax(err)}, false
	}
	root := reflect.ValueOf(cfg).Elem()
	table, path := root, ""
	d.parser.Reset(text)
	for d.parser.NextExpression() {
		switch n := d.parser.Expression(); n.Kind {
		case unstable.Table, unstable.ArrayTable:
			table, path = d.table(root, n)
		case unstable.KeyValue:
			d.keyValue(table, path, n)
		}
	}
	if err := d.parser.Error(); err != nil { // cannot be: Unmarshal has read it
		return []Problem{d.syntax(err)}, false
	}
	return d.problems, true
}

func (d *decoder) syntax(err error) Problem {
	var de *toml.DecodeError
	if !errors.As(err, &de) {
		return Problem{File: d.file, Text: err.Error()}
	}
	line, col := de.Position()
	return d.here(position{line, col}, "%s", strings.TrimPrefix(de.Error(), "toml: "))
}

func (d *decoder) problem(pos position, format string, args ...any) {
	d.problems = append(d.problems, d.here(pos, format, args...))
}

func (d *decoder) pos(n *unstable.Node) position {
	start := d.parser.Shape(n.Raw).Start
	return position{start.Line, start.Column}
}

// table finds what a [header] or [[header]] opens. The zero Value means that
// it was refused, once, and that the keys below it need no word of their own.
func (d *decoder) table(root reflect.Value, n *unstable.Node) (reflect.Value, string) {
	at, path := root, ""
	for it := n.Key(); it.Next(); {
		key, last := string(it.Node().Data), it.IsLast()
		field, fieldPath, ok := d.field(at, path, key, d.pos(it.Node()))
		if !ok {
			return reflect.Value{}, ""
		}
		isList := field.Kind() == reflect.Slice && isTable(field.Type().Elem())
		switch {
		case isList && last && n.Kind == unstable.Table:
			d.problem(d.pos(it.Node()), "write [[%s]]: there may be several of them", fieldPath)
			return reflect.Value{}, ""
		case isList && last:
			field, fieldPath = d.grow(field, fieldPath)
		case isList && field.Len() > 0: // [listener.x] goes into the last one
			fieldPath = fmt.Sprintf("%s[%d]", fieldPath, field.Len()-1)
			field = field.Index(field.Len() - 1)
		case field.Kind() != reflect.Struct:
			d.problem(d.pos(it.Node()), "`%s` is a value, not a table; write %s = ...", fieldPath, key)
			return reflect.Value{}, ""
		case last && n.Kind == unstable.ArrayTable:
			d.problem(d.pos(it.Node()), "write [%s]: there is only one", fieldPath)
			return reflect.Value{}, ""
		}
		d.where[fieldPath] = d.pos(it.Node())
		at, path = field, fieldPath
	}
	return at, path
}

// grow appends one element with its defaults to a list of tables.
func (d *decoder) grow(list reflect.Value, path string) (reflect.Value, string) {
	var element reflect.Value
	switch list.Interface().(type) {
	case []Listener:
		element = reflect.ValueOf(defaultListener())
	case []Filter:
		element = reflect.ValueOf(defaultFilter())
	default:
		panic("configs: no defaults for " + list.Type().String()) // a programming error; the test of the shipped file sees it
	}
	list.Set(reflect.Append(list, element))
	i := list.Len() - 1
	return list.Index(i), fmt.Sprintf("%s[%d]", path, i)
}

func (d *decoder) keyValue(table reflect.Value, path string, n *unstable.Node) {
	if !table.IsValid() {
		return
	}
	field, tag := table, reflect.StructTag("")
	pos := position{}
	for it := n.Key(); it.Next(); {
		key := string(it.Node().Data)
		pos = d.pos(it.Node())
		if field.Kind() != reflect.Struct {
			d.problem(pos, "`%s` is a value, not a table", path)
			return
		}
		var ok bool
		parent := field
		if field, path, ok = d.field(parent, path, key, pos); !ok {
			return
		}
		tag = tagOf(parent.Type(), key)
		d.where[path] = pos
	}
	d.value(field, tag, path, pos, n.Value())
}

// field finds the field of a table for a key, and says what to write instead
// if there is none.
func (d *decoder) field(table reflect.Value, path, key string, pos position) (reflect.Value, string, bool) {
	full := key
	if path != "" {
		full = path + "." + key
	}
	if f, ok := fieldOf(table.Type(), key); ok {
		return table.FieldByIndex(f.Index), full, true
	}
	if what, ok := notYet(full, ""); ok {
		d.problem(pos, "`%s` is not supported yet: %s", full, what)
		return reflect.Value{}, "", false
	}
	in := ""
	if path != "" {
		in = " in [" + path + "]"
	}
	d.problem(pos, "unknown key `%s`%s%s", key, in, didYouMean(key, keysOf(table.Type())))
	return reflect.Value{}, "", false
}

// value sets one field from one value; arrays and inline tables recurse.
func (d *decoder) value(field reflect.Value, tag reflect.StructTag, path string, key position, n *unstable.Node) {
	pos := key
	if n.Raw.Length > 0 {
		pos = d.pos(n)
	}
	switch {
	case field.Kind() == reflect.Slice:
		if n.Kind != unstable.Array {
			d.refuse(path, pos, "`%s` wants a list: [...]", path)
			return
		}
		for it := n.Children(); it.Next(); {
			i := field.Len()
			if isTable(field.Type().Elem()) {
				element, elementPath := d.grow(field, path)
				d.where[elementPath] = key
				d.value(element, "", elementPath, key, it.Node())
				continue
			}
			element := reflect.New(field.Type().Elem()).Elem()
			elementPath := fmt.Sprintf("%s[%d]", path, i)
			d.where[elementPath] = key
			if it.Node().Raw.Length > 0 {
				d.where[elementPath] = d.pos(it.Node())
			}
			d.value(element, tag, elementPath, key, it.Node())
			field.Set(reflect.Append(field, element))
		}
	case isTable(field.Type()):
		if n.Kind != unstable.InlineTable {
			d.refuse(path, pos, "`%s` is a table; write [%s] and its keys below", path, path)
			return
		}
		for it := n.Children(); it.Next(); {
			d.keyValue(field, path, it.Node())
		}
	default:
		if err := setScalar(field, tag, path, n); err != nil {
			d.refuse(path, pos, "`%s`: %s", path, err)
		}
	}
}

// refuse is problem for a value: the checks of check.go leave it alone then.
func (d *decoder) refuse(path string, pos position, format string, args ...any) {
	d.bad[path] = true
	d.problem(pos, format, args...)
}

// isTable tells a table of ours from a netip.Prefix, a value that is a struct by chance.
func isTable(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != reflect.TypeFor[netip.Prefix]()
}

func fieldOf(t reflect.Type, key string) (reflect.StructField, bool) {
	for f := range t.Fields() {
		if f.Tag.Get("toml") == key {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

func tagOf(t reflect.Type, key string) reflect.StructTag {
	f, _ := fieldOf(t, key)
	return f.Tag
}

func keysOf(t reflect.Type) (keys []string) {
	for f := range t.Fields() {
		if key := f.Tag.Get("toml"); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}
