package main

import (
	"errors"
	"fmt"
	"io"
)

// Exit codes, sysexits.h. A supervisor reads them: 64 and 78 do not go away by
// a restart.
const (
	exitOK          = 0
	exitUsage       = 64
	exitUnavailable = 69
	exitSoftware    = 70
	exitIO          = 74
	exitConfig      = 78
)

// exitError is an error that knows its exit code.
type exitError struct {
	code int
	err  error // nil when all has been said
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func fail(code int, format string, args ...any) error {
	return &exitError{code, fmt.Errorf(format, args...)}
}

// failed ends with a code when what is wrong has been told already.
func failed(code int) error { return &exitError{code: code} }

// exitCode tells the error, if it is not told yet, and gives its code. An error
// without a code came from cobra: a wrong flag or an unknown command.
func exitCode(stderr io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	var e *exitError
	if !errors.As(err, &e) {
		fmt.Fprintf(stderr, "moongate: %v\nTry: moongate --help\n", err)
		return exitUsage
	}
	if e.err != nil {
		fmt.Fprintf(stderr, "moongate: %v\n", e.err)
	}
	return e.code
}
