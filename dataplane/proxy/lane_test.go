package proxy

import (
	"runtime"
	"testing"
	"time"
	"weak"
)

// An attempt that went on as a witness was held for two minutes after its end, by the
// timer that was to end it, and with it all that its exchange has: where endpoints are
// slow, and there are many witnesses, that was a lot.
func TestAnAttemptThatHasEndedIsHeldByNobody(t *testing.T) {
	p := &Proxy{}
	held := func() weak.Pointer[lane] {
		l := &lane{ex: newExchange(p)}
		l.overtake()
		l.settle(ReasonResponseHeaderTimeout, failure{})
		return weak.Make(l)
	}()
	for began := time.Now(); held.Value() != nil; runtime.GC() {
		if time.Since(began) > 10*time.Second {
			t.Fatal("it is held")
		}
		time.Sleep(time.Millisecond) // so that the scheduler looks at its timers
	}
}
