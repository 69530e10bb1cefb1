package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
)

var errNoDomain = errors.New("not a domain")

// Load reads and checks a configuration file. All problems are reported, in
// the order of the file. A Config that comes with problems must not be run;
// it is given all the same (nil only if the file is unreadable or not TOML),
// so that check can go on to the policy it names.
func Load(path string) (*Config, []Problem) {
	text, err := os.ReadFile(path)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, []Problem{{File: path, Text: fmt.Sprintf("cannot read the configuration: %v", err)}}
	}
	return parse(path, text)
}

func parse(path string, text []byte) (*Config, []Problem) {
	cfg := Default()
	problems, ok := decode(path, text, cfg)
	if !ok {
		return nil, problems
	}
	problems = append(problems, cfg.Validate()...)
	cfg.settle(filepath.Dir(path))
	sortProblems(problems)
	return cfg, problems
}

// settle brings values into the one form that the rooms get: paths absolute
// or relative to where we run, domains as A-labels in lower case.
func (c *Config) settle(dir string) {
	resolvePaths(reflect.ValueOf(c).Elem(), dir)
	for i, domain := range c.Domains {
		if ascii, err := asciiDomain(domain); err == nil {
			c.Domains[i] = ascii
		}
	}
	if ascii, err := asciiDomain(c.Hostname); err == nil {
		c.Hostname = ascii
	}
}

// resolvePaths makes relative paths relative to the configuration file: the
// fields that say path:"true", and the unix sockets.
func resolvePaths(v reflect.Value, dir string) {
	switch {
	case v.Kind() == reflect.Struct:
		for f := range v.Type().Fields() {
			if !f.IsExported() {
				continue
			}
			field := v.FieldByIndex(f.Index)
			if f.Tag.Get("path") != "" && field.String() != "" {
				field.SetString(resolve(dir, field.String()))
				continue
			}
			resolvePaths(field, dir)
		}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			resolvePaths(v.Index(i), dir)
		}
	case v.Type() == reflect.TypeFor[Address]():
		if path, ok := strings.CutPrefix(v.String(), unixPrefix); ok {
			v.SetString(unixPrefix + resolve(dir, path))
		}
	}
}

func resolve(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func elementPath(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }
