package script

import (
	"fmt"
	"strings"
)

//go:generate go test -run TestGenerated -update .

// Stubs is types/moongate.lua: the API for editors that read LuaCATS
// annotations (lua-language-server and its kin).
func Stubs() string {
	var b strings.Builder
	b.WriteString(`---@meta moongate
-- The policy language of moongate, for your editor. Generated: do not edit.

---A rule's options. mode = "shadow": asked and logged, not obeyed. at = "rcpt": a refusal at connect, helo or mail is given at each RCPT.
---@class RuleOptions
---@field name? string
---@field on_error? "tempfail"|"accept"|"reject"
---@field timeout? string|number
---@field mode? "enforce"|"shadow"
---@field at? string

`)
	for _, c := range language.classes {
		stubClass(&b, c)
	}
	b.WriteString("---@class On\non = {}\n")
	for _, s := range stages {
		result := ": Verdict?"
		if s.name == "log" {
			result = ""
		}
		handler := fmt.Sprintf("fun(%s)%s", s.args, result)
		fmt.Fprintf(&b, "\n---%s\n---@overload fun(handler: %s)\n---@param name_or_options string|RuleOptions\n---@param handler %s\nfunction on.%s(name_or_options, handler) end\n",
			s.doc, handler, handler, s.name)
	}
	b.WriteByte('\n')
	for _, f := range language.functions {
		if f.planned == "" {
			stubFunction(&b, f.name, f.doc, f.params, f.returns, f.must)
		}
	}
	for _, l := range language.libraries {
		fmt.Fprintf(&b, "---%s\n---@class %slib\n%s = {}\n\n", l.doc, l.name, l.name)
		for _, f := range l.functions {
			stubFunction(&b, l.name+"."+f.name, f.doc, f.params, f.returns, false)
		}
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func stubClass(b *strings.Builder, c *class) {
	fmt.Fprintf(b, "---%s\n---@class %s\n", c.doc, c.typ)
	for _, m := range c.members {
		if m.get != nil {
			name, typ := m.name, m.typ
			fmt.Fprintf(b, "---@field %s %s %s\n", name, typ, m.doc)
		}
	}
	fmt.Fprintf(b, "local %s = {}\n\n", c.typ)
	for _, m := range c.members {
		if m.do != nil {
			doc := m.doc
			if m.only {
				doc += fmt.Sprintf(" Only at %s.", m.from)
			} else if m.from > 0 {
				doc += fmt.Sprintf(" From %s on.", m.from)
			}
			stubFunction(b, c.typ+":"+m.name, doc, m.params, m.returns, false)
		}
	}
}

func stubFunction(b *strings.Builder, name, doc string, params, returns []param, must bool) {
	fmt.Fprintf(b, "---%s\n", doc)
	if must && len(params) == 3 && params[0].name == "code" { // ([code,] [status,] text)
		text := params[2].typ
		fmt.Fprintf(b, "---@overload fun(text: %s): Verdict\n---@overload fun(status: string, text: %s): Verdict\n---@overload fun(code: integer, text: %s): Verdict\n", text, text, text)
		params = []param{{"code", "integer", params[0].doc}, {"status", "string", params[1].doc}, params[2]}
	}
	var names []string
	for _, p := range params {
		names = append(names, p.name)
		name, typ := p.name, p.typ
		if t, ok := strings.CutSuffix(typ, "?"); ok && name != "..." && !strings.HasPrefix(typ, "fun(") {
			name, typ = name+"?", t
		}
		fmt.Fprintf(b, "---@param %s\n", strings.TrimSpace(name+" "+typ+" "+p.doc))
	}
	for _, r := range returns {
		fmt.Fprintf(b, "---@return %s\n", strings.TrimSpace(r.typ+" "+r.name+" "+r.doc))
	}
	if must {
		b.WriteString("---@nodiscard\n")
	}
	fmt.Fprintf(b, "function %s(%s) end\n\n", name, strings.Join(names, ", "))
}

// Reference is docs/lua-reference.md.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# The policy language: reference

Generated from the bindings: do not edit. What the words are for is told in [policy.md](policy.md).

## Stages

A rule is ` + "`on.<stage>(function)`, `on.<stage>(\"name\", function)` or `on.<stage>({ name=, on_error=, timeout=, mode=, at= }, function)`" + `.

| stage | arguments | asked when |
|---|---|---|
`)
	for _, s := range stages {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", s.name, cell(s.args), cell(s.doc))
	}
	b.WriteString(`
| option | values |
|---|---|
| ` + "`name`" + ` | text; without it the rule is called by its place, ` + "`10-gate.lua:18`" + ` |
| ` + "`on_error`" + ` | ` + "`\"tempfail\"`" + ` (the default), ` + "`\"accept\"`" + `: go on and mark the message, ` + "`\"reject\"`" + ` |
| ` + "`timeout`" + ` | ` + "`\"500ms\"`" + `, ` + "`\"2s\"`" + `, or seconds; at most 18 s, at message 110 s |
| ` + "`mode`" + ` | ` + "`\"enforce\"`" + `, or ` + "`\"shadow\"`" + `: asked and logged, not obeyed |
| ` + "`at`" + ` | ` + "`\"rcpt\"`" + ` for connect, helo and mail rules: the refusal is given at each RCPT |

## Verdicts

A rule returns one of these, or nothing: then the next rule is asked.

`)
	for _, f := range verdictFunctions {
		refFunction(&b, f.name, f)
	}
	b.WriteString("## Declared at the top of a file\n\n")
	for _, f := range language.functions {
		if !f.must && f.planned == "" {
			refFunction(&b, f.name, f)
		}
	}
	b.WriteString("## Objects\n\nObjects are strict: a field that is not here cannot be read, and none can be written unless it says so.\n\n")
	for _, c := range language.classes {
		refClass(&b, c)
	}
	b.WriteString("## Libraries\n\n")
	for _, l := range language.libraries {
		fmt.Fprintf(&b, "### %s\n\n%s\n\n", l.name, l.doc)
		for _, f := range l.functions {
			refFunction(&b, l.name+"."+f.name, f)
		}
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func refClass(b *strings.Builder, c *class) {
	if len(c.members) == 0 {
		return
	}
	fmt.Fprintf(b, "### %s\n\n%s\n\n", c.name, c.doc)
	head := false
	for _, m := range c.members {
		if m.get == nil {
			continue
		}
		if !head {
			b.WriteString("| field | type | |\n|---|---|---|\n")
			head = true
		}
		fmt.Fprintf(b, "| `%s` | `%s` | %s |\n", m.name, cell(m.typ), cell(m.doc))
	}
	if head {
		b.WriteByte('\n')
	}
	for _, m := range c.members {
		if m.do != nil {
			doc := m.doc
			if m.only {
				doc += fmt.Sprintf(" Only at `%s`.", m.from)
			} else if m.from > 0 {
				doc += fmt.Sprintf(" From `%s` on.", m.from)
			}
			refEntry(b, c.name+":"+m.name, doc, m.params, m.returns)
		}
	}
}

func refFunction(b *strings.Builder, name string, f *function) {
	doc := f.doc
	if f.stages != nil {
		doc += " At " + stageList(f.stages) + "."
	}
	refEntry(b, name, doc, f.params, f.returns)
}

func refEntry(b *strings.Builder, name, doc string, params, returns []param) {
	var in, out []string
	for _, p := range params {
		n := p.name
		if strings.HasSuffix(p.typ, "?") {
			n = "[" + n + "]"
		}
		in = append(in, n)
	}
	for _, r := range returns {
		out = append(out, strings.TrimSpace(r.name+" "+r.typ))
	}
	fmt.Fprintf(b, "- `%s(%s)`", name, strings.Join(in, ", "))
	if len(out) > 0 {
		fmt.Fprintf(b, " → `%s`", strings.Join(out, ", "))
	}
	fmt.Fprintf(b, "  \n  %s\n", doc)
	for _, p := range append(params[:len(params):len(params)], returns...) {
		if p.doc != "" && p.name != "" {
			fmt.Fprintf(b, "  - `%s` (`%s`): %s\n", p.name, p.typ, p.doc)
		}
	}
	b.WriteByte('\n')
}

// cell makes text fit for a table.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
