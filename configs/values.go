package configs

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
)

// setScalar reads one plain value into a field of one of the types that
// Config uses. Its error says what the key wants.
func setScalar(field reflect.Value, tag reflect.StructTag, path string, n *unstable.Node) error {
	text, isString := string(n.Data), n.Kind == unstable.String
	switch field.Interface().(type) {
	case time.Duration:
		if !isString {
			return errors.New(`wants a duration with its unit, in quotes: "30s"`)
		}
		v, err := parseDuration(text)
		if err != nil {
			return err
		}
		if least, err := parseDuration(tag.Get("min")); err == nil && v < least {
			return fmt.Errorf("must be at least %s", least)
		}
		field.SetInt(int64(v))
	case Size:
		if !isString && n.Kind != unstable.Integer {
			return errSize
		}
		v, err := ParseSize(strings.ReplaceAll(text, "_", ""))
		if err != nil {
			return err
		}
		return setInt(field, tag, int64(v))
	case netip.Prefix:
		if !isString {
			return errors.New("wants networks in quotes")
		}
		v, err := parsePrefix(text)
		if err != nil {
			return err
		}
		field.Set(reflect.ValueOf(v))
	case Address:
		if !isString {
			return errors.New("wants an address in quotes")
		}
		v, err := parseAddress(text)
		if err != nil {
			return err
		}
		field.SetString(string(v))
	case string:
		if !isString {
			return errors.New("wants a string in quotes")
		}
		if allowed := strings.Fields(tag.Get("enum")); len(allowed) > 0 && !slices.Contains(allowed, text) {
			if what, ok := notYet(path, text); ok {
				return fmt.Errorf("%q is not supported yet: %s", text, what)
			}
			return fmt.Errorf("%q is none of %s%s", text, strings.Join(allowed, ", "), didYouMean(text, allowed))
		}
		field.SetString(text)
	case bool:
		if n.Kind != unstable.Bool {
			return errors.New("wants true or false")
		}
		field.SetBool(text == "true")
	case int:
		v, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 0, 64)
		if n.Kind != unstable.Integer || err != nil {
			return errors.New("wants a whole number, without quotes")
		}
		return setInt(field, tag, v)
	default:
		panic("configs: no reader for " + field.Type().String()) // a programming error; the test of the shipped file sees it
	}
	return nil
}

func setInt(field reflect.Value, tag reflect.StructTag, v int64) error {
	if least, err := strconv.ParseInt(tag.Get("min"), 10, 64); err == nil && v < least {
		return fmt.Errorf("must be at least %d", least)
	}
	field.SetInt(v)
	return nil
}
