package http1

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// vector is a payload that others have published with their verdict: llhttp,
// the parser of Node.js, and AWS' http-desync-guardian.
type vector struct {
	Source  string `json:"src"`
	ID      string `json:"id"`
	Desc    string `json:"desc"`
	Expect  string `json:"expect"`
	Payload string `json:"payload"`
	Mode    string `json:"mode"`
}

func readVectors(t testing.TB) []vector {
	t.Helper()
	data, err := os.ReadFile("testdata/requests.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(data, &vectors); err != nil {
		t.Fatal(err)
	}
	return vectors
}

func (v *vector) bytes(t testing.TB) []byte {
	t.Helper()
	b, err := hex.DecodeString(v.Payload)
	if err != nil {
		t.Fatal(v.ID, err)
	}
	return b
}

// withHost puts a Host into requests that have none, so that it is not for the
// want of it that they are refused.
func withHost(b []byte) []byte {
	if bytes.Contains(bytes.ToLower(b), []byte("host")) {
		return b
	}
	return bytes.ReplaceAll(b, []byte(" HTTP/1.1\r\n"), []byte(" HTTP/1.1\r\nHost: h\r\n"))
}

// exchange is a request that was taken off a connection.
type exchange struct {
	head []byte // as forwarded
	body []byte // as forwarded
}

// serve takes requests off a client connection that sends b and then nothing
// more, as a proxy does that forwards each and answers it. err is what the
// client got wrong; cut says that its last request is incomplete.
func serve(b []byte) (exchanges []exchange, cut bool, err error) {
	for len(b) > 0 {
		var r Request
		n, err := ParseRequest(b, nil, &r)
		if n == 0 {
			return exchanges, true, err
		}
		e := exchange{head: forwarded(&r)}
		b = b[n:]
		switch {
		case r.Chunked:
			var c Chunked
			c.Reset(false, 4<<10)
			out, n, done, err := c.Scan(b)
			if !done {
				return exchanges, true, err
			}
			e.body, b = bytes.Clone(out), b[n:]
		case r.ContentLength > 0:
			if r.ContentLength > int64(len(b)) {
				return exchanges, true, nil
			}
			e.body, b = b[:r.ContentLength], b[r.ContentLength:]
		}
		exchanges = append(exchanges, e)
		if r.Close || r.Upgrade != nil {
			break // what follows is no request
		}
	}
	return exchanges, false, nil
}

// Vectors whose authors refuse them, or call them ambiguous, and which are
// taken here all the same, each with its reason.
var takenAllTheSame = map[string]string{
	"llhttp connection#3": "the second request follows one that ends the connection: it is never looked at",
	"llhttp connection#4": "the second request follows one that ends the connection: it is never looked at",
	"llhttp invalid#4":    "llhttp has a list of methods; a proxy forwards others too (RFC 9110 9.1)",
	"llhttp invalid#14":   "llhttp has a list of methods; a proxy forwards others too (RFC 9110 9.1)",

	"desync-guardian ambiguous#7":            "a name with '_' is dropped, so no reader can mistake it for Transfer-Encoding",
	"desync-guardian ambiguous#8":            "a name with '_' is dropped, so no reader can mistake it for Content-Length",
	"desync-guardian ambiguous#31":           "a name with '_' is dropped, so no reader can mistake it for Transfer-Encoding",
	"desync-guardian ambiguous#30":           "Transfer---Encoding is a good name, of no field that means anything",
	"desync-guardian ambiguous#9":            "of identical lengths one is forwarded (RFC 9112 6.3)",
	"desync-guardian real-life-test-cases#3": "of identical lengths one is forwarded (RFC 9112 6.3)",
	"desync-guardian real-life-test-cases#0": "a GET may have a body, and its length is forwarded (RFC 9110 9.3.1)",
	"desync-guardian real-life-test-cases#1": "a GET may have a body, and its framing is forwarded (RFC 9110 9.3.1)",
	"desync-guardian ambiguous#12":           "a GET may have a body, and its length is forwarded (RFC 9110 9.3.1)",
	"desync-guardian ambiguous#13":           "a GET may have a body, and its framing is forwarded (RFC 9110 9.3.1)",
	"desync-guardian ambiguous#14":           "a HEAD may have a body, and its length is forwarded (RFC 9110 9.3.2)",
	"desync-guardian ambiguous#15":           "a HEAD may have a body, and its framing is forwarded (RFC 9110 9.3.2)",
}

// mustRefuse says whether the authors' strict verdict on a vector is no: that
// of a lenient mode is that strictness would refuse.
func (v *vector) mustRefuse() bool {
	switch v.Expect {
	case "llhttp-reject", "dg-Severe", "dg-Ambiguous":
		return true
	}
	return strings.HasPrefix(v.Mode, "request-lenient")
}

func TestVectorsThatTheirAuthorsRefuseAreRefused(t *testing.T) {
	counts := map[string]int{}
	for _, v := range readVectors(t) {
		name := v.Source + " " + v.ID
		_, _, err := serve(withHost(v.bytes(t)))
		reason, excused := takenAllTheSame[name]
		switch {
		case excused && (err != nil || !v.mustRefuse()):
			t.Errorf("%s needs no excuse (%v): %s", name, err, reason)
		case v.mustRefuse() && err != nil:
			counts["refused by both"]++
		case v.mustRefuse() && excused:
			counts["refused by its authors, accepted here with a reason"]++
		case v.mustRefuse():
			t.Errorf("%s (%s, %s) is accepted: %q", name, v.Desc, v.Expect, v.bytes(t))
		case err != nil:
			counts["accepted by its authors, refused here"]++
			t.Logf("%s (%s): %v", name, v.Desc, err)
		default:
			counts["accepted by both"]++
		}
	}
	t.Log(counts)
}

func TestNoReaderFindsTwoRequestsInOneOfTheVectors(t *testing.T) {
	forwards := 0
	for _, v := range readVectors(t) {
		for _, payload := range [][]byte{v.bytes(t), withHost(v.bytes(t))} {
			forwards += checkReaders(t, payload)
		}
	}
	t.Logf("%d requests forwarded", forwards)
}
