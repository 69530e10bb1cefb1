package configs

import _ "embed"

// Annotated is the shipped moongate.toml, which names every key.
//
//go:embed moongate.toml
var Annotated []byte
