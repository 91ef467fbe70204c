package crd

import "embed"

// FS holds the CustomResourceDefinitions as bases/*.yaml, one kind per file.
//
//go:embed bases/*.yaml
var FS embed.FS
