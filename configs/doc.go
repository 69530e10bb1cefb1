// Package configs reads moongate's configuration file.
//
// The file is TOML and the Config struct is its documentation: one field a
// key, the comment says what it does, its unit and its default. Defaults are
// set in one place, Default. Whatever the file does not say stays at its
// default; whatever it says that we do not know is an error, never ignored:
// a misspelt key that silently does nothing is how mail servers become open
// relays.
//
// Load reads a file in four steps, each of which tells all it has to tell
// before the next begins:
//
//	is it TOML?            go-toml, which stops at its first syntax error
//	is it ours?            decode.go: every unknown key, every wrong value
//	is it built yet?       notyet.go: keys that the design has and this release has not
//	does it make sense?    check.go: addresses, domains, loops, and the rule
//	                       that moongate never starts as an open relay
//
// A Problem carries file, line, column and the line itself, so that an
// operator sees what is wrong without opening the file. Relative paths are
// relative to the configuration file. The package imports no other room of
// moongate; cmd turns a Config into rooms.
//
// The shipped files lie beside the code: moongate.toml names every key with
// its default, and a test keeps it so.
package configs
