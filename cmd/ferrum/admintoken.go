package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
)

// tokenOverlap is how long a token counts after its successor was written: the
// nodes of a cluster bring a changed Secret to their Pods up to some two minutes
// apart, and a scraper learns of it in its own time.
const tokenOverlap = 5 * time.Minute

// adminToken is the token of the admin port, which may change while the process
// runs. It looks at the file whenever it is asked, and starts nothing:
//
//	the file has       | tokens
//	the same           | as before; that before it until its time is up
//	another one        | that, and the same as before for tokenOverlap from when it was written
//	none that is good  | as before, which is logged
//
// Make one with newAdminToken. Safe for concurrent use.
type adminToken struct {
	file string
	log  logr.Logger

	mu      sync.Mutex
	current string
	before  string
	until   time.Time // before counts
	trouble string    // with the file, as it was logged last; "" = none
}

// newAdminToken reads a file for the first time: then it has to be good.
func newAdminToken(file string, log logr.Logger) (*adminToken, error) {
	token, err := readToken(file)
	return &adminToken{file: file, log: log, current: token}, err
}

// adminTokens returns what says which tokens count now; nil for no file.
func adminTokens(file string, log logr.Logger) (func() []string, error) {
	if file == "" {
		return nil, nil
	}
	a, err := newAdminToken(file, log)
	return func() []string { return a.tokens(time.Now()) }, err
}

// tokens returns the tokens that count at a time, the current one first.
func (a *adminToken) tokens(now time.Time) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	token, err := readToken(a.file)
	switch {
	case err != nil:
		if a.trouble != err.Error() {
			a.log.Error(err, "the token of the admin port cannot be read again; the one before stays")
		}
		a.trouble = err.Error()
	case token != a.current:
		a.trouble = ""
		a.current, a.before, a.until = token, a.current, a.written(now).Add(tokenOverlap)
		a.log.Info("the token of the admin port has changed", "oldAcceptedUntil", a.until.UTC().Format(time.RFC3339))
	default:
		a.trouble = ""
	}
	if a.before != "" && now.Before(a.until) {
		return []string{a.current, a.before}
	}
	a.before = ""
	return []string{a.current}
}

// written returns when the file was, now if that is not known. It is asked after
// the file was read, so that it is not of an earlier one.
func (a *adminToken) written(now time.Time) time.Time {
	if info, err := os.Stat(a.file); err == nil && info.ModTime().Before(now) {
		return info.ModTime()
	}
	return now
}

// readToken returns the bearer token in a file, without surrounding white
// space. "" is returned for no file only: an empty file is an error, because a
// token that is asked for and missing must not open the admin port.
func readToken(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", fmt.Errorf("token file %s is empty", file)
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", fmt.Errorf("token file %s: the token must be one word of printable ASCII", file)
	}
	return token, nil
}
