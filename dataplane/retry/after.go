package retry

import "time"

// maxRetryAfter is the longest wait that ParseRetryAfter returns; what asks for
// more is cut to it. No request waits for as long.
const maxRetryAfter = 24 * time.Hour

// httpDates are the layouts of an HTTP-date: the one to send and the two obsolete
// ones that must be understood (RFC 9110, 5.6.7).
var httpDates = [...]string{
	"Mon, 02 Jan 2006 15:04:05 GMT",
	"Monday, 02-Jan-06 15:04:05 GMT",
	"Mon Jan _2 15:04:05 2006",
}

// ParseRetryAfter returns the wait that the value of a Retry-After field asks
// for, from 0 to a day (RFC 9110, 10.2.3): seconds, or a date, which is held
// against the wall clock of now. It is not ok if the value is neither.
func ParseRetryAfter(value []byte, now time.Time) (wait time.Duration, ok bool) {
	const longest = 64 // no date and no sensible number is longer
	if len(value) == 0 || len(value) > longest {
		return 0, false
	}
	if value[0] >= '0' && value[0] <= '9' {
		return parseSeconds(value)
	}
	for _, layout := range httpDates {
		if at, err := time.Parse(layout, string(value)); err == nil {
			return min(max(at.Sub(now), 0), maxRetryAfter), true
		}
	}
	return 0, false
}

func parseSeconds(value []byte) (wait time.Duration, ok bool) {
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		wait = min(wait*10+time.Duration(c-'0')*time.Second, maxRetryAfter)
	}
	return wait, true
}
