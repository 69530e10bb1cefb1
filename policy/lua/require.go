package lua

import glua "github.com/yuin/gopher-lua"

// baseRequire runs a module of the host's snapshot once in this state and gives what it returned.
func baseRequire(L *glua.LState) int {
	name := checkString(L, 1)
	s := StateOf(L)
	if v, ok := s.modules[name]; ok {
		if v == nil {
			L.RaiseError("module '%s' requires itself", name)
		}
		L.Push(v)
		return 1
	}
	if s.sealed {
		L.RaiseError("require belongs at the top of a file: '%s' was not loaded with it", name)
	}
	if !moduleName(name) {
		L.RaiseError("'%s' is no module name: use letters, digits and '_'", name)
	}
	if s.Modules == nil {
		L.RaiseError("there is no module '%s'", name)
	}
	c, err := s.Modules(name)
	if err != nil {
		L.RaiseError("%s", err.Error())
	}
	if s.modules == nil {
		s.modules = map[string]glua.LValue{}
	}
	s.modules[name] = nil
	s.files[c.File] = struct{}{}
	L.Push(L.NewFunctionFromProto(c.Proto))
	L.Call(0, 1)
	v := L.Get(-1)
	if v == glua.LNil {
		v = glua.LTrue
	}
	s.modules[name] = v
	L.Push(v)
	return 1
}

func moduleName(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAlpha(s[i]) && !isDigit(s[i]) && s[i] != '_' {
			return false
		}
	}
	return s != ""
}
