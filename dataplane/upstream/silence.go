package upstream

import "sync/atomic"

// suspectAfter is how many attempts in a row may be overtaken before the next one
// goes on.
const suspectAfter = 3

// silence is what is known of an endpoint that answers nothing while others answer
// what it was asked. An attempt that is overtaken is given up, and says nothing: it
// may have been slow. So an endpoint that hangs would never be found out. After some
// of them in a row without an answer to anybody, one goes on to the end that it
// would have had by itself, unheard: the witness. If that is an answer, the
// endpoint is only slow. If it is the end of the time for one, and nobody else had
// an answer since the witness went on, the others would not have had one either:
// each counts as what it would have been.
//
// Envoy counts each try that it hedges as a timeout of its host, at once and whatever
// comes later (hedge_on_per_try_timeout; router.cc, onSoftPerTryTimeout), and so
// ejects those that are only slow.
//
//	answering --overtaken, more than suspectAfter in a row--> suspected
//	    ^                                                        |
//	    | any answer                                             | the witness times out:
//	    +--------------------------------------------------------+ each of the row failed
type silence struct {
	row     atomic.Uint32 // overtaken attempts since the last answer
	watched atomic.Bool   // there is a witness
	heard   atomic.Bool   // there was an answer since it went on
}

// answered is for any head of a response. Most of the time it only looks.
func (s *silence) answered() {
	if s.row.Load() != 0 {
		s.heard.Store(true)
		s.row.Store(0)
	}
}

// Suspect tells that an attempt was overtaken, as long after it began as others are,
// without a word of the endpoint. When it returns true the attempt is to go on as a
// witness, which ends with Turn.Testify.
func (e *Endpoint) Suspect() (goOn bool) {
	if !e.pool.Key.Policy.Passive.On() {
		return false
	}
	s := &e.silence
	if s.row.Add(1) <= suspectAfter || !s.watched.CompareAndSwap(false, true) {
		return false
	}
	s.heard.Store(false)
	return true
}

// Testify comes before the Release of a witness, and says whether the time for an
// answer has passed.
func (t *Turn) Testify(silent bool) {
	s := &t.Endpoint.silence
	if silent && !s.heard.Load() {
		t.others = s.row.Swap(0)
	}
	s.watched.Store(false)
}
