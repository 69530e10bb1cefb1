package lua

import (
	"slices"

	glua "github.com/yuin/gopher-lua"
)

// Frozen reports whether t was reachable when Freeze was called: it can be read but not written.
func (s *State) Frozen(t *glua.LTable) bool {
	if _, ok := s.frozen[t]; ok {
		return true
	}
	_, ok := s.lib.tables[t]
	return ok
}

// Freeze makes every table read-only that can be reached from the globals, the modules and the roots (the hooks the
// chunks registered), through tables, metatables and upvalues. From then on a call of a hook leaves no trace in the
// state, by whatever alias or helper it tries. The problems name the functions that would: closures that change a
// variable they captured while loading, as a counter does.
func (s *State) Freeze(roots ...glua.LValue) []Problem {
	s.frozen = map[*glua.LTable]struct{}{}
	s.sealed = true
	w := walker{frozen: s.frozen, library: s.lib.tables, seen: map[*glua.LFunction]struct{}{}}
	if s.own != nil { // frozen before
		s.unshare()
	}
	w.todo = append(w.todo, s.L.G.Global)
	w.todo = append(w.todo, roots...)
	for _, m := range s.modules {
		w.todo = append(w.todo, m)
	}
	w.walk()
	if !w.sets {
		s.share()
	}
	return w.problems
}

type walker struct {
	frozen   map[*glua.LTable]struct{}
	library  map[*glua.LTable]struct{} // frozen already, with all that hangs on them
	sets     bool                      // a function sets a global
	seen     map[*glua.LFunction]struct{}
	problems []Problem
	todo     []glua.LValue // a list, not recursion: a script may nest tables a million deep
}

func (w *walker) walk() {
	for len(w.todo) > 0 {
		v := w.todo[len(w.todo)-1]
		w.todo = w.todo[:len(w.todo)-1]
		switch v := v.(type) {
		case *glua.LTable:
			if _, ok := w.frozen[v]; ok {
				continue
			}
			if _, ok := w.library[v]; ok {
				continue
			}
			w.frozen[v] = struct{}{}
			w.todo = append(w.todo, v.Metatable)
			v.ForEach(func(k, val glua.LValue) { w.todo = append(w.todo, k, val) })
		case *glua.LFunction:
			if _, ok := w.seen[v]; ok {
				continue
			}
			w.seen[v] = struct{}{}
			w.remembers(v)
			for _, u := range v.Upvalues {
				if u != nil {
					w.todo = append(w.todo, u.Value())
				}
			}
		case *glua.LUserData:
			w.todo = append(w.todo, v.Metatable)
		}
	}
}

// remembers reports the upvalues that fn would change when it is called. They outlive the call.
func (w *walker) remembers(fn *glua.LFunction) {
	if fn.IsG {
		return
	}
	w.sets = w.sets || setsGlobal(fn.Proto)
	for i := range changedUpvalues(fn.Proto) {
		name := "a variable"
		if i < len(fn.Proto.DbgUpvalues) {
			name = "'" + fn.Proto.DbgUpvalues[i] + "'"
		}
		w.problems = append(w.problems, Problem{File: fn.Proto.SourceName, Line: fn.Proto.LineDefined,
			Text: "this function changes " + name + ", which was made while loading and serves every connection"})
	}
}

// changedUpvalues finds the upvalues that a function or one within it assigns.
func changedUpvalues(p *glua.FunctionProto) map[int]struct{} {
	var changed map[int]struct{}
	add := func(i int) {
		if changed == nil {
			changed = map[int]struct{}{}
		}
		changed[i] = struct{}{}
	}
	for pc := 0; pc < len(p.Code); pc++ {
		inst := p.Code[pc]
		switch int(inst >> 26) {
		case glua.OP_SETUPVAL:
			add(int(inst & 0x1ff))
		case glua.OP_CLOSURE: // followed by one pseudo instruction for each upvalue of the new closure
			child := p.FunctionPrototypes[inst&0x3ffff]
			inner := changedUpvalues(child)
			for i := range int(child.NumUpvalues) {
				pc++
				if _, ok := inner[i]; ok && int(p.Code[pc]>>26) == glua.OP_GETUPVAL {
					add(int(p.Code[pc] & 0x1ff))
				}
			}
		}
	}
	return changed
}

// setsGlobal reports whether a function or one within it assigns a global.
func setsGlobal(p *glua.FunctionProto) bool {
	for pc := 0; pc < len(p.Code); pc++ {
		switch inst := p.Code[pc]; int(inst >> 26) {
		case glua.OP_SETGLOBAL:
			return true
		case glua.OP_CLOSURE: // the pseudo instructions are no code
			pc += int(p.FunctionPrototypes[inst&0x3ffff].NumUpvalues)
		}
	}
	return slices.ContainsFunc(p.FunctionPrototypes, setsGlobal)
}
