package translate

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of what is written into conditions, which are stored in etcd and read
// by people.
const (
	maxItems   = 10   // findings listed in one message
	maxHosts   = 3    // hostnames listed in one finding
	maxMessage = 4096 // bytes of a message
	maxQuoted  = 120  // bytes of a user's value quoted in a message
)

// list joins up to maxItems items and counts the others.
func list(items []string, separator string) string { return listSome(items, separator, maxItems) }

func listSome(items []string, separator string, most int) string {
	if len(items) <= most {
		return strings.Join(items, separator)
	}
	return strings.Join(items[:most], separator) + fmt.Sprintf("%sand %d more", separator, len(items)-most)
}

// bounded cuts a message at maxMessage bytes.
func bounded(message string) string { return cut(message, maxMessage) }

// quote shows a user's value, cut when it is long.
func quote(s string) string { return fmt.Sprintf("%q", short(s)) }

func quoted(all []string) []string {
	words := make([]string, len(all))
	for i, s := range all {
		words[i] = quote(s)
	}
	return words
}

// short cuts a user's value when it is long.
func short(s string) string { return cut(s, maxQuoted) }

// cut shortens s to at most limit bytes, on a rune boundary, marked by "...".
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	end := limit - len("...")
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "..."
}

// plural returns "1 thing" or "n things".
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
