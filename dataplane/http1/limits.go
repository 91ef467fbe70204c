package http1

import "errors"

// ErrHeld is for heads that are not complete while buffers hold more than
// Limits.MaxHeld.
var ErrHeld = errors.New("http1: too many bytes in buffers")

// Limits bound a head. A field that is not positive means that of
// DefaultLimits, where MaxHeld is no bound.
type Limits struct {
	MaxLine      int // bytes of the request line or status line without CR LF; over it 414
	MaxHeadBytes int // bytes of the whole head; over it 431
	MaxFields    int // number of field lines; over it 431
	// MaxHeld bounds HeldBytes for heads that are not complete: over it ReadRequest
	// fails with ErrHeld rather than wait for more of one.
	MaxHeld int64
}

// DefaultLimits are those that a nil *Limits stands for.
var DefaultLimits = Limits{MaxLine: 8 << 10, MaxHeadBytes: 64 << 10, MaxFields: 100}

// effective returns the limits with the defaults filled in.
func (l *Limits) effective() Limits {
	if l == nil {
		return DefaultLimits
	}
	e := *l
	if e.MaxLine <= 0 {
		e.MaxLine = DefaultLimits.MaxLine
	}
	if e.MaxHeadBytes <= 0 {
		e.MaxHeadBytes = DefaultLimits.MaxHeadBytes
	}
	if e.MaxFields <= 0 {
		e.MaxFields = DefaultLimits.MaxFields
	}
	return e
}
