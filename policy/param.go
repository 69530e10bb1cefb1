package policy

import "slices"

// Param is one ESMTP parameter of MAIL or RCPT, RFC 5321 4.1.2, as the client
// wrote it: values stay encoded.
type Param struct {
	Key   string // upper case
	Value string // raw; "" where there is none
	Raw   string // the token as it came: Key=Value
}

// FindParam returns the value of a parameter. key is upper case.
func FindParam(params []Param, key string) (value string, ok bool) {
	for _, p := range params {
		if p.Key == key {
			return p.Value, true
		}
	}
	return "", false
}

// replaced is params with those of by in the place of their namesakes. params,
// which may be what the client said, stays as it is.
func replaced(params, by []Param) []Param {
	if len(by) == 0 {
		return params
	}
	out := slices.DeleteFunc(slices.Clone(params), func(p Param) bool {
		_, ok := FindParam(by, p.Key)
		return ok
	})
	return append(out, by...)
}
