package script

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	glua "github.com/yuin/gopher-lua"

	"github.com/moongate/moongate/policy/lua"
)

const maxJSONDepth = 32

var jsonLibrary = &library{name: "json", doc: "JSON, RFC 8259.", functions: []*function{
	{name: "decode", params: textParam, returns: []param{{"value", "any", "nil if it is no JSON, then an error text; null is nil, too."}}, doc: "Reads JSON.",
		do: func(x *state, L *glua.LState) int {
			text := x.paid(L, 1, "json.decode")
			v, err := x.decodeJSON(L, text)
			if err != nil {
				L.Push(glua.LNil)
				L.Push(glua.LString(clip(err.Error(), 200)))
				return 2
			}
			L.Push(v)
			return 1
		}},
	{name: "encode", params: []param{{"value", "any", "A table with t[1] is an array, any other an object, an empty one {}."}}, returns: []param{{"text", "string", ""}}, doc: "Writes JSON, keys sorted.",
		do: func(x *state, L *glua.LState) int {
			var b bytes.Buffer
			if err := x.encodeJSON(L, &b, L.Get(1), 0); err != nil {
				L.RaiseError("json.encode: %s", err.Error())
			}
			L.Push(glua.LString(b.String()))
			return 1
		}},
}}

func (x *state) decodeJSON(L *glua.LState, text string) (glua.LValue, error) {
	d := json.NewDecoder(strings.NewReader(text))
	v, err := x.jsonValue(L, d, 0)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("more behind the value")
	}
	return v, nil
}

// jsonValue reads token by token: nesting and size are ours to bound.
func (x *state) jsonValue(L *glua.LState, d *json.Decoder, depth int) (glua.LValue, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	x.Meter.Charge(20)
	switch t := t.(type) {
	case json.Delim:
		if depth >= maxJSONDepth {
			return nil, errors.New("nested more than 32 deep")
		}
		if t == '{' {
			return x.jsonObject(L, d, depth)
		}
		return x.jsonArray(L, d, depth)
	case string:
		return x.text(L, t), nil
	case float64:
		return glua.LNumber(t), nil
	case bool:
		return glua.LBool(t), nil
	}
	return glua.LNil, nil
}

// jsonArray and jsonObject gather what there is first: a table has its size when it is made.
func (x *state) jsonArray(L *glua.LState, d *json.Decoder, depth int) (glua.LValue, error) {
	var values []glua.LValue
	for d.More() {
		v, err := x.jsonValue(L, d, depth+1)
		if err != nil {
			return nil, err
		}
		x.Meter.Alloc(L, 32)
		values = append(values, v)
	}
	table := lua.NewList(L, len(values))
	for i, v := range values {
		if v != glua.LNil {
			table.RawSetInt(i+1, v)
		}
	}
	_, err := d.Token()
	return table, err
}

func (x *state) jsonObject(L *glua.LState, d *json.Decoder, depth int) (glua.LValue, error) {
	type member struct {
		key   string
		value glua.LValue
	}
	var members []member
	n := 0 // that are not null
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		key := t.(string)
		x.Meter.Alloc(L, int64(len(key))+64)
		v, err := x.jsonValue(L, d, depth+1)
		if err != nil {
			return nil, err
		}
		members = append(members, member{key, v})
		if v != glua.LNil {
			n++
		}
	}
	table := lua.NewRecord(L, n)
	for _, m := range members {
		table.RawSetString(m.key, m.value)
	}
	_, err := d.Token()
	return table, err
}

func (x *state) encodeJSON(L *glua.LState, b *bytes.Buffer, v glua.LValue, depth int) error {
	x.Meter.Work(L, 20)
	before := b.Len()
	defer func() { x.Meter.Alloc(L, int64(max(0, b.Len()-before))) }()
	switch v := v.(type) {
	case *glua.LNilType:
		b.WriteString("null")
	case glua.LBool:
		b.WriteString(v.String())
	case glua.LNumber:
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("%s is no JSON", v)
		}
		return writeJSON(b, float64(v))
	case glua.LString:
		return writeJSON(b, string(v))
	case *glua.LTable:
		if depth >= maxJSONDepth {
			return errors.New("nested more than 32 deep")
		}
		return x.encodeTable(L, b, v, depth)
	default:
		return fmt.Errorf("%s is no JSON", typeName(v))
	}
	return nil
}

func (x *state) encodeTable(L *glua.LState, b *bytes.Buffer, t *glua.LTable, depth int) error {
	if n := t.Len(); n > 0 {
		b.WriteByte('[')
		for i := 1; i <= n; i++ {
			if i > 1 {
				b.WriteByte(',')
			}
			if err := x.encodeJSON(L, b, t.RawGetInt(i), depth+1); err != nil {
				return err
			}
		}
		b.WriteByte(']')
		return nil
	}
	var keys []string
	values := map[string]glua.LValue{}
	t.ForEach(func(k, v glua.LValue) {
		keys = append(keys, k.String())
		values[k.String()] = v
	})
	x.Meter.Alloc(L, int64(len(keys))*64)
	slices.Sort(keys)
	b.WriteByte('{')
	for i, k := range keys {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := writeJSON(b, k); err != nil {
			return err
		}
		b.WriteByte(':')
		if err := x.encodeJSON(L, b, values[k], depth+1); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return nil
}

func writeJSON(b *bytes.Buffer, v any) error {
	e, err := json.Marshal(v)
	b.Write(e)
	return err
}
