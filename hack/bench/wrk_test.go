package main

import (
	"strings"
	"testing"
	"time"
)

const wrkOutput = `Running 5s test @ http://127.0.0.1:21004/
  1 threads and 128 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     4.03ms    1.04ms  20.44ms   87.32%
    Req/Sec    31.62k     1.34k   34.05k    50.00%
  Latency Distribution
     50%  980.00us
     75%    4.50ms
     90%    5.20ms
     99%    1.07s 
  157393 requests in 5.03s, 185.39MB read
Requests/sec:  31290.86
Transfer/sec:     36.86MB
`

func TestWrkOutputIsRead(t *testing.T) {
	got, err := parseWrk(wrkOutput)
	want := load{requests: 157393, elapsed: 5030 * time.Millisecond, p50: 980 * time.Microsecond, p99: 1070 * time.Millisecond}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestWrkErrorsAreRead(t *testing.T) {
	out := strings.Replace(wrkOutput, "Requests/sec", "  Socket errors: connect 1, read 20, write 300, timeout 4000\n  Non-2xx or 3xx responses: 7\nRequests/sec", 1)
	got, err := parseWrk(out)
	if err != nil || got.socketErrors != 4321 || got.failures != 7 {
		t.Errorf("got %+v, %v, want 4321 socket errors and 7 failures", got, err)
	}
}

func TestWrkOutputThatSaysNothingIsAnError(t *testing.T) {
	for name, out := range map[string]string{
		"empty":          "",
		"no requests":    strings.Replace(wrkOutput, "157393 requests", "0 requests", 1),
		"no percentiles": strings.ReplaceAll(wrkOutput, "99%", "98%"),
		"a strange unit": strings.Replace(wrkOutput, "1.07s", "1.07u", 1),
		"cannot connect": "unable to connect to 127.0.0.1:1 Connection refused\n",
	} {
		if got, err := parseWrk(out); err == nil {
			t.Errorf("%s: got %+v and no error", name, got)
		}
	}
}
